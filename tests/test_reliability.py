"""Disks that are full, places that are away, processes that die: nothing acknowledged is lost."""

import asyncio
import errno
import fcntl
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

import raynas
from raynas import archive as archive_module
from raynas import files, lock, patience, tables
from raynas.archive import Archive, being_written
from raynas.continuing import continue_with_feedback
from raynas.disk import DiskError
from raynas.remote import StoreError
from raynas.result import load
from raynas.run import ArchiveError, parts, read
from tests.spaces import CELL, TREE, score
from tests.test_archive import info, job, trial
from tests.test_storage import bucket, soon  # noqa: F401

ROOT = Path(__file__).parents[1]
TWO = {"objectives": ["accuracy:max", "params:min"]}


@pytest.fixture(autouse=True)
def _hurried(monkeypatch):
    monkeypatch.setattr(patience, "FIRST", 0.02)
    monkeypatch.setattr(patience, "LONGEST", 0.05)


@pytest.fixture
def run(tmp_path):
    info().write(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def pool():
    with ThreadPoolExecutor() as threads:
        yield threads


class Disk:
    """Fails as it is told: nothing can be made durable on it."""

    def __init__(self, monkeypatch):
        self.fault = None
        real = os.fsync

        def fsync(handle):
            if self.fault is not None:
                raise OSError(self.fault, os.strerror(self.fault))
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def kept(run):
    found = read(run, TREE)
    jobs, trials = tables.jobs_from(found.proposals), tables.trials_from(found.trials)
    return sorted(j.number for j in jobs), sorted(t.number for t in trials)


def rows(run, folder="trials"):
    """As they stand in Parquet, whatever readers make of it."""
    return sorted(n for p in parts(run / folder) for n in files.read_table(p)["number"].to_pylist())


FAULTS = [errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EIO, errno.EACCES]


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("what", ["entry", "weights", "cache"])
def test_a_write_waits_for_its_disk_and_goes_on(run, disk, pool, fault, what):
    archive = Archive(run)
    archive.record(trial(0))
    disk.fault = fault
    if what == "cache":
        writing = pool.submit(archive.cache, "controller.safetensors", b"state")
    else:
        weights = b"weights" if what == "weights" else None
        writing = pool.submit(archive.record, trial(1, 0.9), weights)
    soon(lambda: archive.trouble)
    time.sleep(0.1)
    assert not writing.done()  # nothing is acknowledged meanwhile
    said = archive.trouble
    assert os.strerror(fault) in said
    assert str(run) in said
    assert "Nothing is lost: it is tried again by itself, for 0 s now." in said
    if fault in (errno.ENOSPC, errno.EDQUOT):
        assert "Make room there." in said
    assert 0 in kept(run)[1]  # others read
    disk.fault = None
    writing.result(5)
    assert archive.trouble == ""
    archive.close()
    expected = [0] if what == "cache" else [0, 1]
    assert kept(run)[1] == expected == rows(run)
    assert "torn" not in str(read(run, TREE).notes)
    assert (run / "models/1.safetensors").exists() == (what == "weights")


class Torn:
    """A file of a server that goes away in the middle of a line."""

    def __init__(self, file):
        self._file = file

    def write(self, line):
        self._file.write(bytes(line)[:20])
        raise OSError(errno.ESTALE, "Stale file handle")

    def truncate(self, size):
        raise OSError(errno.ESTALE, "Stale file handle")

    def close(self):
        self._file.close()


def test_a_line_that_was_torn_is_taken_back_when_the_log_is_there_again(run):
    archive = Archive(run)
    archive.record(trial(0))
    archive._log._file = Torn(archive._log._file)
    archive.record(trial(1))
    archive.record(trial(2))
    lines = next((run / "log").glob("*.jsonl")).read_bytes().splitlines()
    assert [json.loads(line)[1]["number"] for line in lines] == [0, 1, 2]
    archive.close()


def test_what_cannot_pass_is_not_waited_for(run, disk):
    archive = Archive(run)
    disk.fault = errno.EINVAL
    with pytest.raises(OSError, match="Invalid argument"):
        archive.record(trial(0))
    disk.fault = None
    archive.close()


def test_a_roll_that_fails_holds_nobody_up(run, disk, monkeypatch, caplog):
    monkeypatch.setattr(archive_module, "ROLL_SECONDS", 0.0)
    archive = Archive(run)
    with monkeypatch.context() as patch:
        patch.setattr(archive_module, "_extend", full)
        archive.record(trial(0))
        archive.propose(job(1))
        assert "No space left on device" in archive.trouble
        assert rows(run) == []
        assert kept(run) == ([1], [0])
    archive.record(trial(2))
    assert archive.trouble == ""
    assert rows(run) == [0, 2]
    assert "It goes on after" in caplog.text
    archive.close()


def full(*_):
    with files.on_disk(Path("trials"), writing=True):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_write_that_was_done_although_it_failed_is_not_done_twice(run, monkeypatch):
    archive = Archive(run)
    archive.record(trial(0))
    archive.propose(job(0))
    real, failing = files.keep_names, iter([1, 1, 1, 1])

    def keep_names(folder):  # the file has its name, and nobody can say whether it stays
        real(folder)
        if folder.name != "log" and next(failing, 0):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "keep_names", keep_names)
    archive.close()
    assert rows(run) == [0] == rows(run, "proposals")


