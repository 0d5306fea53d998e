"""Runs in which people said something, made by hand: nothing is trained."""

import numpy as np

from raynas import turns
from raynas.archive import Archive
from raynas.directives import Directive, Turn
from raynas.explanation.feedback import edit_of
from raynas.result import SearchResult
from raynas.run import RunInfo
from raynas.trial import Job, Proposal, Reason, Trial
from tests.explained_runs import explained_info

PIN = Directive("pin", "kernel 5 at layer 1", ("layer1.kernel_size",), (5,), tested=True)
TYPE = Directive("pin", "kernel 5 at layer 1", ("layer1.type",), ("dilated_conv",), tested=True)
FORBID = Directive("forbid", "no gelu in layer 0", ("layer0.activation",), ("gelu",))
PREFER = Directive("prefer", "wider", ("layer0.filter_size", "layer2.filter_size"), (64, 128))
LIMIT = Directive("limit", "at most 40k", metric="params", sense="max", bound=40_000.0)
AIM = Directive("aim", "accurate", metric="accuracy", sense="min", bound=0.7, note="trial 3's")
ORDER = Directive("order", "size first", objectives=("params:min", "accuracy:max"))
COMMENT = Directive("comment", "I like <b>layer 0</b> & 3 others")


class Told:
    """A run of the space `layered` that grows: `search` and `train` add trials, `say` a turn."""

    def __init__(self, folder, seed=0):
        self.folder, self.rng, self.number, self.clock = folder, np.random.default_rng(seed), 0, 1e9
        explained_info("layered").write(folder)
        self.worth = {64: 0.1, 128: 0.15}

    @property
    def info(self):
        return RunInfo.read(self.folder)

    @property
    def result(self):
        return SearchResult(self.folder)

    def design(self, number):
        return self.result.architecture(number)

    def search(self, count, space=None, purpose="search"):
        """Random designs of what is allowed; those beyond a limit are refused."""
        space = space or self.info.allowed
        self._add([(space.sample(self.rng), purpose) for _ in range(count)])

    def train(self, design, accuracies, purpose="confirm", **fields):
        """Fresh trainings of a design with these readings."""
        self._add([(design, purpose)] * len(accuracies), accuracies, **fields)

    def say(self, move, directives=(), **fields):
        said = self.info.said
        number = len(said) + 1
        fields.setdefault("said", "; ".join(d.words for d in directives))
        turns.append(
            self.folder, Turn(number, 1.7e9 + number, move, directives=tuple(directives),
                              since=self.number, **fields)
        )  # fmt: skip
        return number

    def _add(self, designs, accuracies=None, fidelity=12, latency=None):
        archive, constraints = Archive(self.folder), self.info.constraints
        for i, (design, purpose) in enumerate(designs):
            params = 4000.0 * sum(o != "relu" for _, o in design.choices) / 3
            wide = [o for n, o in design.choices if n.endswith("filter_size")]
            accuracy = (
                0.5 + np.mean([self.worth.get(o, 0) for o in wide]) + self.rng.normal(0, 0.02)
            )
            metrics = {"accuracy": accuracy if accuracies is None else accuracies[i],
                       "params": params}  # fmt: skip
            metrics |= {} if latency is None else {"latency_ms": latency}
            reason = Reason("random", "drawn")
            job = Job(self.number, Proposal(design, reason, purpose=purpose), 0, {}, self.clock)
            broken = [c for c in constraints if c.metric == "params" and not c.holds(metrics)]
            trial = Trial(self.number, design, "finished", metrics, fidelity, (metrics,) * fidelity,
                          purpose, started_at=self.clock, seconds=3.0)  # fmt: skip
            if broken:
                trial = Trial(self.number, design, "infeasible", {"params": params},
                              purpose=purpose, started_at=self.clock,
                              error=f"params {params:g} > {broken[0].bound:g}")  # fmt: skip
            archive.append([(job, None), (trial, None)])
            self.number += 1
            self.clock += 10
        archive.close()


def told_run(folder):
    """Three turns: feedback with a tested suggestion, a tested change that is taken back."""
    run = Told(folder)
    run.search(20, run.info.space.narrow({"num_layers": 4}))
    base = run.info.space.fit(run.design(3))
    run.say("feedback", (PIN, FORBID, PREFER, LIMIT, AIM, COMMENT), trial=3,
            said="kernel 5 at layer 1 <script>alert(1)</script>")  # fmt: skip
    edit = edit_of(run.info.space, base, PIN)
    run.train(base, [0.60, 0.61, 0.59, 0.605], latency=1.0)
    run.train(edit, [0.61, 0.60, 0.615, 0.60], "ablation", latency=1.21)
    run.search(15)
    run.say("modify", (TYPE,), trial=3)
    changed = edit_of(run.info.space, base, TYPE)
    run.train(changed, [0.66, 0.67, 0.665], "ablation")
    run.search(5)
    run.say("undo", undoes=2)
    run.search(5)
    return run
