"""A run as a study of Optuna, for its dashboard, its plots and its importances."""

from __future__ import annotations

import math
import warnings
from datetime import datetime
from typing import Any

from raynas.run import RunInfo
from raynas.tracking.following import Source
from raynas.tracking.target import SoFar, TargetError, about, asked, cut, other_run
from raynas.trial import Trial

RUN, NUMBER = "raynas run", "trial"  # attributes of the study and of its trials
MOST = 2000  # characters of an attribute: some databases keep no longer ones
STEPS = 1000  # readings of a trial


class Optuna:
    """A study in a storage: a URL of a database, or the file of a journal."""

    name = "Optuna"

    def __init__(self, storage: str, source: Source) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._failures = (
            optuna.exceptions.OptunaError,
            SQLAlchemyError,
            OSError,
            ImportError,  # of a database's driver
            ValueError,  # an address that is none, or options that the study did not have
        )
        self.written = 0
        self._info = info = source.info
        study = source.name
        directions = ["minimize" if o.direction == "min" else "maximize" for o in info.objectives]
        with asked(self.name, *self._failures):
            self._study = optuna.create_study(
                storage=storage
                if "://" in storage
                else JournalStorage(JournalFileBackend(storage)),
                study_name=study,
                directions=directions,
                load_if_exists=True,
            )
            there = self._study.get_trials(deepcopy=False)
            attributes = self._study.user_attrs
            if RUN not in attributes and not there:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Optuna may still change how names are kept
                    self._study.set_metric_names([o.name for o in info.objectives])
                self._study.set_user_attr("started by", info.command)
                self._study.set_user_attr(RUN, source.key)
            elif attributes.get(RUN) != source.key:
                raise other_run(self.name, f"the study {study!r}")
        if [d.name.lower() for d in self._study.directions] != directions:
            raise TargetError(
                f"Optuna: the study {study!r} was written with other objectives. Give --name."
            )
        self.known = {t.user_attrs[NUMBER] for t in there if NUMBER in t.user_attrs}

    def write(self, trial: Trial) -> None:
        with asked(self.name, *self._failures):
            self._study.add_trial(frozen(trial, self._info))

    def settle(self, so_far: SoFar) -> None:
        """A study is nothing but its trials."""


def frozen(trial: Trial, info: RunInfo) -> Any:
    """A trial as Optuna has it.

    COMPLETE: finished, with a reading of each objective. PRUNED: usable otherwise (stopped early,
    or scored without training). FAIL: failed, lost, or over a limit and so never measured.
    """
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.trial import TrialState

    options = dict(trial.architecture.options)
    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(info.space.by_name[name].options) for name in options
    }
    values = [trial.metrics.get(o.name, math.nan) for o in info.objectives]
    complete = trial.status == "finished" and all(math.isfinite(v) for v in values)
    state = TrialState.PRUNED if trial.usable else TrialState.FAIL
    beyond = [
        c.excess(trial.metrics) for c in info.constraints if trial.metrics.get(c.metric) is not None
    ]
    first = info.objectives[0].name
    curve = {n: r[first] for n, r in enumerate(trial.curve, 1) if first in r}
    attributes: dict[str, Any] = {NUMBER: trial.number}
    attributes |= {name: cut(text, MOST) for name, text in about(trial).items()}
    attributes |= {name: value for name, value in trial.metrics.items() if math.isfinite(value)}
    made = optuna.create_trial(
        state=TrialState.COMPLETE if complete else state,
        values=values if complete else None,
        params=options,
        distributions=distributions,
        user_attrs=attributes,
        system_attrs={"constraints": beyond} if beyond else {},  # where Optuna's own go
        intermediate_values=dict(list(curve.items())[-STEPS:]),
    )
    made.datetime_start = datetime.fromtimestamp(trial.started_at)
    made.datetime_complete = datetime.fromtimestamp(trial.started_at + trial.seconds)
    return made