def test_closing_does_not_wait_for_long_and_the_log_keeps_it_all(run, monkeypatch, caplog):
    monkeypatch.setattr(archive_module, "CLOSING", 0.1)
    archive = Archive(run)
    archive.record(trial(0))
    with monkeypatch.context() as patch:
        patch.setattr(archive_module, "_extend", full)
        archive.close()
    assert "Nothing is lost: `raynas resume` goes on from the log." in caplog.text
    assert not being_written(run)
    assert kept(run)[1] == [0]
    Archive(run).close()
    assert rows(run) == [0]


def test_opening_on_a_full_disk_says_so_and_lets_go(run, disk):
    Archive(run).close()
    disk.fault = errno.ENOSPC
    with pytest.raises(DiskError, match=r"cannot be written: No space left on device. Make room"):
        Archive(run)
    disk.fault = None
    Archive(run, wait=0.0).close()


def test_closing_ends_the_waiting_of_others(run, disk, pool):
    archive = Archive(run)
    disk.fault = errno.ENOSPC
    writing = pool.submit(archive.record, trial(0))
    soon(lambda: archive.trouble)
    archive.stop_waiting()
    with pytest.raises(StoreError, match="No space left"):
        writing.result(5)
    disk.fault = None
    archive.close()
    assert kept(run)[1] == []


