"""The archive as a named actor on the cluster's head: the one process that writes a run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from raynas.archive import Archive, wait_until_free
from raynas.files import place
from raynas.run import Contents, read
from raynas.trial import Job, Trial

NAMESPACE = "raynas"
UNCHECKED = 32  # proposals on their way

Entry = tuple[Job | Trial, bytes | None]


class ArchiveActor:
    """Serves one archive to all trials of a run.

    Calls that arrive while the disk is busy are committed together: whoever gets the lock next
    writes everything that waits, with one fsync.
    """

    def __init__(self, run: str) -> None:
        self._archive = Archive(place(run))
        self._waiting: list[Entry] = []
        self._disk = asyncio.Lock()
        self._files = asyncio.Lock()  # one writer each, in the order of the calls

    async def append(self, entry: Entry) -> None:
        self._waiting.append(entry)
        async with self._disk:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._archive.append, batch)
            except BaseException:
                self._waiting = batch + self._waiting  # nobody may believe that it was kept
                raise

    async def wants_weights(self, trial: Trial) -> bool:
        return self._archive.wants_weights(trial)

    async def find(self, number: int) -> Trial | None:
        return self._archive.find(number)

    async def contents(self) -> Contents:
        async with self._disk:
            return await asyncio.to_thread(read, self._archive.run, self._archive.info.space)

    async def cached(self, name: str) -> bytes | None:
        async with self._files:
            return await asyncio.to_thread(self._archive.cached, name)

    async def cache(self, name: str, data: bytes) -> None:
        async with self._files:
            await asyncio.to_thread(self._archive.cache, name, data)

    async def close(self) -> None:
        async with self._disk:
            await asyncio.to_thread(self._archive.close)


@dataclass
class RemoteArchive:
    """The actor behind the same calls as the archive itself; it holds a name, not a handle.

    A handle would go stale when the actor is restarted elsewhere, and could not be pickled into
    Tune's own state.
    """

    name: str
    _sent: list[Any] = field(default_factory=list, repr=False)

    def propose(self, job: Job) -> None:
        """Sends a proposal without waiting: it arrives before anything that is sent later.

        A failure to keep it is raised by one of the next calls.
        """
        self._sent.append(self._actor.append.remote((job, None)))
        if len(self._sent) >= UNCHECKED:
            self.check()

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

    def close(self) -> None:
        """Rolls everything into Parquet and ends the actor."""
        self.check()
        ray.get(self._actor.close.remote())
        ray.kill(self._actor)

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "_sent": []}

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
    """
    name = f"archive:{run.resolve()}"
    try:
        _ACTORS[name] = ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        wait_until_free(run)
        head = {"node:__internal_head__": 0.001}
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, resources=head)
        _ACTORS[name] = (
            actor(ArchiveActor)
            .options(name=name, namespace=NAMESPACE, lifetime="detached")
            .remote(str(run.resolve()))
        )
    return RemoteArchive(name)
