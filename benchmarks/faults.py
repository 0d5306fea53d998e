"""What does a search lose when its processes are killed at random, and how soon does it go on?

    python benchmarks/faults.py --kills 20 --seed 0
    python benchmarks/faults.py --kills 100 --seed 0 --run /mnt/share/faults

A Ray cluster of a head (which holds the archive and carries out no trials) and two nodes of two
processors is started on this machine with `ray start`, and on it a search with a controller
(reinforce) by a made-up evaluator of 0.05 to 0.5 s. Then, in an order drawn from the seed, one kind
of process after another is killed with SIGKILL:

    worker      a process that carries out trials
    archive     the actor that writes the run
    controller  the actor that holds the strategy
    node        a raylet with all its processes, as when a machine loses its power; a new one joins
    driver      the search command itself; the benchmark types `resume`, as a person would
    head        GCS, raylet and all actors there; the benchmark waits until the driver has ended by
                itself, starts a new cluster and types `resume`

Each worker writes a line, outside of the run's folder, when the archive has acknowledged a trial,
and one when an evaluation begins. `acknowledged` is how many trials were acknowledged when the kill
came. `lost` counts those that the run does not hold afterwards as they were acknowledged; `doubled`
counts numbers with two rows in the Parquet parts, and trials that were evaluated once more after
they had been acknowledged. Both must be 0, or the exit code is 1. `first new s` is the time from
the kill until a trial that began after it was acknowledged, with all that had to be started in
between. `by` says how: `itself`, or `resume` where that command was needed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import header

from raynas import tables
from raynas.files import read_table
from raynas.run import RunInfo, parts, read
from raynas.space import Decision, Space

WEIGHTS = {"worker": 25, "archive": 25, "controller": 14, "node": 16, "driver": 14, "head": 6}
TITLES = {  # of processes, as Ray sets them
    "worker": ("ray::DesignTrial", "ray::ResourceTrainable"),
    "archive": ("ray::ArchiveActor",),
    "controller": ("ray::ControllerActor",),
}
QUICK = {  # a dead head is noticed within seconds instead of a minute: docs/reliability.md
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
ENVIRONMENT = {  # a cluster of its own, whatever else runs here
    **os.environ,
    **QUICK,
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
PATIENCE = 120.0  # seconds without a new trial after which a search is taken for stuck
NODES, CPUS = 2, 2

SPACE = Space(
    "faults",
    tuple(Decision(f"choice{n}", tuple("abcdef"), f"choice number {n}") for n in range(9)),
)


class Sleeper:
    """Takes its time and scores; tells the benchmark what the archive acknowledged."""

    metrics, epochs, split = None, 1, ""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger

    def costs(self, architecture: Any) -> dict[str, float]:
        return {"params": float(sum(o == "a" for o in architecture.options.values()))}

    def evaluate(self, architecture: Any, context: Any) -> Iterator[dict[str, float]]:
        tell_of_records(self.ledger)
        note(self.ledger / "begun", seed=context.seed)
        time.sleep(random.Random(context.seed).uniform(0.05, 0.5))
        yield {"accuracy": sum(o < "c" for o in architecture.options.values()) / 9}


def note(file: Path, **what: Any) -> None:
    line = json.dumps({**what, "at": time.time()}).encode() + b"\n"
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line)
    os.close(handle)


def tell_of_records(ledger: Path) -> None:
    """In a worker: a line for each trial, after the archive's acknowledgement has come."""
    from raynas.tune.archive_actor import RemoteArchive

    if hasattr(RemoteArchive, "unwatched"):
        return
    RemoteArchive.unwatched = RemoteArchive.record  # type: ignore[attr-defined]

    def record(self: Any, trial: Any, weights: bytes | None = None) -> None:
        self.unwatched(trial, weights)
        row = {"number": trial.number, "seed": trial.seed, "started": trial.started_at}
        note(ledger / "acknowledged", **row, metrics=dict(trial.metrics))

    RemoteArchive.record = record  # type: ignore[method-assign]


