"""A run as a user sees it: tables, front, claims, words and trained models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import search_spaces
from raynas import asking, explained, measured, tables
from raynas.architecture import changes
from raynas.columns import busy_seconds
from raynas.compressing import with_compression
from raynas.errors import UserError
from raynas.explained import Designs, Layers
from raynas.explanation import claims as claim_files
from raynas.explanation import telling
from raynas.explanation.checking import Rephrase
from raynas.explanation.choosing import LEVELS
from raynas.explanation.claims import Claim
from raynas.explanation.findings import Findings
from raynas.files import place, read_table
from raynas.front import front_of
from raynas.history import history
from raynas.one_shot import CHOICES, LOG, SCHEMA
from raynas.recipe import with_training
from raynas.run import RunInfo, as_kept, read
from raynas.session import Evaluator
from raynas.space import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

    from raynas.feedback import Interpreter
    from raynas.progress import Display
    from raynas.specialize import Specialized

__all__ = ["LEVELS", "SearchResult", "busy_seconds", "load"]


def load(run: str | Path, space: Space | Callable[..., Any] | str | None = None) -> SearchResult:
    """Opens a run to look at, also while it is being written; needs no ray and no torch.

    Args:
        space: your own space, if it was one and its networks are to be built again: reading a
            run never executes a file that the run names.

    Raises:
        ArchiveError: there is no run there.
    """
    result = SearchResult(place(run))
    if space is not None:
        from raynas.choices import as_space

        data = result.info.data
        shape = tuple(data["input_shape"]) if data else (3, 32, 32)
        code = as_space(space, shape, data["num_classes"] if data else 10)
        result = SearchResult(place(run), code)
    return result


class SearchResult:
    """A run: its trials, proposals, claims, front and models.

    Attributes:
        path: the run's folder.
        info: problem, space and settings.
        interrupted: whether it was ended by hand before its budget was used.
        ended_because: why it ended before its budget was used otherwise; '' if it did not.
        evaluator: what measured the designs, of a search that ended just now.
    """

    def __init__(
        self,
        path: Path,
        code: Space | None = None,
        interrupted: bool = False,
        ended_because: str = "",
        evaluator: Evaluator | Callable[..., Any] | None = None,
    ) -> None:
        self.path = path
        self.info = RunInfo.read(path)
        self._code = code
        self.interrupted = interrupted
        self.ended_because = ended_because
        self.evaluator = evaluator
        self._contents = read(path, self.info.space)

    @cached_property
    def notes(self) -> list[str]:
        """What was found broken on disk and passed over, and warnings of a shared training."""
        log = self.path / LOG
        warnings = json.loads(log.read_text())["notes"] if log.exists() else []
        return [*self._contents.notes, *warnings]

    @cached_property
    def choices(self) -> pd.DataFrame:
        """How what decides between options developed: epoch, decision, option, chance.

        Of strategies that train shared weights and decide meanwhile; empty otherwise.
        """
        path = self.path / CHOICES
        table = read_table(path) if path.exists() else SCHEMA.empty_table()
        data: pd.DataFrame = table.to_pandas()
        return data

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial; columns in `raynas.tables`."""
        return tables.frame(self._contents.trials)

    @cached_property
    def proposals(self) -> pd.DataFrame:
        """The explanation log: one row per proposal, with its reason and candidates."""
        return tables.frame(self._contents.proposals)

    @property
    def claims(self) -> pd.DataFrame:
        """The claims that were written when the search last ended."""
        return claim_files.read(self.path / "claims")

    @cached_property
    def measured(self) -> pd.DataFrame:
        """The costs of the front's designs as measured end to end when the search last ended:

        number, metric, estimate, measured, device, note; empty where no such cost was asked for.
        Only of designs that are still on the front.
        """
        rows = measured.read(self.path)
        return rows[rows["number"].isin(self.front()["number"])]

    def front(self) -> pd.DataFrame:
        """The finished trials on the Pareto front, best in the first objective first."""
        return front_of(self.trials, self.info)

    def why_no_front(self) -> str:
        """Says why no design stands on the front."""
        names = [f"m.{o.name}" for o in self.info.objectives]
        ended = self.trials[self.trials["status"] == "finished"]
        done = len(ended.dropna(subset=names)) if {*names} <= {*ended.columns} else 0
        if not done:
            return "No design was trained to the end."
        bounds = [str(c) for c in self.info.constraints]
        bounds += ["what was asked for"] if self.info.now.left else []
        return f"{done} designs were trained to the end, but none keeps {', '.join(bounds)}."

    @property
    def architecture(self) -> Designs:
        """The best design of the front; called, that of a trial: `result.architecture(17)`."""
        return Designs(self)

    @property
    def performance(self) -> dict[str, float]:
        """The best design's readings by name, on the test split and of fresh seeds too."""
        return explained.performance(self)

    @property
    def explanations(self) -> Layers:
        """What is known of each layer of the best design: `result.explanations[3]`."""
        return Layers(self)

    def get_model(
        self,
        trial: int | None = None,
        *,
        max_params: float | None = None,
        max_flops: float | None = None,
        max_latency_ms: float | None = None,
    ) -> nn.Module:
        """A trained network of the front, in eval mode; None is the best in the first objective.

        It takes images `[N, C, H, W]` normalized by `info.data["mean"]` and `["std"]`.

        Args:
            max_params, max_flops, max_latency_ms: limits, instead of a trial: the network is the
                best within them by the weights that the search's designs share, without training
                (see `specialize`).

        Raises:
            UserError: the trial is not on the front, so that its weights were not kept; or there
                are limits and no shared weights.
        """
        from safetensors.torch import load as read_weights

        from raynas.compression import unpack

        bounds = {"params": max_params, "flops": max_flops, "latency_ms": max_latency_ms}
        limits = {name: bound for name, bound in bounds.items() if bound is not None}
        if limits and trial is not None:
            raise UserError("expected a trial or limits; got both. Leave one of them away.")
        if limits:
            return self.specialize(limits).model

        row = self._row(trial)
        weights = self.path / f"models/{row['number']}.safetensors"
        if not weights.exists():
            kept = ", ".join(str(n) for n in self.front()["number"]) or "none"
            raise UserError(
                f"the weights of trial {row['number']} were not kept: only those of the front are "
                f"(trials {kept})."
            )
        code, data = self.code, self.info.data
        if code is None or code.build is None:
            raise UserError(self.why_no_code())
        design = self.architecture(int(row["number"]))
        model = code.build(design, tuple(data["input_shape"]), data["num_classes"])
        unpack(model, read_weights(weights.read_bytes()))
        return model.eval()

    def export(
        self, trial: int | None = None, format: str = "python", out: str | Path | None = None
    ) -> Path:
        """Writes a trained network of the front for use elsewhere; returns the file.

        Args:
            trial: None is the best in the first objective.
            format: `python` (one file of plain PyTorch code, its weights beside it), `onnx`,
                `torch-export` or `safetensors`.
            out: the file; None is one under `exports` in the run's folder.

        Raises:
            UserError: see `raynas.export`.
        """
        from raynas.export import export

        return export(self, trial, format, out)

    def specialize(
        self, limits: Mapping[str, float], evaluations: int = 100, seed: int = 0
    ) -> Specialized:
        """The best design within limits by the shared weights of the search, untrained.

        Designs that the search scored are where it begins; so many more are scored. After one
        search there is a network for every budget (Cai et al. 2020, arXiv:1908.09791).

        Args:
            limits: the most of `params`, `flops` or `latency_ms` (as measured here and now).

        Raises:
            UserError: the search had no shared weights, its data cannot be loaded again, or no
                design keeps the limits.
        """
        from raynas.specialize import specialize

        return specialize(self, limits, evaluations, seed)

    @cached_property
    def code(self) -> Space | None:
        """The space with what builds its networks; None if only its decisions are known."""
        text, code = self.info.settings["space"], self._code
        if code is None and text is not None and ".py" not in text:
            code = search_spaces.find(text)
        if code is None:
            return None
        settings = self.info.settings
        if settings.get("search_compression") and "compress.late.bits" not in code.by_name:
            code = with_compression(code)
        if settings["search_training"] and "train.optimizer" not in code.by_name:
            code = with_training(code)
        return as_kept(code, self.info)

    def why_no_code(self) -> str:
        """Says how to give the code of an own space, which reading a run never executes."""
        file = self.info.settings["space"]
        if not self.info.data:
            return f"{self.path} was searched with an evaluator of your own: it has no networks."
        typed = f" (on the command line: --space {file})" if file else ""
        given = repr(file) if file else "what you searched"
        return (
            f"{self.path} was searched in a space of your own, whose code reading a run does not "
            f"execute by itself: use raynas.load({str(self.path)!r}, space={given}){typed}."
        )

    def layers(self, trial: int | None = None) -> list[dict[str, Any]]:
        """The network of a trial layer by layer (`raynas.costs.layers`); empty without code."""
        code, data = self.code, self.info.data
        if code is None or code.build is None or not data:
            return []
        from raynas.costs import layers

        shape = tuple(data["input_shape"])
        return layers(code, self.architecture(trial), shape, data["num_classes"])

    def explain(self, trial: int | None = None) -> list[Claim]:
        """Computes all claims from the trials as they are now, most telling first.

        Args:
            trial: the design whose choices are explained; None is the best of the front.
        """
        findings = self._findings()
        number = None
        if trial is not None or len(findings.front):
            number = int(self._row(trial)["number"])
        return findings.all(number, self.layers(number) if number is not None else [])

    def _findings(self) -> Findings:
        space = self.code or self.info.space  # the code knows which designs are one network
        info = replace(self.info, space=space)
        audited = claim_files.read(self.path / "claims", claim_files.AUDITED)
        return Findings(
            info,
            self.trials,
            self.choices,
            self.proposals,
            audited if len(audited) else None,
            explained.costs(self),
            history(self.path, self.info.said),
        )

    def write_claims(self, rephrase: Rephrase | None = None) -> None:
        """Makes the claims anew and keeps them in the run, with the sentences that say them."""
        found = self.explain()
        claim_files.write(self.path / "claims", found)
        telling.write(self.path / "sentences", telling.tell(found, rephrase))

    @property
    def sentence_table(self) -> pd.DataFrame:
        """Every sentence with its claims, as last written: see `raynas.explanation.telling`."""
        return telling.read(self.path / "sentences")

    def sentences(self, level: str | None = None, rephrase: Rephrase | None = None) -> list[str]:
        """The claims worth saying first, in words, and how many comparisons can be told.

        Args:
            level: `brief`, `standard` or `detailed`; None is that of the search.
            rephrase: words a text anew, given its claims: with a language model, for example. What
                is not faithful to the claims is dropped (`raynas.explanation.checking`).
        """
        return explained.sentences(self, level, rephrase)

    def get_architecture_report(self, rephrase: Rephrase | None = None) -> str:
        """The best design and what is known of it, as text."""
        if not len(self.front()):
            return self.why_no_front()
        return "\n".join([str(self.architecture()), "", *self.sentences(rephrase=rephrase)])

    def get_design_principles_learned(self, rephrase: Rephrase | None = None) -> str:
        """What holds over the space, with intervals and support; says where nothing may be said."""
        return explained.principles(self, rephrase)

    def get_explanation_for_layer(self, layer: int, trial: int | None = None) -> str:
        """What is known of each choice in a layer of a design, and of its alternatives.

        Args:
            layer: from 0, as `layers` counts them.

        Raises:
            UserError: the design has no such layer.
        """
        return explained.layer_text(*self.layer_claims(layer, trial), layer)

    def layer_claims(self, layer: int, trial: int | None = None) -> tuple[str, list[Claim]]:
        """A layer's name, and the claims that `get_explanation_for_layer` words."""
        return explained.of_layer(self, layer, trial)

    def why(self, decision: str, trial: int | None = None) -> str:
        """All that is known of one decision, such as `layer3.kernel_size`, in a design."""
        return asking.decision(self, decision, trial)

    def why_not(self, edits: str, trial: int | None = None) -> str:
        """What other options, such as `layer3.kernel_size=5,layer3.width=16`, would change."""
        return asking.why_not(self, edits, trial)

    def versus(self, other: int, trial: int | None = None) -> str:
        """Why a design (None is the best) and not that of another trial."""
        return asking.versus(self, other, trial)

    def continue_with_feedback(
        self,
        feedback: str | Mapping[str, Any],
        *,
        trials: int | None = None,
        time_budget_hours: float | None = None,
        interpreter: Interpreter | None = None,
        display: Display | None = None,
    ) -> SearchResult:
        """Goes on with this search, changed by what you say: see `raynas.continuing`.

        Args:
            feedback: words, or a dict such as `{"layer_3": {"comment": "larger receptive field",
                "suggestion": {"kernel_size": 5}}, "constraint_update": {"prioritize":
                "accuracy_over_size"}}`.
            trials, time_budget_hours: how much further; None is what the search had itself.

        Raises:
            UserError: something was not understood or cannot be had; nothing is changed then.
        """
        from raynas.continuing import continue_with_feedback

        return continue_with_feedback(
            self.path,
            feedback,
            trials=trials,
            time_budget_hours=time_budget_hours,
            interpreter=interpreter,
            space=self._code,
            evaluator=self.evaluator,
            display=display,
        )

    def visualize_decision_tree(self) -> Figure:
        """The decision tree of the space (a matplotlib figure), with how well it predicts."""
        return explained.tree(self)

    def draw(self, trial: int | None = None) -> Figure:
        """A picture of a design (a matplotlib figure, which notebooks show): layers and cells."""
        from raynas.drawing import draw

        design = self.architecture(trial)
        graphs = self.code.graphs(design) if self.code and self.code.graphs else {}
        return draw(design, self.layers(trial), graphs)

    def diff(self, a: int, b: int) -> list[tuple[str, Any, Any]]:
        """Decision, option in trial a, option in trial b, wherever they differ."""
        return list(changes(self.architecture(a), self.architecture(b)))

    def _row(self, trial: int | None) -> Any:
        if trial is None:
            front = self.front()
            if not len(front):
                raise UserError(f"{self.path}: {self.why_no_front()}")
            return front.iloc[0]
        rows = self.trials[self.trials["number"] == trial]
        if not len(rows):
            last = self.trials["number"].max() if len(self.trials) else "none"
            raise UserError(f"{self.path} has no trial {trial}; the last one is {last}.")
        return rows.iloc[0]
