"""What a result says of itself: its best design, its layers, the principles it learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from raynas import targets
from raynas.architecture import Architecture, Option
from raynas.errors import UserError
from raynas.explanation.checking import Rephrase, rephrased
from raynas.explanation.choosing import LEVELS, chosen
from raynas.explanation.claims import Claim, from_frame, snapshot
from raynas.explanation.sentences import plural, sentence, summary
from raynas.explanation.space_sentences import FEWEST_PROBES
from raynas.objective import COSTS, COUNTS, Metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from raynas.costs import Latencies
    from raynas.result import SearchResult

OF_LAYER = ("attribution", "contrast", "advice")  # kinds of claims about a layer's decisions


class Designs:
    """`result.architecture`: the best design of the front; called with a trial, that trial's.

    `result.architecture()` and `result.architecture(17)` return an `Architecture`; printed or
    indexed as it stands, it is the best one.
    """

    def __init__(self, result: SearchResult) -> None:
        self._result = result

    def __call__(self, trial: int | None = None) -> Architecture:
        """The design of a trial; None is the best of the front."""
        return self._result.info.space.parse(str(self._result._row(trial)["architecture"]))

    @property
    def options(self) -> Mapping[str, Option]:
        """Active decision name -> chosen option, of the best design."""
        return self().options

    def __getitem__(self, name: str) -> Option:
        return self()[name]

    def __contains__(self, name: object) -> bool:
        return name in self()

    def __str__(self) -> str:
        return str(self())

    __repr__ = __str__


class Layers(Sequence[str]):
    """`result.explanations`: what is known of each layer of the best design, by its number."""

    def __init__(self, result: SearchResult) -> None:
        self._result = result
        self._parts = layer_decisions(result)

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, layer: int) -> str: ...

    @overload
    def __getitem__(self, layer: slice) -> Sequence[str]: ...

    def __getitem__(self, layer: int | slice) -> str | Sequence[str]:
        if isinstance(layer, slice):
            return [self[i] for i in range(len(self))[layer]]
        if not -len(self) <= layer < len(self):
            raise IndexError(f"expected a layer from 0 to {len(self) - 1}; got {layer}.")
        return self._result.get_explanation_for_layer(range(len(self))[layer])

    def __str__(self) -> str:
        return "\n\n".join(
            f"{name}\n{text}" for (name, _), text in zip(self._parts, self, strict=True)
        )


def performance(result: SearchResult) -> dict[str, float]:
    """The best design's readings: objectives, test split, costs, and `confirmed_...` means.

    `confirmed_accuracy` is the mean over fresh seeds, if the search bought any: the number to
    expect, as the search's own reading is the best of many.
    """
    row = result._row(None)
    first = [o.name for o in result.info.objectives]
    names = dict.fromkeys([*first, *(f"test_{n}" for n in first), *COSTS, *_metrics(row)])
    found = {n: float(row[f"m.{n}"]) for n in names if not pd.isna(row.get(f"m.{n}"))}
    for c in from_frame(result.claims):
        if c.kind == "confirmation" and c.trial == row["number"] and c.estimate is not None:
            found[f"confirmed_{c.metric}"] = c.estimate
    return {"trial": int(row["number"]), "epochs": int(row["fidelity"]), **found}


def sentences(
    result: SearchResult, level: str | None = None, rephrase: Rephrase | None = None
) -> list[str]:
    """See `SearchResult.sentences`."""
    level = level or str(result.info.settings["explanation_level"])
    if level not in LEVELS:
        raise UserError(f"level: expected one of {', '.join(LEVELS)}; got {level!r}.")
    found = from_frame(result.claims)
    table = result.sentence_table
    kept = dict(zip(table["claim_ids"].map(tuple), table["text"], strict=True))
    texts = []
    for c in chosen(found, LEVELS[level]):
        text = kept.get((c.claim_id,)) or sentence(c)
        texts.append(text if rephrase is None else rephrased(sentence(c), [c], rephrase, found)[0])
    return [*texts, summary(found)]


def principles(result: SearchResult, rephrase: Rephrase | None = None) -> str:
    """See `SearchResult.get_design_principles_learned`."""
    found = from_frame(result.claims)
    trials = result.trials
    probes = int(((trials["purpose"] == "uniform_probe") & trials["status"].isin(
        ["finished", "stopped_early"])).sum())  # fmt: skip
    learned = [c for c in found if c.kind == "principle"]
    said = [c for c in learned if c.verdict == "asserts"]
    rest = [c for c in learned if c.verdict == "leans"]
    lines = [_about_probes(result, probes)]
    for title, group in (("Learned:", said), ("Likely, not certain:", rest)):
        if group:
            lines += ["", title]
            lines += [f"- {rephrased(sentence(c), [c], rephrase, found)[0]}" for c in group]
    if not said and not rest and probes:
        lines.append("No rule can be told from chance.")
    return "\n".join(lines)


def _about_probes(result: SearchResult, probes: int) -> str:
    """How many designs were drawn uniformly, and what may be said with so many."""
    how = (
        "A search of 200 trials or more with explanation_level='standard' draws 40 "
        "(--trials 200 --explanation standard)"
    )
    if result.info.screening is not None:
        return "Designs were scored, not trained: what a score rates high is no principle."
    if not probes:
        return (
            "No principle was learned: no design was drawn uniformly from the space, and the "
            f"designs that a search chooses cannot tell what holds in general. {how}."
        )
    many = f"{plural(probes, 'design')} drawn uniformly from the space ('probes')"
    if probes < FEWEST_PROBES:
        return (
            f"Nothing is asserted: there were {many}, and below {FEWEST_PROBES} intervals are too "
            f"narrow to trust. {how}."
        )
    return f"Rests on {many}, which tell what holds beyond the designs that the search chose."


def tree(result: SearchResult) -> Figure:
    """See `SearchResult.visualize_decision_tree`."""
    found = [c for c in from_frame(result.claims) if c.kind == "tree" and c.method_args]
    if not found:
        raise UserError(
            f"{result.path} holds no decision tree: expected 8 trials or more with readings that "
            f"differ; got {len(result.trials)} trials. Search on, or write its claims anew "
            "(raynas report RUN)."
        )
    from raynas.explanation.picture import decision_tree

    return decision_tree(found[0])


def known(result: SearchResult, trial: int) -> list[Claim]:
    """The claims about a design: those that were written, if they are of these trials."""
    data = result.claims
    of_it = (data["kind"] == "contrast") & (data["trial"] == trial)
    if of_it.any() and set(data["snapshot"]) == {snapshot(result.trials)}:
        return from_frame(data)
    return result.explain(trial)


def of_layer(result: SearchResult, layer: int, trial: int | None) -> tuple[str, list[Claim]]:
    """See `SearchResult.layer_claims`."""
    made = layer_decisions(result, trial)
    if not made:
        raise UserError("this space has no layers; its decisions are about the whole design.")
    if not 0 <= layer < len(made):
        raise UserError(
            f"expected a layer from 0 to {len(made) - 1}; got {layer}: the design has "
            f"{len(made)} layers."
        )
    name, decisions = made[layer]
    number = int(result._row(trial)["number"])
    found = [c for c in known(result, number) if c.trial == number and c.path in decisions]
    return name, [c for kind in OF_LAYER for c in found if c.kind == kind]


def layer_text(name: str, claims: Sequence[Claim], layer: int) -> str:
    """See `SearchResult.get_explanation_for_layer`."""
    if not claims:
        return f"Layer {layer} ({name}) is the same in every design: nothing was chosen in it."
    return "\n".join(map(sentence, claims))


def layer_decisions(
    result: SearchResult, trial: int | None = None
) -> list[tuple[str, Sequence[str]]]:
    """The layers of a design, as `layers` counts them: name and decisions.

    Raises:
        UserError: the network cannot be built, so that nobody knows its layers.
    """
    design = result.architecture(trial)
    made = [(str(row["name"]), row["decisions"]) for row in result.layers(trial)]
    if not made and result.info.data:
        raise UserError(result.why_no_code())
    if made:
        return made
    # only the decisions are known: those of one layer have its name
    names = dict.fromkeys(n.rpartition(".")[0] for n in design.options if "." in n)
    return [(n, [d for d in design.options if d.startswith(f"{n}.")]) for n in names]


def costs(result: SearchResult) -> Callable[[Architecture], Metrics] | None:
    """What any design costs, as far as its search was told it: counts are exact, a latency is that
    of the run's table. None without code that builds designs."""
    code, data = result.code, result.info.data
    if code is None or code.build is None or not data:
        return None
    from raynas.costs import costs_of

    shape, classes = tuple(data["input_shape"]), data["num_classes"]
    names, table = targets.beforehand(result.info.problem), _latencies(result)
    if table is not None:
        names = (*names, "latency_ms")

    @cache
    def counted(design: Architecture) -> Metrics:
        for told, known in ((names, table), (COUNTS, None)):  # the table may lack an operation
            try:
                return costs_of(code, design, shape, classes, told, known)
            except Exception:  # it cannot be built: so its trial would say
                continue
        return {}

    return counted


def _latencies(result: SearchResult) -> Latencies | None:
    """The table by which the search judged latencies, which is not measured further here."""
    kept, settings = result.path / targets.FILE, result.info.settings.get("latency")
    try:
        return targets.read(kept) if kept.exists() else settings and targets.ready(settings)
    except UserError:  # it was moved away
        return None


def _metrics(row: Any) -> Iterator[str]:
    return (str(n)[2:] for n in row.index if str(n).startswith("m."))