def drive(run: str, ledger: str, address: str, trials: int, seed: int) -> None:
    """The search command: begins the search, or resumes it."""
    import raynas

    given = {"space": SPACE, "evaluator": Sleeper(Path(ledger)), "trials": trials}
    given["address"] = address
    if (Path(run) / "run.json").exists():
        raynas.resume(run, **given)
        return
    problem = {"objectives": ["accuracy:max", "params:min"]}
    more = {"strategy": "reinforce", "explanation_level": "brief", "seed": seed}
    raynas.search(problem, run=run, **given, **more)


@dataclass
class Ledger:
    """What was acknowledged, as the workers know it."""

    folder: Path
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    begun: list[dict[str, Any]] = field(default_factory=list)
    _read: dict[str, int] = field(default_factory=dict)

    def look(self) -> int:
        """Reads on; returns how many trials are acknowledged."""
        for row in self._new("acknowledged"):
            self.rows.setdefault(row["number"], row)
        self.begun += self._new("begun")
        return len(self.rows)

    def first_after(self, moment: float) -> float | None:
        self.look()
        return min((r["at"] for r in self.rows.values() if r["started"] > moment), default=None)

    def _new(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / name
        if not file.exists():
            return []
        with file.open("rb") as opened:
            opened.seek(self._read.get(name, 0))
            lines = opened.read().rpartition(b"\n")[0]
        self._read[name] = self._read.get(name, 0) + len(lines) + bool(lines)
        return [json.loads(line) for line in lines.splitlines()]


@dataclass
class Verdict:
    """What a run has lost or doubled of what was acknowledged."""

    run: Path
    ledger: Ledger
    lost: set[str] = field(default_factory=set)
    doubled: set[str] = field(default_factory=set)

    def look(self) -> tuple[int, int]:
        """Compares; returns how many trials are missing or changed, and doubled, so far."""
        self.ledger.look()
        known = dict(self.ledger.rows)  # before the run is read, which may hold more
        contents = read(self.run, RunInfo.read(self.run).space)
        trials = {t.number: t for t in tables.trials_from(contents.trials)}
        for number, row in known.items():
            kept = trials.get(number)
            if kept is None:
                self.lost.add(f"trial {number}")
            elif abs(kept.started_at - row["started"]) > 1e-3 or kept.metrics != row["metrics"]:
                self.lost.add(f"trial {number} (another stands there)")
        for folder in ("trials", "proposals"):
            rows = Counter[int]()
            for path in parts(self.run / folder):
                rows.update(read_table(path, ["number"])["number"].to_pylist())
            self.doubled |= {f"{folder} {n}" for n, count in rows.items() if count > 1}
        at = {row["seed"]: (row["at"], row["number"]) for row in known.values()}
        for begun in self.ledger.begun:
            if begun["seed"] in at and begun["at"] > at[begun["seed"]][0]:
                self.doubled.add(f"evaluation of {at[begun['seed']][1]}")
        return len(self.lost), len(self.doubled)


def processes() -> dict[int, tuple[int, str]]:
    """Number -> parent and title."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parts_ = (path / "stat").read_text().rpartition(")")[2].split()
            title = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if parts_[0] != "Z":
            found[int(path.name)] = int(parts_[1]), title
    return found


def under(pid: int) -> dict[int, str]:
    """A process and its descendants, with their titles."""
    now = processes()
    found = {pid: now[pid][1]} if pid in now else {}
    layer = {pid}
    while layer := {child for child, (parent, _) in now.items() if parent in layer}:
        found |= {child: now[child][1] for child in layer}
    return found


def end(pids: Any) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """A head and nodes, each with an address and processes of its own."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder, self._log = folder, log
        self._used = 1
        self.head: subprocess.Popen[bytes] | None = None
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._port = free_port()
        self._begun = time.monotonic()
        self.head = self._ray("--head", f"--port={self._port}", "--num-cpus=0", first=True)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        time.sleep(1.5)
        for _ in range(NODES):
            self.add()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def add(self) -> None:
        self.nodes.append(self._ray(f"--address={self.address}", f"--num-cpus={CPUS}"))

    def mend(self) -> None:
        """Starts nodes again that could not join, as on a machine that is too busy."""
        ended = [node for node in self.nodes if node.poll() is not None]
        self.nodes = [node for node in self.nodes if node not in ended]
        for _ in ended:
            self.add()

    def find(self, kind: str) -> list[int]:
        """The processes of a kind that are there now."""
        tops = [p for p in [self.head, *self.nodes] if p is not None]
        return [
            pid
            for top in tops
            for pid, title in under(top.pid).items()
            if title.startswith(TITLES[kind])
        ]

    def kill_node(self, number: int) -> None:
        node = self.nodes.pop(number)
        end(under(node.pid))
        node.wait()

    def kill_head(self) -> None:
        assert self.head is not None
        end(under(self.head.pid))
        self.head.wait()
        self.head = None

    def stop(self) -> None:
        tops = [p for p in [self.head, *self.nodes] if p is not None]
        for top in tops:
            end(under(top.pid))
            top.wait()
        self.head, self.nodes = None, []

    def _ray(self, *arguments: str, first: bool = False) -> subprocess.Popen[bytes]:
        common = [
            "--block",
            "--disable-usage-stats",
            "--object-store-memory=80000000",
            f"--dashboard-agent-listen-port={free_port()}",
            f"--metrics-export-port={free_port()}",
        ]
        if first:
            common += ["--include-dashboard=false", f"--temp-dir={self._folder}"]
        else:
            self._used += 1
            common.append(f"--node-ip-address=127.0.0.{self._used % 250 + 2}")
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments, *common]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, env=ENVIRONMENT, start_new_session=True
            )