@pytest.mark.parametrize("fault", [errno.ESTALE, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_a_folder_that_cannot_be_listed_is_not_empty(run, monkeypatch, fault):
    archive = Archive(run)
    archive.record(trial(0))
    archive.close()
    real = os.listdir, os.scandir

    def refusing(which):
        def listing(place=".", *rest):
            if str(place).endswith("trials"):
                raise OSError(fault, os.strerror(fault))
            return real[which](place, *rest)

        return listing

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refusing(0))
        patch.setattr(os, "scandir", refusing(1))
        with pytest.raises(StoreError, match="cannot be read"):
            Archive(run)
        with pytest.raises(StoreError, match="cannot be read"):
            load(run)
    assert kept(run)[1] == [0]


def test_a_part_that_cannot_be_read_now_is_not_broken(run, monkeypatch):
    archive = Archive(run)
    archive.record(trial(0))
    archive.close()

    def away(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("raynas.files.pq.read_table", away)
        with pytest.raises(StoreError, match="cannot be read: Input/output error"):
            Archive(run)
    assert [p.name for p in (run / "trials").iterdir()] == ["part-000001.parquet"]
    Archive(run).close()
    assert kept(run)[1] == [0]


def test_a_folder_that_is_away_for_a_while(run, pool):
    archive = Archive(run)
    archive.record(trial(0))
    run.rename(run.with_name("away"))
    writing = pool.submit(archive.record, trial(1), b"weights")
    soon(lambda: archive.trouble)
    assert "See to it that the folder is there" in archive.trouble
    assert not run.exists()  # nothing is begun anew in its place
    run.with_name("away").rename(run)
    writing.result(5)
    archive.close()
    assert rows(run) == [0, 1]


def test_who_took_over_a_folder_that_was_away_is_left_alone(run, monkeypatch):
    monkeypatch.setattr(lock, "SETTLED", 0.05)
    archive = Archive(run)
    (run / "log/lock").unlink()
    with (run / "log/lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ArchiveError, match="was taken over by another process"):
            archive.record(trial(0))
        with pytest.raises(ArchiveError, match="was let go of by this process"):
            archive.close()
    archive = Archive(run)
    (run / "log/lock").unlink()  # somebody thought that it was in the way
    archive.record(trial(1))
    assert being_written(run)
    archive.close()


def test_whether_a_run_is_written_may_be_asked_by_whoever_can_only_read(run, monkeypatch):
    real = Path.open

    def read_only(self, mode="r", *rest, **more):
        if set(mode) & set("wa+"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(self, mode, *rest, **more)

    archive = Archive(run)
    monkeypatch.setattr(Path, "open", read_only)
    assert being_written(run)
    monkeypatch.undo()
    archive.close()
    monkeypatch.setattr(Path, "open", read_only)
    assert not being_written(run)


def test_late_and_duplicate_results_are_harmless(run):
    archive = Archive(run)
    archive.append([(trial(0, 0.5), b"first"), (trial(0, 0.9), b"late"), (job(0), None)])
    archive.append([(job(0), None), (trial(0, 0.9), b"later")])
    assert (run / "models/0.safetensors").read_bytes() == b"first"
    archive.close()
    late = Archive(run)
    late.record(trial(0, 0.9), b"later still")
    late.close()
    assert rows(run) == [0] == rows(run, "proposals")
    assert list(tables.trials_from(read(run, TREE).trials)) == [trial(0, 0.5)]
    assert (run / "models/0.safetensors").read_bytes() == b"first"


def test_the_archive_actor_answers_while_it_waits(run, disk):
    from raynas.tune.archive_actor import ArchiveActor

    async def story():
        actor = ArchiveActor(str(run))
        await actor.open("me")
        await actor.append((trial(0), None))
        disk.fault = errno.ENOSPC
        waiting = [asyncio.create_task(actor.append((trial(n), None))) for n in (1, 2, 3)]
        while not (said := await actor.trouble()):
            await asyncio.sleep(0.01)
        assert "No space left on device" in said
        assert (await actor.find(0)).number == 0
        assert not any(task.done() for task in waiting)
        disk.fault = None
        await asyncio.wait_for(asyncio.gather(*waiting), 5)
        assert await actor.trouble() == ""
        disk.fault = errno.ENOSPC
        never = asyncio.create_task(actor.append((trial(4), None)))
        while not await actor.trouble():
            await asyncio.sleep(0.01)
        await actor.close()  # as on Ctrl-C
        with pytest.raises(StoreError):
            await never

    monkey = pytest.MonkeyPatch()
    monkey.setattr(archive_module, "CLOSING", 0.1)
    asyncio.run(story())
    monkey.undo()
    disk.fault = None
    assert kept(run)[1] == [0, 1, 2, 3]


def test_an_archive_actor_that_is_started_again_waits_for_its_disk(run, disk):
    from raynas.tune.archive_actor import ArchiveActor

    first = Archive(run)
    first.record(trial(0))
    first._log.close()
    first._lock.close()  # as of a process that died: nothing was rolled
    disk.fault = errno.ENOSPC

    async def story():
        with pytest.raises(StoreError, match="No space left"):  # a person is told at once
            await ArchiveActor(str(run)).open("me")
        run.rename(run.with_name("away"))
        actor = ArchiveActor(str(run))
        task = asyncio.create_task(actor.append((trial(1), None)))
        while "No such file" not in await actor.trouble():
            await asyncio.sleep(0.01)
        run.with_name("away").rename(run)
        while "No space left" not in await actor.trouble():
            await asyncio.sleep(0.01)
        disk.fault = None
        await asyncio.wait_for(task, 5)
        await actor.close()

    asyncio.run(story())
    assert rows(run) == [0, 1]


def test_one_process_at_a_time_uses_the_archive_actor(run, monkeypatch):
    from raynas.tune import archive_actor

    monkeypatch.setattr(archive_actor, "SILENT", 0.3)
    monkeypatch.setattr(archive_actor, "DYING", 0.5)

    async def story():
        actor = archive_actor.ArchiveActor(str(run))
        await actor.open("first")
        await actor.open("first")

        async def live():
            while True:
                await actor.trouble("first")
                await asyncio.sleep(0.05)

        living = asyncio.create_task(live())
        with pytest.raises(ArchiveError, match="is being written by another process"):
            await actor.open("second")
        living.cancel()  # killed: the next one takes its place
        await actor.open("second")
        await actor.trouble("first")  # one that was cut off, and lives
        await asyncio.sleep(0.4)
        await actor.open("third")
        await actor.close()

    asyncio.run(story())


def test_an_archive_actor_that_nobody_calls_lets_go_of_the_run(run, monkeypatch):
    from raynas.tune import archive_actor

    ended = []
    monkeypatch.setattr(archive_actor, "ALONE", 0.3)
    monkeypatch.setattr(archive_actor.ray, "kill", ended.append)
    monkeypatch.setattr(archive_actor.ray, "get_runtime_context", lambda: Here)

    class Here:
        current_actor = "this one"

    async def story():
        actor = archive_actor.ArchiveActor(str(run))
        await actor.append((trial(0), None))
        for _ in range(8):
            await asyncio.sleep(0.05)
            await actor.trouble()
        assert being_written(run)
        await asyncio.sleep(0.6)

    asyncio.run(story())
    assert ended == ["this one"]
    assert not being_written(run)
    assert rows(run) == [0]


def test_an_actor_that_was_restarted_knows_its_driver_by_the_first_call(run, monkeypatch):
    from raynas.tune import archive_actor

    monkeypatch.setattr(archive_actor, "SILENT", 0.3)
    monkeypatch.setattr(archive_actor, "DYING", 0.5)

    async def story():
        actor = archive_actor.ArchiveActor(str(run))  # as Ray starts it again: nobody opens it

        async def live():
            while True:
                await actor.trouble("first")
                await asyncio.sleep(0.05)

        living = asyncio.create_task(live())
        await actor.append((job(0), None), "first")
        with pytest.raises(ArchiveError, match="is being written by another process"):
            await actor.open("second")
        living.cancel()
        await actor.close()

    asyncio.run(story())


def test_a_driver_that_was_overtaken_proposes_no_more_and_ends_nothing(run, monkeypatch):
    from raynas.tune import archive_actor

    monkeypatch.setattr(archive_actor, "SILENT", 0.1)

    async def story():
        actor = archive_actor.ArchiveActor(str(run))
        await actor.open("first")
        await actor.append((job(0), None), "first")
        await asyncio.sleep(0.2)  # stopped for longer than SILENT
        await actor.open("second")
        await actor.append((job(1), None), "second")
        with pytest.raises(ArchiveError, match="is being written by another process"):
            await actor.append((job(2), None), "first")
        await actor.append((trial(0), None))  # a worker's: it is welcome
        assert not await actor.close("first")
        await actor.append((trial(1), None))
        assert await actor.close("second")

    asyncio.run(story())
    assert kept(run) == ([0, 1], [0, 1])


def test_an_actor_that_let_go_of_the_run_is_opened_again(run, disk, monkeypatch):
    from raynas.tune import archive_actor

    monkeypatch.setattr(archive_module, "CLOSING", 0.1)
    monkeypatch.setattr(archive_actor, "LOOK", 0.02)

    async def story():
        actor = archive_actor.ArchiveActor(str(run))
        await actor.open("first")
        disk.fault = errno.ENOSPC
        never = asyncio.create_task(actor.append((job(0), None)))
        while not await actor.trouble():
            await asyncio.sleep(0.01)
        assert await actor.close("first")  # and its driver dies before it ends the actor
        assert not being_written(run)
        with pytest.raises(StoreError):
            await never
        with pytest.raises(ArchiveError, match="let go of by its archive actor"):
            await actor.append((trial(0), None))  # too late
        disk.fault = None
        await asyncio.wait_for(actor.open("second"), 1)
        disk.fault = errno.ENOSPC
        waiting = asyncio.create_task(actor.append((trial(1), None)))
        while not await actor.trouble():
            await asyncio.sleep(0.01)
        assert not waiting.done()  # as patient as before
        disk.fault = None
        await waiting
        actor._archive._lock.close()  # as of one that was taken over
        with pytest.raises(ArchiveError, match="let go of by this process"):
            await actor.append((trial(2), None))
        await asyncio.wait_for(actor.open("third"), 10)
        await actor.append((trial(3), None))
        await actor.close()

    monkeypatch.setattr(archive_actor, "SILENT", 0.1)
    asyncio.run(story())
    assert kept(run)[0] == []
    assert {1, 3} <= set(kept(run)[1])


def test_an_archive_actor_closes_also_when_its_disk_fails_only_then(run, monkeypatch):
    from raynas.tune import archive_actor

    monkeypatch.setattr(archive_module, "CLOSING", 0.1)
    monkeypatch.setattr(archive_actor, "LOOK", 0.02)
    failing = threading.Event()

    def slow(handle):
        failing.wait(5)
        raise OSError(errno.EIO, "Input/output error")

    async def story():
        actor = archive_actor.ArchiveActor(str(run))
        await actor.open("me")
        monkeypatch.setattr(os, "fsync", slow)
        writing = asyncio.create_task(actor.append((job(0), None)))
        await asyncio.sleep(0.05)  # its first try is under way
        closing = asyncio.create_task(actor.close())
        await asyncio.sleep(0.05)
        assert await actor.trouble() == ""
        failing.set()
        await asyncio.wait([closing], timeout=2)
        ended = closing.done()
        actor._patience.end()  # else this would not end either
        with pytest.raises(StoreError):
            await writing
        await closing
        assert ended

    asyncio.run(story())


class Cluster:
    """Calls an archive actor as Ray does, in a thread; notes whom it is to kill."""

    exceptions = None

    def __init__(self, actor):
        self.actor, self.killed = actor, []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def end(self):
        self.get(asyncio.run_coroutine_threadsafe(self.cancel(), self.loop))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    async def cancel(self):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def __getattr__(self, name):
        call = getattr(self.actor, name)

        class Method:
            @staticmethod
            def remote(*given):
                return asyncio.run_coroutine_threadsafe(call(*given), self.loop)

        return Method

    def get(self, sent):
        return [s.result(5) for s in sent] if isinstance(sent, list) else sent.result(5)

    def wait(self, sent, num_returns, timeout):
        return [s for s in sent if s.done()], [s for s in sent if not s.done()]

    def kill(self, actor):
        self.killed.append(actor)


@pytest.fixture
def remote(run, monkeypatch):
    from raynas.tune import archive_actor

    monkeypatch.setattr(archive_module, "CLOSING", 0.1)
    monkeypatch.setattr(archive_actor, "LOOK", 0.02)
    cluster = Cluster(archive_actor.ArchiveActor(str(run)))
    monkeypatch.setattr(archive_actor, "ray", cluster)
    monkeypatch.setitem(archive_actor._ACTORS, "this", cluster)
    yield archive_actor.RemoteArchive("this"), cluster
    cluster.end()


def test_proposals_that_wait_for_the_disk_do_not_keep_a_search_from_its_end(
    run, remote, disk, caplog
):
    archive, cluster = remote
    archive.propose(job(0))
    archive.check()
    disk.fault = errno.ENOSPC
    for number in range(1, 5):
        archive.propose(job(number))
    soon(lambda: cluster.actor._patience.trouble)
    archive.close()
    assert cluster.killed == [cluster]
    assert "What was being proposed is proposed again" in caplog.text
    disk.fault = None
    assert kept(run)[0] == [0]


def test_an_archive_actor_is_ended_also_when_it_cannot_be_closed(run, remote, monkeypatch):
    archive, cluster = remote
    archive.propose(job(0))
    archive.check()
    cluster.actor._archive._lock.close()  # as of one that was taken over
    with pytest.raises(ArchiveError):
        archive.close()
    assert cluster.killed == [cluster]


def test_a_driver_that_was_overtaken_hears_of_it_and_leaves_the_actor_alone(run, remote):
    archive, cluster = remote
    archive.propose(job(0))
    archive.check()
    cluster.actor._driver, numbers = "second", itertools.count(1)
    with pytest.raises(ArchiveError, match="is being written by another process"):
        soon(lambda: archive.propose(job(next(numbers))))
    with suppress(ArchiveError):  # of the last proposal
        archive.close()
    assert cluster.killed == []
    assert being_written(run)
    cluster.get(cluster.close.remote())


@pytest.mark.parametrize("late", ["at the name", "at the run"])
def test_two_that_start_at_the_same_moment(run, monkeypatch, late):
    from raynas.tune import archive_actor

    monkeypatch.setattr(archive_actor, "DYING", 0.1)
    cluster = Cluster(archive_actor.ArchiveActor(str(run)))

    class Named:
        def options(self, **_):
            return self

        def remote(self, _):
            if late == "at the name":
                raise ValueError("The name archive:run is already taken.")
            cluster.get(cluster.open.remote("second"))  # it found the actor before it was opened
            return cluster

    def get_actor(*_, **__):
        raise ValueError("Failed to look up actor")

    cluster.get_actor, cluster.remote = get_actor, lambda **_: lambda _: Named()
    monkeypatch.setattr(archive_actor, "ray", cluster)
    with pytest.raises(ArchiveError, match="is being written by another process"):
        archive_actor.start(run)
    assert cluster.killed == []
    archive_actor._ACTORS.pop(f"archive:{run.resolve()}", None)
    cluster.get(cluster.close.remote())
    cluster.end()


def test_a_search_leaves_its_cluster_also_when_its_archive_cannot_be_closed(tmp_path, monkeypatch):
    from raynas import running

    left, real = [], Archive.close

    def close(archive):
        real(archive)
        if left is not None and archive.run == tmp_path / "run":
            raise ArchiveError("it was taken over")

    monkeypatch.setattr(running.Archive, "close", close)
    monkeypatch.setattr(running._LocalDriver, "disconnect", lambda _: left.append(1))
    with pytest.raises(ArchiveError, match="it was taken over"):
        raynas.search(
            TWO, space=CELL, evaluator=score, run=tmp_path / "run", trials=2, driver="local"
        )
    assert left == [1]


def test_a_trial_is_found_as_soon_as_its_number_is_known(run):
    class Known(set):
        def add(self, number):
            super().add(number)
            found.append(archive.find(number))  # as another thread may at this moment

    found = []
    archive = Archive(run)
    archive._numbers["trials"] = Known()
    archive.record(trial(0))
    assert found == [trial(0)]
    archive.close()


def test_a_checkpoint_is_tried_once_and_only_told_of(run, disk):
    archive = Archive(run)
    disk.fault = errno.ENOSPC
    with pytest.raises(StoreError, match="No space left"):
        archive.cache("checkpoints/0.safetensors", b"weights")
    assert archive.trouble == ""
    disk.fault = None
    archive.cache("checkpoints/0.safetensors", b"weights")
    assert archive.cached("checkpoints/0.safetensors") == b"weights"
    archive.record(trial(0))
    assert not any((run / "checkpoints").iterdir())
    archive.close()


def test_a_checkpoint_that_is_late_leaves_nothing(run, monkeypatch):
    archive = Archive(run)
    real = archive_module.write_atomically

    def write(path, data):
        if path.parent.name == "checkpoints":
            archive.record(trial(0))  # by another thread, while this one writes
        real(path, data)

    monkeypatch.setattr(archive_module, "write_atomically", write)
    archive.cache("checkpoints/0.safetensors", b"weights")
    assert not any((run / "checkpoints").iterdir())
    archive.close()


def test_what_a_killed_writer_left_half_written_is_removed(run):
    archive = Archive(run)
    archive.cache("checkpoints/0.safetensors", b"weights")
    archive.record(trial(1), b"weights")
    archive.close()
    halves = [run / "checkpoints/.0.safetensors.tmp", run / "models/.2.safetensors.tmp"]
    for half in halves:
        half.write_bytes(b"weig")
    Archive(run).close()
    assert not any(half.exists() for half in halves)
    assert (run / "checkpoints/0.safetensors").exists()
    assert (run / "models/1.safetensors").exists()


def test_two_that_look_at_a_cluster_count_a_lost_node_once(monkeypatch):
    from raynas.tune import cluster as module

    def node(name):
        keys = ("NodeID", "NodeName", "NodeManagerAddress", "NodeManagerHostname")
        return {**dict.fromkeys(keys, name), "Alive": True, "Resources": {"CPU": 1.0}}

    asked, seen = threading.Event(), threading.Event()
    both, one = [node("a"), node("b")], [node("a")]
    answers = iter([both, both, one, one])

    def nodes():
        answer = next(answers)
        if threading.current_thread() is slow:
            asked.set()
            seen.wait(0.2)  # its answer is old when it comes
        return answer

    monkeypatch.setattr(module.ray, "nodes", nodes)
    slow = threading.Thread(target=lambda: cluster.look())
    cluster = module.Cluster()
    slow.start()
    asked.wait()
    cluster.look()
    seen.set()
    slow.join()
    cluster.look()
    assert cluster.gone == 1


def test_several_threads_may_print_while_a_trial_begins(monkeypatch):
    from raynas.tune.output import MOST, Output

    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    output, until, wrong = Output(), time.monotonic() + 0.4, []
    pace = sys.getswitchinterval()

    def work(action):
        try:
            while time.monotonic() < until:
                action()
        except IndexError as error:
            wrong.append(error)

    actions = [lambda: output.add("x" * (MOST // 2))] * 3 + [output.clear, lambda: output.tail]
    threads = [threading.Thread(target=work, args=[action]) for action in actions]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(pace)
    assert not wrong
    output.clear()
    assert output.tail is None
    output.add("y" * MOST)
    output.add("the end\n")
    assert output.tail == "y" * (MOST - 8) + "the end"


@pytest.fixture
def small(tmp_path):
    """A disk of 400 kB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_really_full(small, pool, monkeypatch):
    monkeypatch.setattr(archive_module, "ROLL_SECONDS", 0.2)
    run = small / "run"
    info().write(run)
    archive, acknowledged, stop = Archive(run), [], threading.Event()
    archive.show(json.dumps({"trouble": ""}).encode())

    def work():
        for number in range(100_000):
            if stop.is_set():
                return
            archive.record(trial(number, number / 1e5), b"w" * 3000)
            acknowledged.append(number)
            time.sleep(0.001)

    ballast = small / "ballast"
    working = None
    for size in (200_000, 100_000, 50_000):
        ballast.write_bytes(b"x" * size)
        working = working or pool.submit(work)
        soon(lambda: archive.trouble and not grows(acknowledged))
        assert "No space left on device" in archive.trouble
        held = set(kept(run)[1])
        assert held >= set(acknowledged)
        archive.show(json.dumps({"trouble": archive.trouble}).encode())
        assert "No space left" in json.loads((run / "log/now.json").read_bytes())["trouble"]
        assert held <= {*acknowledged, len(acknowledged)}
        before = len(acknowledged)
        ballast.write_bytes(b"")
        soon(lambda n=before: len(acknowledged) > n)
    stop.set()
    working.result(10)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
    archive.close()
    assert kept(run)[1] == acknowledged == rows(run)
    assert not list(run.rglob("*.tmp"))


def grows(some, seconds=0.3):
    before = len(some)
    time.sleep(seconds)
    return len(some) > before


def test_a_search_whose_report_finds_no_room_keeps_its_trials(tmp_path, disk, monkeypatch):
    real = raynas.result.SearchResult.write_claims

    def write_claims(self):
        disk.fault = errno.ENOSPC
        real(self)

    monkeypatch.setattr(raynas.result.SearchResult, "write_claims", write_claims)
    options = {"space": CELL, "evaluator": score, "trials": 12, "driver": "local"}
    result = raynas.search(TWO, run=tmp_path / "run", **options)
    assert len(result.trials) >= 12
    assert "No space left on device. Make room there." in result.notes[-1]
    assert "raynas report" in result.notes[-1]


def benchmark(monkeypatch):
    """The script that kills: its own bookkeeping is tested here, its kills by hand."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import faults

    return faults


def test_the_kills_are_drawn_from_the_seed(monkeypatch):
    import random

    faults = benchmark(monkeypatch)
    kinds = faults.order(100, random.Random(3))
    assert kinds == faults.order(100, random.Random(3)) != faults.order(100, random.Random(4))
    assert {kind: kinds.count(kind) for kind in faults.WEIGHTS} == faults.WEIGHTS
    assert set(faults.order(10, random.Random(0))) <= set(faults.WEIGHTS)


def test_the_kills_notice_what_is_lost_or_doubled(run, tmp_path, monkeypatch):
    faults = benchmark(monkeypatch)
    archive = Archive(run)
    for number in range(4):
        archive.record(trial(number))
    archive.close()
    verdict = faults.Verdict(run, faults.Ledger(tmp_path))

    def acknowledged(number, **change):
        seen = trial(number)
        row = {"number": number, "seed": seen.seed, "started": seen.started_at}
        faults.note(tmp_path / "acknowledged", **{**row, "metrics": dict(seen.metrics), **change})

    for number in (0, 1):
        faults.note(tmp_path / "begun", seed=number + 7)
        acknowledged(number)
    assert verdict.look() == (0, 0)
    acknowledged(2, started=1.0)  # it was evaluated, and somebody else's result is there
    acknowledged(9)  # it is not there
    faults.note(tmp_path / "begun", seed=7)  # evaluated although it was acknowledged
    part = next((run / "trials").iterdir())
    twice = files.read_table(part)
    files.write_table(part.with_name("part-000002.parquet"), twice.slice(1, 1))
    assert verdict.look() == (2, 2)
    assert verdict.lost == {"trial 2 (another stands there)", "trial 9"}
    assert verdict.doubled == {"evaluation of 0", "trials 1"}


@pytest.mark.cluster
def test_a_search_on_a_cluster_outlives_a_worker_a_controller_and_its_driver():
    command = [sys.executable, str(ROOT / "benchmarks/faults.py"), "--kills", "3", "--seed", "5"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "lost: none; doubled: none\nthe search is complete" in told.stdout
    for kind in ("worker", "controller", "driver"):
        assert f"| {kind} | 1 | 0 | 0 |" in told.stdout


@pytest.mark.slow
def test_feedback_on_s3(bucket):  # noqa: F811
    url = f"{bucket}/told"
    options = {"space": CELL, "evaluator": score, "trials": 8}
    raynas.search(TWO, run=url, driver="local", **options)
    result = continue_with_feedback(url, {"avoid": {"a_to_out": ["conv3x3"]}}, **options)
    later = result.trials[result.trials["number"] >= 8]
    assert "conv3x3" not in set(later[later["purpose"] == "search"]["d.a_to_out"])
    assert len(load(url).trials) >= 16
    assert not being_written(files.place(url))


ON_RAY = """
import sys, time
import raynas
from tests.spaces import CELL, score

def slow(architecture):
    time.sleep(0.2)
    return score(architecture)

given = {"space": CELL, "evaluator": slow, "trials": 40}
if sys.argv[1] == "search":
    raynas.search({"objectives": ["accuracy:max", "params:min"]}, run=sys.argv[2], **given)
else:
    raynas.resume(sys.argv[2], **given)
"""


@pytest.mark.cluster
def test_a_search_on_ray_and_s3_is_killed_while_another_uses_the_bucket(bucket):  # noqa: F811
    url, other = f"{bucket}/one", f"{bucket}/two"
    driver = subprocess.Popen([sys.executable, "-c", ON_RAY, "search", url], cwd=ROOT)
    try:
        soon(lambda: recorded(url, driver) >= 4, 120)
        options = {"space": CELL, "evaluator": score, "trials": 12, "driver": "local"}
        raynas.search(TWO, run=other, **options)
        soon(lambda: recorded(url, driver) >= 8, 60)
    finally:
        driver.kill()
        driver.wait()
    before = load(url).trials.set_index("number")
    assert 8 <= len(before) < 40
    subprocess.run([sys.executable, "-c", ON_RAY, "resume", url], cwd=ROOT, check=True)
    result = load(url)
    assert sorted(result.trials["number"]) == list(range(40)) == sorted(result.proposals["number"])
    kept_ = result.trials.set_index("number").loc[before.index]
    assert kept_["started_at"].equals(before["started_at"])  # read back, not run again
    assert sorted(pd.read_parquet(f"{url}/trials")["number"]) == list(range(40))
    mine = load(other).trials  # untouched by the other search
    assert sorted(mine["number"]) == list(range(len(mine)))
    assert set(mine["node"]) == {""}


def recorded(url, driver):
    assert driver.poll() is None
    return len(load(url).trials) if (files.place(url) / "run.json").exists() else 0
