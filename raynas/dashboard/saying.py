"""What is said to a run on the page: shown back first, and acted on only when confirmed."""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from raynas import answering
from raynas.continuing import Own, opened_result, put, require_quiet
from raynas.directives import in_force
from raynas.errors import UserError

LONGEST = 4000  # characters of one saying
WAITING = 100  # sayings that were shown back and not confirmed
CALL = "import sys; from raynas.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Started:
    """A `raynas continue` or `undo` that was started from the page."""

    process: subprocess.Popen[bytes]
    printed: IO[bytes]


class Sayings:
    """Words that were shown back, and the processes that confirmed ones became."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[str, str, bool]] = {}
        self._started: dict[str, Started] = {}
        self._ended: dict[str, dict[str, Any]] = {}

    def shown(self, name: str, run: Path, said: str) -> tuple[str, str]:
        """What words mean for a run, and the key that confirms them; nothing is changed.

        Raises:
            UserError: they are not understood or cannot be had, or a search holds the run.
        """
        if not said.strip() or len(said) > LONGEST:
            raise UserError(f"expected 1 to {LONGEST:,} characters; got {len(said):,}.")
        own = Own()
        info, judge = own.opened(run, "continue_with_feedback")
        result = opened_result(run, info, judge)
        text, understood = answering.read_feedback(said, answering.context(result), info)
        undoes = bool(understood.undo and not understood.directives)
        if undoes:
            held = [t for t in in_force(info.said) if t.move in ("feedback", "modify")]
            if not held:
                raise UserError("nothing was said that could be taken back.")
            answer = f"takes back turn {held[-1].number}: {held[-1].said}"
        else:
            if understood.refusals or not understood.directives:
                raise answering.not_understood(understood)
            answer = str(put(result, judge, "feedback", text, understood)[1])
        while len(self._waiting) >= WAITING:
            self._waiting.pop(next(iter(self._waiting)))
        key = secrets.token_urlsafe(16)
        self._waiting[key] = name, said, undoes
        return answer, key

    def confirm(self, name: str, run: Path, key: str, trials: int | None) -> None:
        """Starts `raynas continue` with what was shown back under the key.

        Raises:
            UserError: nothing was, or a search holds the run.
        """
        if key not in self._waiting or self._waiting[key][0] != name:
            raise UserError("expected words that were shown back before; show them again.")
        if trials is not None and not 0 < trials < 1_000_000:
            raise UserError(f"trials: expected 1 or more; got {trials}.")
        require_quiet(run)
        if name in self._started and self._started[name].process.poll() is None:
            raise UserError("what was said before is just being started; wait for its end.")
        _, said, undoes = self._waiting.pop(key)
        command = [sys.executable, "-c", CALL]
        if undoes:
            command += ["undo", "--", str(run)]
        else:
            command += ["continue", "--yes", "--quiet", f"--say={said}"]
            command += [f"--trials={trials}"] if trials else []
            command += ["--", str(run)]
        printed = tempfile.TemporaryFile()  # noqa: SIM115 - is read while the process lives
        process = subprocess.Popen(  # goes on if the dashboard is closed
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._started[name] = Started(process, printed)
        self._ended.pop(name, None)

    def state(self, name: str) -> dict[str, Any] | None:
        """How the last start of a run stands: `going`, `ended` or `failed` with what it said."""
        if name in self._ended:
            return self._ended[name]
        if (started := self._started.get(name)) is None:
            return None
        code = started.process.poll()
        if code is None:
            return {"state": "going", "text": ""}
        size = started.printed.seek(0, 2)
        started.printed.seek(max(size - 2000, 0))
        text = started.printed.read().decode(errors="replace")
        started.printed.close()
        self._ended[name] = {"state": "failed" if code else "ended", "text": text}
        return self._ended[name]