class Bench:
    """The cluster, the search command, and what they are put through."""

    def __init__(self, run: Path, scratch: Path, seed: int) -> None:
        self.run, self.scratch, self.seed = run, scratch, seed
        self.rng = random.Random(seed)
        self.ledger = Ledger(scratch)
        self.verdict = Verdict(run, self.ledger)
        self.cluster = Cluster(scratch / "r", scratch / "ray.log")
        self.driver: subprocess.Popen[bytes] | None = None

    def search(self, trials: int = 1_000_000) -> None:
        given = [str(self.run), str(self.scratch), self.cluster.address, str(trials)]
        command = [sys.executable, __file__, "drive", *given, str(self.seed)]
        with (self.scratch / "driver.log").open("ab") as log:
            self.driver = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT)

    def end_driver(self) -> None:
        assert self.driver is not None
        self.driver.kill()
        self.driver.wait()

    def kill(self, kind: str) -> tuple[int, float, str]:
        """Kills one process; returns what was acknowledged, seconds to the next, and by what."""
        by = "itself"
        if kind in TITLES:
            until = time.monotonic() + 30
            while not (found := self.cluster.find(kind)) and time.monotonic() < until:
                time.sleep(0.1)
            if not found:
                return self.ledger.look(), float("nan"), f"no {kind} there"
            victim = self.rng.choice(sorted(found))
            had, moment = self.ledger.look(), time.time()
            end([victim])
        elif kind == "node":
            number = self.rng.randrange(len(self.cluster.nodes))
            had, moment = self.ledger.look(), time.time()
            self.cluster.kill_node(number)
            self.cluster.add()
        elif kind == "driver":
            had, moment = self.ledger.look(), time.time()
            self.end_driver()
            self.search()
            by = "resume"
        else:
            had, moment = self.ledger.look(), time.time()
            self.cluster.kill_head()
            assert self.driver is not None
            try:
                self.driver.wait(90)
                by = f"resume (driver ended after {time.time() - moment:.0f} s)"
            except subprocess.TimeoutExpired:
                self.end_driver()
                by = "resume (driver hung)"
            self.cluster.stop()
            self.cluster.start()
            self.search()
        return had, *self._first_new(moment, by)

    def _first_new(self, moment: float, by: str) -> tuple[float, str]:
        until = time.monotonic() + PATIENCE
        while (first := self.ledger.first_after(moment)) is None:
            assert self.driver is not None
            self.cluster.mend()
            if self.driver.poll() is not None:
                by = f"resume (driver ended with {self.driver.returncode})"
                self.search()
            if time.monotonic() > until:
                by, until = "resume (it was stuck)", time.monotonic() + PATIENCE
                self.end_driver()
                self.search()
            time.sleep(0.02)
        return first - moment, by


