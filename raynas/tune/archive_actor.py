"""The archive as a named actor on the cluster's head: the one process that writes a run."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ray

from raynas.archive import Archive, wait_until_free
from raynas.disk import on_disk
from raynas.errors import UserError
from raynas.files import place
from raynas.lock import DYING, written
from raynas.patience import Patience
from raynas.remote import StoreError
from raynas.run import ArchiveError, Contents, read
from raynas.trial import Job, Trial

NAMESPACE = "raynas"
ANSWER = 5.0  # seconds within which the archive says how it is
SILENT = 5.0  # seconds after which a process that searches is taken for dead; it calls each second
ALONE = 600.0  # seconds without any call after which nobody will go on with the search
DRIVER = uuid.uuid4().hex  # this process, among those that search
AT_ONCE = 10_000  # calls that may wait for the disk while others are answered
LOOK = 0.5  # seconds between two looks whether what has to be ended waits for the disk

_log = logging.getLogger(__name__)

Entry = tuple[Job | Trial, bytes | None]


class ArchiveActor:
    """Serves one archive to all trials of a run.

    Calls that arrive while the disk is busy are committed together: whoever gets the lock next
    writes everything that waits, with one fsync. An actor that is started again while its disk is
    full or its store is away waits like any other write; only `trouble` answers meanwhile.

    It outlives the process that searches, so that this may be started again; but one process at a
    time, and not for ever: after ALONE seconds without a call it lets go of the run.
    """

    def __init__(self, run: str) -> None:
        self._run = place(run)
        self._patience = Patience()
        self._archive: Archive | None = None
        self._left = False  # it let go of the run: only `open` takes it again
        self._waiting: list[Entry] = []
        self._disk = asyncio.Lock()
        self._files = asyncio.Lock()  # one writer each, in the order of the calls
        self._opening = asyncio.Lock()
        self._driver, self._heard = "", 0.0  # who searches, and when that was last heard of
        self._called = time.monotonic()
        self._guard: asyncio.Task[None] | None = None

    async def open(self, driver: str) -> None:
        """Returns when the run is recovered, for the only process that searches.

        Raises:
            ArchiveError: it is no run, or somebody else writes it.
            StoreError: it cannot be opened now.
        """
        self._was_called()
        async with self._opening:
            if self._archive is None:
                self._archive = await asyncio.to_thread(Archive, self._run, DYING, self._patience)
                self._left = False
        until = time.monotonic() + DYING
        while self._driver not in ("", driver) and time.monotonic() - self._heard < SILENT:
            if time.monotonic() > until:
                raise written(self._run)
            await asyncio.sleep(0.25)
        self._driver, self._heard = driver, time.monotonic()

    async def append(self, entry: Entry, driver: str = "") -> None:
        """Keeps a trial, or what `driver` proposes.

        Raises:
            ArchiveError: another process searches by now, or writes the run.
        """
        archive = await self._opened()
        if driver and not self._heard_of(driver):
            raise written(self._run)  # its numbers are those of other designs now
        self._waiting.append(entry)
        async with self._disk:
            if self._archive is not archive:
                raise _let_go_of(self._run)
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(archive.append, batch)
            except ArchiveError:
                await self._leave()
                raise
            except BaseException:
                self._waiting = batch + self._waiting  # nobody may believe that it was kept
                raise

    async def wants_weights(self, trial: Trial) -> bool:
        return (await self._opened()).wants_weights(trial)

    async def find(self, number: int) -> Trial | None:
        archive = await self._opened()
        return await asyncio.to_thread(archive.find, number)

    async def contents(self) -> Contents:
        archive = await self._opened()
        async with self._disk:
            given = partial(read, archive.run, archive.info.space)
            return await asyncio.to_thread(self._patience, given)

    async def cached(self, name: str) -> bytes | None:
        archive = await self._opened()
        async with self._files:
            return await asyncio.to_thread(archive.cached, name)

    async def cache(self, name: str, data: bytes) -> None:
        archive = await self._opened()
        async with self._files:
            await asyncio.to_thread(archive.cache, name, data)

    async def show(self, now: bytes) -> None:
        archive = await self._opened()
        await asyncio.to_thread(archive.show, now)

    async def trouble(self, driver: str = "") -> str:
        self._was_called()
        if driver:
            self._heard_of(driver)
        return self._patience.trouble

    async def close(self, driver: str = "") -> bool:
        """Lets go of the run; what still waits for the disk was not acknowledged, and fails.

        Returns:
            False if this did nothing, as another process than `driver` searches by now.
        """
        if driver and not self._heard_of(driver):
            return False
        ending = asyncio.create_task(self._end_waiting())
        try:
            async with self._opening, self._disk, self._files:
                ending.cancel()
                await self._leave()
                self._driver = ""
        finally:
            ending.cancel()
        return True

    async def _end_waiting(self) -> None:
        while True:  # a first try that is still under way has no trouble yet
            if self._patience.trouble:
                self._patience.end()
            await asyncio.sleep(LOOK)

    async def _leave(self) -> None:
        """So that it can be opened again, by a driver that finds this actor alive."""
        archive, self._archive, self._left = self._archive, None, True
        self._waiting = []
        self._patience, ended = Patience(), self._patience
        try:
            if archive is not None:
                await asyncio.to_thread(archive.close)
        finally:
            ended.end()

    def _heard_of(self, driver: str) -> bool:
        """Whether it is the one that searches: in an actor that was restarted, the first that is
        heard of."""
        if self._driver not in ("", driver):
            return False
        self._driver, self._heard = driver, time.monotonic()
        return True

    async def _opened(self) -> Archive:
        self._was_called()
        if self._archive is None:
            async with self._opening:
                if self._left:
                    raise _let_go_of(self._run)
                if self._archive is None:
                    self._archive = await asyncio.to_thread(self._patience, self._recovered)
        return self._archive

    def _recovered(self) -> Archive:
        with on_disk(self._run, writing=True):
            (self._run / "run.json").read_bytes()  # it was there: else its folder is away
        return Archive(self._run, DYING, self._patience)

    def _was_called(self) -> None:
        self._called = time.monotonic()
        if self._guard is None:
            self._guard = asyncio.create_task(self._leave_when_alone())

    async def _leave_when_alone(self) -> None:
        while (left := self._called + ALONE - time.monotonic()) > 0:
            await asyncio.sleep(left)
        try:
            await self.close()
        finally:
            ray.kill(ray.get_runtime_context().current_actor)


@dataclass
class RemoteArchive:
    """The actor behind the same calls as the archive itself; it holds a name, not a handle.

    A handle would go stale when the actor is restarted elsewhere, and could not be pickled into
    Tune's own state.
    """

    name: str
    _sent: list[Any] = field(default_factory=list, repr=False)
    _shown: list[Any] = field(default_factory=list, repr=False)

    def propose(self, job: Job) -> None:
        """Sends a proposal without waiting: it arrives before anything that is sent later.

        A failure to keep it is raised by one of the next calls.
        """
        self._sent.append(self._actor.append.remote((job, None), DRIVER))
        # Without waiting for a disk that is full, say.
        done, self._sent = ray.wait(self._sent, num_returns=len(self._sent), timeout=0)
        ray.get(done)

    def check(self) -> None:
        """Raises if a proposal could not be kept."""
        sent, self._sent = self._sent, []
        ray.get(sent)

    def record(self, trial: Trial, weights: bytes | None = None) -> None:
        ray.get(self._actor.append.remote((trial, weights)))

    def wants_weights(self, trial: Trial) -> bool:
        return bool(ray.get(self._actor.wants_weights.remote(trial)))

    def find(self, number: int) -> Trial | None:
        found: Trial | None = ray.get(self._actor.find.remote(number))
        return found

    def contents(self) -> Contents:
        """All jobs and trials so far, as tables."""
        found: Contents = ray.get(self._actor.contents.remote())
        return found

    def cached(self, name: str) -> bytes | None:
        """A file in the run's folder that can be computed again; None if there is none."""
        data: bytes | None = ray.get(self._actor.cached.remote(name))
        return data

    def cache(self, name: str, data: bytes) -> None:
        """Replaces such a file."""
        ray.get(self._actor.cache.remote(name, data))

    def show(self, now: bytes) -> None:
        """Sends what the run shows of the search now, unless the last is still on its way."""
        if not self._shown or ray.wait(self._shown, timeout=0)[0]:
            self._shown = [self._actor.show.remote(now)]

    @property
    def trouble(self) -> str:
        """What keeps the archive from writing now, and that it waits; '' when all is well."""
        try:
            return str(ray.get(self._actor.trouble.remote(DRIVER), timeout=ANSWER))
        except ray.exceptions.GetTimeoutError:
            return f"The archive has not answered for {ANSWER:g} s; calls to it wait."

    def close(self) -> None:
        """Rolls everything into Parquet and ends the actor, unless another process uses it."""
        ours = True
        try:
            ours = ray.get(self._actor.close.remote(DRIVER))
            self.check()  # only now, as until then they may wait for the disk
        except StoreError as error:
            said = getattr(error, "cause", error)  # without Ray's account of where it was raised
            _log.warning("%s What was being proposed is proposed again by `raynas resume`.", said)
        finally:
            if ours:
                ray.kill(self._actor)

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "_sent": [], "_shown": []}

    @property
    def _actor(self) -> Any:
        cached = _ACTORS.get(self.name)
        if cached is None:
            cached = _ACTORS[self.name] = ray.get_actor(self.name, namespace=NAMESPACE)
        return cached


