"""A run as a log folder of TensorBoard: a folder per trial, each with one file, written once.

`DIR/trial-17` has the readings by epoch, the decisions and final readings (HPARAMS), and why it
was proposed (TEXT); `DIR/search` the best so far over the number of trials.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from raynas.errors import UserError
from raynas.remote import Remote
from raynas.tracking.following import Source
from raynas.tracking.target import SoFar, about, asked, other_run, points
from raynas.trial import Trial

FILE = "events.out.tfevents.raynas"  # TensorBoard reads files with `tfevents` in their names
MARK = "raynas.json"  # whose folder it is
HINT = "TensorBoard is not installed: pip install 'raynas[tensorboard]'."

Event = tuple[Any, float, int]  # summary, seconds since 1970, step


class TensorBoard:
    """A log folder, on a path or in a store that TensorBoard reads."""

    name = "TensorBoard"

    def __init__(self, folder: Path, source: Source) -> None:
        try:
            import tensorboard.summary  # noqa: F401
        except ImportError:
            raise UserError(HINT) from None
        self.written = 0
        self._folder = folder
        with asked(self.name, OSError):
            folder.mkdir(parents=True, exist_ok=True)
            mark = folder / MARK
            if not mark.exists():
                _write(mark, json.dumps({"run": source.key}).encode())
            if json.loads(mark.read_bytes()).get("run") != source.key:
                raise other_run(self.name, str(folder))
            self.known = {
                int(number)
                for path in folder.iterdir()
                if (number := path.name.removeprefix("trial-")).isdigit()
                and (isinstance(path, Remote) or (path / FILE).exists())
            }
            rest = (path.name.rpartition(".")[2] for path in (folder / "search").glob("*.raynas.*"))
            self._counted = max((int(count) for count in rest if count.isdigit()), default=0)

    def write(self, trial: Trial) -> None:
        with asked(self.name, OSError):
            folder = self._folder / f"trial-{trial.number}"
            folder.mkdir(exist_ok=True)
            _write(folder / FILE, _encoded(_events(trial)))

    def settle(self, so_far: SoFar) -> None:
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        new: list[Event] = [
            (scalar_pb(f"best {name}", value), at, trials)
            for trials, at, best in so_far.lately
            for name, value in best.items()
            if trials > self._counted
        ]
        if new:
            with asked(self.name, OSError):
                folder = self._folder / "search"
                folder.mkdir(exist_ok=True)  # its files are read in the order of their names
                _write(folder / f"{FILE}.{so_far.trials:09d}", _encoded(new))
            self._counted = so_far.trials


def _events(trial: Trial) -> Iterable[Event]:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb
    from tensorboard.plugins.text.summary_v2 import text_pb

    start, end = trial.started_at, trial.started_at + trial.seconds
    options = dict(trial.architecture.options)
    yield hparams_pb(options, str(trial.number), start), start, 0
    for name, epoch, at, value in points(trial):
        yield scalar_pb(name, value), at, epoch
    said = [f"**{name}** {_literal(text)}" for name, text in about(trial).items()]
    yield text_pb("trial", "\n\n".join(said)), end, 0
    done = api_pb2.STATUS_SUCCESS if trial.usable else api_pb2.STATUS_FAILURE
    ended = plugin_data_pb2.SessionEndInfo(status=done, end_time_secs=end)
    data = plugin_data_pb2.HParamsPluginData(session_end_info=ended)
    summary = Summary()
    summary.value.add(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(data),
        tensor=metadata.NULL_TENSOR,
    )
    yield summary, end, 0


def _literal(text: str) -> str:
    """Text as Markdown in which nothing of it is markup."""
    lines = [line.replace("`", "'") for line in text.splitlines() if line.strip()]
    return f"`{lines[0]}`" if len(lines) == 1 else "\n".join(["\n", *(f"    {x}" for x in lines)])


def _encoded(events: Iterable[Event]) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    writer = RecordWriter(file)
    for n, (summary, at, step) in enumerate(events):
        if not n:
            writer.write(Event(wall_time=at, file_version="brain.Event:2").SerializeToString())
        writer.write(Event(wall_time=at, step=step, summary=summary).SerializeToString())
    return file.getvalue()


def _write(path: Path, content: bytes) -> None:
    """As `files.write_atomically`, under a name meanwhile that TensorBoard does not read."""
    if isinstance(path, Remote):
        path.write_bytes(content)
        return
    temporary = path.with_name(".being-written")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
