"""A run in MLflow: a parent run for the search, and below it a run for each trial."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from raynas.architecture import option_text
from raynas.errors import UserError
from raynas.tracking.following import Source
from raynas.tracking.target import SoFar, about, asked, cut, points
from raynas.trial import Trial

EXPERIMENT = "raynas"
HINT = "MLflow is not installed: pip install 'raynas[mlflow]'."
PARENT, RUN, NUMBER, REPORT = "mlflow.parentRunId", "raynas.run", "raynas.trial", "raynas.report"
PARAMS, METRICS = 100, 800  # in one request: 100, and 1000 with all else
PARAM, TAG = 6000, 5000  # characters
PAGE = 1000  # runs in one answer
STATUS = {"finished": "FINISHED", "stopped_early": "FINISHED", "infeasible": "KILLED"}
SAID = ("strategy", "evaluation", "scheduler", "epochs", "trials", "seed", "space")


class MLflow:
    """An experiment of a tracking server or store; the name of its parent run can be changed."""

    name = "MLflow"

    def __init__(self, uri: str, source: Source) -> None:
        # MLflow reports its use to its makers unless told otherwise: nobody here asked for that.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError:
            raise UserError(HINT) from None
        from sqlalchemy.exc import SQLAlchemyError

        self.written = 0
        self._source = source
        self._failures = (MlflowException, SQLAlchemyError, OSError, ImportError)  # also requests'
        with asked(self.name, *self._failures), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # between MLflow and SQLAlchemy
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(EXPERIMENT)
            self._experiment = (
                found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
            )
            self._parent = self._opened()
            self.known, self._half = set[int](), dict[int, str]()
            for child in self._search(f"tags.`{PARENT}` = '{self._parent}'"):
                if not (text := child.data.tags.get(NUMBER, "")).isdigit():
                    continue  # a run that somebody put below ours
                number = int(text)
                if child.info.status == "RUNNING":
                    self._half[number] = child.info.run_id
                else:
                    self.known.add(number)

    def write(self, trial: Trial) -> None:
        start, end = (round(1000 * t) for t in _times(trial))
        with asked(self.name, *self._failures):
            run_id = self._half.pop(trial.number, None)
            half = run_id is not None
            if run_id is None:
                run_id = self._client.create_run(
                    self._experiment,
                    start_time=start,
                    run_name=f"trial {trial.number}",
                    tags=_tags(trial, self._parent),
                ).info.run_id
            self._log(run_id, dict(trial.architecture.options), _metrics(trial), half)
            status = STATUS.get(trial.status, "FAILED")
            self._client.set_terminated(run_id, status, end)  # what says that all is there

    def settle(self, so_far: SoFar) -> None:
        with asked(self.name, *self._failures):
            parent = self._client.get_run(self._parent)
            if so_far.trials > (before := int(parent.data.metrics.get("trials", 0))):
                self._client.log_batch(self._parent, _progress(so_far, before)[-METRICS:])
            status = "RUNNING" if so_far.ongoing else "FINISHED"
            if not so_far.ongoing:
                self._report(parent.data.tags)
            if parent.info.status != status:
                if so_far.ongoing:
                    self._client.update_run(self._parent, status)
                else:
                    self._client.set_terminated(self._parent, status, round(1000 * so_far.ended))

    def _opened(self) -> str:
        info, key = self._source.info, self._source.key
        if found := self._search(f"tags.`{RUN}` = '{key}'"):
            return str(found[0].info.run_id)
        made = self._client.create_run(
            self._experiment,
            start_time=round(1000 * self._source.began),
            run_name=self._source.name,
            tags={RUN: key, "raynas.command": cut(info.command, TAG)},
        )
        said = {k: info.settings[k] for k in SAID if info.settings.get(k) is not None}
        said |= {"dataset": info.problem.dataset, "objectives": _words(info.objectives)}
        said |= {"constraints": _words(info.constraints)}
        self._log(made.info.run_id, said, [], half=False)
        return str(made.info.run_id)

    def _search(self, which: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], which, max_results=PAGE, page_token=token
            )
            found += page
            if not (token := page.token):
                return found

    def _log(
        self, run_id: str, options: Mapping[str, Any], metrics: Sequence[Any], half: bool
    ) -> None:
        """Logs in as few requests as the server takes; of a run that was cut off, what is not
        there."""
        from mlflow.entities import Param

        params = [Param(_key(k), cut(_text(v), PARAM)) for k, v in options.items()]
        if half:
            names = {m.key for m in metrics}
            there = {
                (m.key, m.step, m.value)
                for name in names
                for m in self._client.get_metric_history(run_id, name)
            }
            metrics = [m for m in metrics if (m.key, m.step, m.value) not in there]
        batches = _batches(params, PARAMS), _batches(metrics, METRICS)
        for some_params, some_metrics in zip_longest(*batches):
            self._client.log_batch(run_id, some_metrics or [], some_params or [])

    def _report(self, tags: Mapping[str, str]) -> None:
        """Keeps the report with the parent run, unless this very one is there."""
        try:
            content = (self._source.place / "report.html").read_bytes()
        except FileNotFoundError:
            return
        digest = hashlib.sha256(content).hexdigest()[:16]
        if tags.get(REPORT) != digest:
            self._client.log_text(self._parent, content.decode(), "report.html")
            self._client.set_tag(self._parent, REPORT, digest)


def _tags(trial: Trial, parent: str) -> dict[str, str]:
    return {
        PARENT: parent,
        NUMBER: str(trial.number),
        **{name: cut(text, TAG) for name, text in about(trial).items()},
    }


def _metrics(trial: Trial) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(_key(n), v, round(1000 * at), epoch) for n, epoch, at, v in points(trial)]


def _times(trial: Trial) -> tuple[float, float]:
    return trial.started_at, trial.started_at + trial.seconds


def _progress(so_far: SoFar, before: int) -> list[Any]:
    """The best readings after each trial that improved them, and how many trials there were."""
    from mlflow.entities import Metric

    found = []
    last: dict[str, float] = {}
    end = round(1000 * so_far.ended)
    for trials, ended, best in so_far.lately:
        for name, value in best.items():
            news = last.get(name) != value or trials == so_far.trials
            if news and trials > before:
                found.append(Metric(f"best_{_key(name)}", value, round(1000 * ended), trials))
        last = best
    return [*found, Metric("trials", float(so_far.trials), end, so_far.trials)]


def _batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _key(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^\w\-./ ]", "_", name, flags=re.ASCII)[:250]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else option_text(value)


def _words(items: Sequence[object]) -> str:
    return ", ".join(str(item) for item in items) or "none"
