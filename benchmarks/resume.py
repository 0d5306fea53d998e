"""Does a search that is killed at random moments lose or repeat a trial?

    python benchmarks/resume.py --kills 5

`raynas search` is started and its driver killed with SIGKILL between 15 and 60 s later; when the
processes of its local Ray have ended by themselves, `raynas resume` goes on and is killed again,
`--kills` times; a last resume ends by itself. `before` is how many trials were on disk just before
a kill, `after` when all processes had ended; `lost` counts those that are missing afterwards or
changed their design or metrics, `doubled` the numbers (of trials or proposals) that stand more
than once; both must be 0. `first new` is the time from starting the next `resume` to the end of
its first new trial. The exit code is 1 if anything was lost or doubled.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from machine import header

from raynas import tables
from raynas.run import RunInfo, read
from raynas.trial import Trial

CODE = "import sys; from raynas.cli import main; sys.exit(main())"
WAIT = 60.0  # seconds for the processes of a killed driver to end


@dataclass
class Ledger:
    """What a run was seen to hold, and what became of it."""

    run: Path
    trials: dict[int, Trial] = field(default_factory=dict)
    proposals: dict[int, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    doubled: set[str] = field(default_factory=set)

    def look(self) -> int:
        """Compares the run with what it held before; returns its number of trials."""
        if not (self.run / "run.json").exists():
            return 0
        contents = read(self.run, RunInfo.read(self.run).space)
        trials = list(tables.trials_from(contents.trials))
        jobs = list(tables.jobs_from(contents.proposals))
        for kind, rows in (("trial", trials), ("proposal", jobs)):
            counts = Counter(row.number for row in rows)
            self.doubled |= {f"{kind} {number}" for number, n in counts.items() if n > 1}
        now = {t.number: t for t in trials}
        for number, old in self.trials.items():
            new = now.get(number)
            if new is None or (new.architecture, new.metrics) != (old.architecture, old.metrics):
                self.lost.add(f"trial {number}")
        designs = {j.number: str(j.architecture) for j in jobs}
        for number, design in self.proposals.items():
            if designs.get(number) != design:
                self.lost.add(f"proposal {number}")
        self.trials |= now
        self.proposals |= designs
        return len(trials)


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CODE, *arguments], stdout=subprocess.DEVNULL)


def descendants(pid: int) -> dict[int, str]:
    """The processes under `pid`: number -> when it was started (numbers are used again)."""
    parents, born = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if rest[0] != "Z":
            parents[int(path.parent.name)], born[int(path.parent.name)] = int(rest[1]), rest[19]
    found: dict[int, str] = {}
    layer = {pid}
    while layer := {child for child, parent in parents.items() if parent in layer}:
        found |= {child: born[child] for child in layer}
    return found


def alive(processes: dict[int, str]) -> list[int]:
    """Which of them still run."""
    left = []
    for pid, born in processes.items():
        try:
            rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if rest[0] != "Z" and rest[19] == born:
            left.append(pid)
    return left


def kill(process: subprocess.Popen[bytes]) -> float:
    """Kills the driver alone; returns how long the rest took to end by itself."""
    rest = descendants(process.pid)
    began = time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.wait()
    while alive(rest) and time.monotonic() - began < WAIT:
        time.sleep(0.1)
    if left := alive(rest):
        print(f"{len(left)} of {len(rest)} processes still run after {WAIT:.0f} s")
    return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the search")
    parser.add_argument("--run", type=Path, help="a new folder to keep; default: a temporary one")
    a = parser.parse_args()
    header()
    rng = random.Random(a.seed)
    with tempfile.TemporaryDirectory(prefix="raynas-benchmark-") as folder:
        ledger = Ledger(a.run or Path(folder) / "run")
        run = str(ledger.run)
        command = ["search", "--run", run, "--seed", str(a.seed), "--trials", "100000"]
        print("\nkill   after s   before   after   lost   doubled   rest ends s   first new s")
        for number in range(a.kills + 1):
            known, began = set(ledger.trials), time.time()
            process = start(*command)
            if number == a.kills:
                code = process.wait()
                line = f"last   {time.time() - began:7.1f}"
                before, rest = ledger.look(), float("nan")
            else:
                time.sleep(rng.uniform(15, 60))
                before = ledger.look()
                line = f"{number + 1:4d}   {time.time() - began:7.1f}"
                rest = kill(process)
            after = ledger.look()
            new = [t.started_at + t.seconds for n, t in ledger.trials.items() if n not in known]
            first = min(new, default=float("nan")) - began
            lost, doubled = len(ledger.lost), len(ledger.doubled)
            figures = f"{before:6d}   {after:5d}   {lost:4d}   {doubled:7d}"
            print(f"{line}   {figures}   {rest:11.1f}   {first:11.1f}", flush=True)
            command = ["resume", run, "--time-budget", "60s"]
    print(f"\nlost: {sorted(ledger.lost) or 'none'}; doubled: {sorted(ledger.doubled) or 'none'}")
    if code:
        print(f"the last resume ended with exit code {code}")
    return int(bool(code or ledger.lost or ledger.doubled))


if __name__ == "__main__":
    sys.exit(main())
