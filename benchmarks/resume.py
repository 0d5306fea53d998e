"""Does a search that is killed at random moments lose or repeat a trial?

    python benchmarks/resume.py --kills 5
    python benchmarks/resume.py --kills 1 -- --strategy reinforce --epochs 4

`raynas search` is started and its driver killed with SIGKILL between 15 and 60 s later; when the
processes of its local Ray have ended by themselves, or after `--wait` seconds (two agents of Ray
that hold nothing of the run take more than a minute: `still there`), `raynas resume` goes on and
is killed again, `--kills` times; a last resume ends by itself. `before` is how many trials were on
disk just before a kill, `after` at the end of the wait. `lost` counts all trials and proposals so
far that are missing or changed their design or metrics, `doubled` the numbers that stand more than
once; both must be 0, or the exit code is 1. `first new` is the time from this start of the command
to the end of its first new trial; nan if there was none.
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


def table() -> dict[int, tuple[int, str]]:
    """Process -> its parent, and when it was started (numbers are used again)."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if rest[0] != "Z":
            found[int(path.parent.name)] = int(rest[1]), rest[19]
    return found


def descendants(pid: int) -> dict[int, str]:
    """The processes under `pid`: number -> when it was started."""
    now = table()
    found: dict[int, str] = {}
    layer = {pid}
    while layer := {child for child, (parent, _) in now.items() if parent in layer}:
        found |= {child: now[child][1] for child in layer}
    return found


def kill(process: subprocess.Popen[bytes], wait: float) -> int:
    """Kills the driver alone and lets the rest end by itself; returns how many did not."""
    rest = descendants(process.pid)
    began = time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.wait()
    while rest and time.monotonic() - began < wait:
        time.sleep(0.1)
        now = table()
        rest = {pid: born for pid, born in rest.items() if pid in now and now[pid][1] == born}
    return len(rest)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the search")
    parser.add_argument("--wait", type=float, default=10, help="seconds for its Ray to end")
    parser.add_argument("--run", type=Path, help="a new folder to keep; default: a temporary one")
    parser.add_argument("options", nargs="*", help="of the search, after --")
    a = parser.parse_args()
    header()
    rng = random.Random(a.seed)
    with tempfile.TemporaryDirectory(prefix="raynas-benchmark-") as folder:
        ledger = Ledger(a.run or Path(folder) / "run")
        run = str(ledger.run)
        command = ["search", "--run", run, "--seed", str(a.seed), "--trials", "100000", *a.options]
        print("\nkill   after s   before   after   lost   doubled   still there   first new s")
        for number in range(a.kills + 1):
            known, began = set(ledger.trials), time.time()
            process = start(*command)
            if number == a.kills:
                code = process.wait()
                line = f"last   {time.time() - began:7.1f}"
                before, left = ledger.look(), 0
            else:
                time.sleep(rng.uniform(15, 60))
                before = ledger.look()
                line = f"{number + 1:4d}   {time.time() - began:7.1f}"
                left = kill(process, a.wait)
            after = ledger.look()
            new = [t.started_at + t.seconds for n, t in ledger.trials.items() if n not in known]
            first = min(new, default=float("nan")) - began
            lost, doubled = len(ledger.lost), len(ledger.doubled)
            figures = f"{before:6d}   {after:5d}   {lost:4d}   {doubled:7d}"
            print(f"{line}   {figures}   {left:11d}   {first:11.1f}", flush=True)
            command = ["resume", run, "--time-budget", "60s"]
    print(f"\nlost: {sorted(ledger.lost) or 'none'}; doubled: {sorted(ledger.doubled) or 'none'}")
    if code:
        print(f"the last resume ended with exit code {code}")
    return int(bool(code or ledger.lost or ledger.doubled))


if __name__ == "__main__":
    sys.exit(main())