_ACTORS: dict[str, Any] = {}  # handles of this process; Ray follows an actor through its restarts


def start(run: Path) -> RemoteArchive:
    """Starts the archive actor of a run on the head node, or finds the one that serves it.

    Raises:
        ArchiveError: another search is writing the run.
        StoreError: it cannot be opened, as the disk is full or the store does not answer.
    """
    name = f"archive:{run.resolve()}"
    if not _serves(name):
        wait_until_free(run)
        head = {"node:__internal_head__": 0.001}
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, resources=head)
        named = actor(ArchiveActor).options(
            name=name, namespace=NAMESPACE, lifetime="detached", max_concurrency=AT_ONCE
        )
        try:
            _ACTORS[name] = named.remote(str(run.resolve()))
        except ValueError:  # somebody else started one just now: there is one of a name
            raise written(run) from None
        try:
            ray.get(_ACTORS[name].open.remote(DRIVER))
        except (UserError, OSError):
            RemoteArchive(name).close()
            raise
    return RemoteArchive(name)


def _let_go_of(run: Path) -> ArchiveError:
    return ArchiveError(f"{run} was let go of by its archive actor; `raynas resume` goes on.")


def _serves(name: str) -> bool:
    """Whether an actor of this name is there and at nobody else's service."""
    try:
        _ACTORS[name] = ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return False
    try:
        ray.get(_ACTORS[name].open.remote(DRIVER))
    except ray.exceptions.RayActorError:  # it is just ending
        return False
    return True