def order(kills: int, rng: random.Random) -> list[str]:
    """Kinds in their proportions, in random order."""
    all_ = [kind for kind, weight in WEIGHTS.items() for _ in range(weight)]
    kinds = [all_[round((n + 0.5) * len(all_) / kills - 0.5)] for n in range(kills)]
    rng.shuffle(kinds)
    return kinds


def table(rows: list[tuple[str, float, int, int]]) -> None:
    print("\n| killed | kills | lost | doubled | first new trial: median s | max s |")
    print("|---|---|---|---|---|---|")
    for kind in [*WEIGHTS, "all"]:
        mine = [row for row in rows if kind in (row[0], "all")]
        seconds = [row[1] for row in mine if row[1] == row[1]]
        if seconds:
            lost, doubled = sum(r[2] for r in mine), sum(r[3] for r in mine)
            times = f"{statistics.median(seconds):.1f} | {max(seconds):.1f}"
            print(f"| {kind} | {len(mine)} | {lost} | {doubled} | {times} |")


def finish(bench: Bench) -> str:
    """Lets the search come to its end; returns what is wrong with it then, or ''."""
    assert bench.driver is not None
    bench.end_driver()
    have = bench.ledger.look()
    bench.search(trials=have + 50)
    assert bench.driver is not None
    code = bench.driver.wait(300)
    contents = read(bench.run, RunInfo.read(bench.run).space)
    trials = list(tables.trials_from(contents.trials))
    jobs = list(tables.jobs_from(contents.proposals))
    statuses = Counter(t.status for t in trials)
    print(f"\nat the end: {len(trials)} trials ({dict(statuses)}), {len(jobs)} proposals")
    for trial in trials:
        if trial.status not in ("finished", "infeasible"):
            why = (trial.error or "no word").splitlines()[0]
            print(f"  trial {trial.number} is {trial.status}: {why}")
    if code:
        return f"the last resume ended with exit code {code}"
    missing = {j.number for j in jobs} ^ {t.number for t in trials}
    if missing or len(jobs) != max(t.number for t in trials) + 1:
        return f"incomplete: {sorted(missing)[:20]}"
    return ""


def main() -> int:
    if sys.argv[1:2] == ["drive"]:
        drive(*sys.argv[2:5], int(sys.argv[5]), int(sys.argv[6]))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of order, moments, victims and search")
    parser.add_argument("--run", type=Path, help="a new folder to keep; default: a temporary one")
    parser.add_argument("--keep", action="store_true", help="the logs, and say where")
    a = parser.parse_args()
    header()
    scratch = Path(tempfile.mkdtemp(prefix="raynas-faults-"))
    bench = Bench(a.run or scratch / "run", scratch, a.seed)
    rows: list[tuple[str, float, int, int]] = []
    wrong = "it did not come to its end"
    began = time.monotonic()
    try:
        bench.cluster.start()
        bench.search()
        bench._first_new(0.0, "")
        print("\nkill   killed       acknowledged   lost   doubled   first new s   by", flush=True)
        before = (0, 0)
        for number, kind in enumerate(order(a.kills, bench.rng), 1):
            time.sleep(bench.rng.uniform(0.2, 2.0))
            had, seconds, by = bench.kill(kind)
            after = bench.verdict.look()
            lost, doubled = after[0] - before[0], after[1] - before[1]
            before = after
            rows.append((kind, seconds, lost, doubled))
            figures = f"{had:12d}   {lost:4d}   {doubled:7d}   {seconds:11.1f}"
            print(f"{number:4d}   {kind:10s}   {figures}   {by}", flush=True)
        wrong = finish(bench)
        bench.verdict.look()
    finally:
        if bench.driver is not None:
            bench.end_driver()
        bench.cluster.stop()
    table(rows)
    lost, doubled = bench.verdict.lost, bench.verdict.doubled
    print(f"\nseed {a.seed}, {time.monotonic() - began:.0f} s in all")
    print(f"lost: {sorted(lost) or 'none'}; doubled: {sorted(doubled) or 'none'}")
    print(wrong or "the search is complete")
    if a.keep:
        print(f"logs: {scratch}")
    return int(bool(wrong or lost or doubled))


if __name__ == "__main__":
    sys.exit(main())
