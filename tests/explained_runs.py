"""Runs with every kind of claim, made by hand: nothing is trained, nothing estimated."""

import json
import math
from datetime import UTC, datetime
from itertools import combinations

import numpy as np

import search_spaces
from raynas.architecture import option_text
from raynas.archive import Archive
from raynas.explanation.claims import Claim, identify, write
from raynas.problem import Problem
from raynas.result import SearchResult
from raynas.run import RunInfo
from raynas.trial import Job, Proposal, Reason, Trial

REFERENCE = 0.5
BOUGHT = {10: "uniform_probe", 15: "uniform_probe", 40: "confirm", 41: "confirm", 42: "ablation"}
BOUGHT |= {20: "uniform_probe", 25: "uniform_probe", 43: "confirm", 44: "audit", 45: "audit"}


def explained_info(space, objectives=("accuracy:max", "params:min")):
    settings = {"space": space, "explanation_level": "detailed", "seed": 0, "recipe": {}}
    settings |= {"search_training": False, "evaluation": "train"}
    data = {"name": "digits", "sizes": {"validation": 360, "test": 360}}
    data |= {"input_shape": [1, 8, 8], "num_classes": 10}
    problem = Problem.of({"objectives": list(objectives)})
    command = f"raynas search --space {space}"
    return RunInfo(problem, search_spaces.find(space), settings, data, {"raynas": "0"}, command)


def explained_trials(info, count=60, seed=0):
    """Random designs at first, then children of the best; some are bought for certainty."""
    rng = np.random.default_rng(seed)
    space = info.space
    worth = {d.name: rng.normal(0, 0.3, len(d.options)) for d in space.decisions}
    found, clock = [], 1.7e9
    for number in range(count):
        purpose = BOUGHT.get(number, "search")
        parents = sorted(found, key=lambda t: -t.metrics["accuracy"])[:3]
        if purpose in ("search", "ablation") and number > 15:
            parent = parents[rng.integers(len(parents))]
            design = space.mutate(parent.architecture, rng)
            reason = Reason.child("mutation", "a change of one of the best", parent, design)
        elif purpose == "confirm":
            design, reason = (
                parents[0].architecture,
                Reason("derived", "again", (parents[0].number,)),
            )
        else:
            design, reason = space.sample(rng), Reason("random", "drawn from the whole space")
        logit = (
            sum(worth[n][space.by_name[n].options.index(o)] for n, o in design.choices)
            + 0.1 * rng.normal()
        )
        accuracy = 1 / (1 + math.exp(-logit - 0.5))
        metrics = {
            "accuracy": accuracy,
            "loss": 1 - accuracy,
            "params": 1000.0 + 900 * rng.integers(1, 40),
        }
        times = {"started_at": clock, "seconds": 12.0 + 5 * rng.random()}
        clock += times["seconds"]
        common = {"fidelity": 12, "curve": (metrics,) * 12, "purpose": purpose, "reason": reason}
        found.append(Trial(number, design, "finished", metrics, **common, **times))
    return found


def explained_run(folder, space="nasbench201", count=60, claims=None, info=None):
    """The run on disk.

    Args:
        claims: made from (info, result) in place of `every_kind`.
    """
    info = info or explained_info(space)
    info.write(folder)
    archive = Archive(folder)
    entries = []
    for t in explained_trials(info, count):
        proposal = Proposal(t.architecture, t.reason, purpose=t.purpose)
        entries += [(Job(t.number, proposal, 0, {}, t.started_at), None), (t, None)]
    archive.append(entries)
    archive.close()
    write(folder / "claims", (claims or every_kind)(SearchResult(folder)))
    return SearchResult(folder)


def make(kind, tier, verdict, about, **fields):
    """One claim about the accuracy of digits."""
    fields.setdefault("metric", "accuracy")
    fields.setdefault("unit", "1")
    if "estimate" in fields and "ci_low" not in fields:
        wide = fields.pop("wide", 0.02)
        fields |= {"ci_low": fields["estimate"] - wide, "ci_high": fields["estimate"] + wide}
    fields.setdefault("ci_kind", "posterior")
    p_sign = {"asserts": 0.999, "leans": 0.96, "open": 0.7}.get(verdict)
    return Claim(
        identify("rows", kind, about, fields.get("family")),
        kind,
        tier,
        verdict,
        about,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        method="made by hand",
        snapshot="rows",
        dataset="digits",
        fidelity=12.0,
        **{"p_sign": p_sign, "n_trials": 60, **fields},
    )


def every_kind(result):
    """Claims of every kind about a run, of every verdict."""
    best = result.front().iloc[0]
    number, design = int(best["number"]), result.architecture()
    return [
        *_measured(number, best),
        *_attributions(number, design),
        *_contrasts(result, number, design),
        *_importances(result, number, design),
        *_rules(number, design),
        *_short_forms(),
        *_recorded(result, number, design),
    ]


def _measured(number, best):
    reading, expected = float(best["m.accuracy"]), float(best["m.accuracy"]) - 0.012
    costs = {"params": float(best["m.params"])}
    yield make("performance", "measured", "asserts", f"trial {number}", trial=number,
               estimate=reading, side_effects=costs, trial_ids=[number])  # fmt: skip
    yield make("confirmation", "measured", "asserts", f"trial {number} again", trial=number,
               estimate=expected, wide=0.008, n_seeds=3, trial_ids=[40, 41, 43],
               side_effects={"reading": reading, "excess": 0.012})  # fmt: skip
    yield make("audit", "measured", "asserts", "audit", estimate=0.8, ci_low=0.49, ci_high=0.96,
               unit="share", n_trials=10, trial_ids=[44, 45],
               side_effects={"right": 8.0, "expected": 9.1})  # fmt: skip
    yield make("tradeoff", "measured", "open", "trial 3 against trial 5", trial=3, chosen="3",
               alternative=str(number), estimate=-0.01, wide=0.03,
               side_effects={"params": 0.55})  # fmt: skip


def _attributions(number, design):
    parts = np.linspace(0.09, -0.03, len(design.choices)) * 6 / len(design.choices)
    levels = {"reference": REFERENCE, "design": REFERENCE + float(parts.sum())}
    for i, ((name, option), part) in enumerate(zip(design.choices, parts, strict=True)):
        verdict = ("asserts", "leans", "open")[min(i // 2, 2)]
        yield make("attribution", "estimated", verdict, name, trial=number, path=name,
                   chosen=option_text(option), alternative="average", estimate=float(part),
                   family=f"attribution of trial {number}", side_effects=levels)  # fmt: skip


def _contrasts(result, number, design):
    audits = {1: ("confirmed", 0.05), 2: ("refuted", -0.03)}
    count = 0
    for name, option in design.choices:
        for other in result.info.space.by_name[name].options:
            if other == option:
                continue
            verdict = ("asserts", "leans", "open", "null")[count % 4]
            tier = "proven" if verdict == "null" else "measured" if count in (4, 9) else "estimated"
            estimate = 0.0 if verdict == "null" else 0.06 - 0.011 * (count % 11)
            status, read = audits.get(count, ("open", None))
            yield make("contrast", tier, verdict, f"{name}={other}", trial=number, path=name,
                       chosen=option_text(option), alternative=option_text(other),
                       estimate=estimate, wide=0.0 if verdict == "null" else 0.03, n_direct=7,
                       n_seeds=1 if tier == "measured" else None, trial_ids=[number, 42],
                       alternatives=[{"value": str(other), "trained": tier == "measured"}],
                       status=status, audit_estimate=read,
                       audit_trial_ids=[44, 45] if read is not None else [])  # fmt: skip
            count += 1


def _importances(result, number, design):
    names = [d.name for d in result.info.space.decisions][:20]
    for family in ("whole space", "top decile", f"around trial {number}"):
        for i, name in enumerate(names):
            share = 0.2 / (i + 1) ** (1.5 if family == "whole space" else 1.0)
            verdict = "asserts" if i < 3 else "open"
            yield make("importance", "estimated", verdict, f"{name} {family}", path=name,
                       estimate=share, wide=0.2 * share, unit="share", family=family)  # fmt: skip
    yield make("importance", "estimated", "open", "rest", estimate=0.21, wide=0.05, unit="share",
               family="whole space")  # fmt: skip
    for i, (a, b) in enumerate(list(combinations(names[:6], 2))[:8]):
        yield make("interaction", "estimated", "leans", f"{a} with {b}", path=a, alternative=b,
                   estimate=0.08 / (i + 1), wide=0.01, unit="share",
                   family="whole space")  # fmt: skip
    for i, name in enumerate(names[:5]):
        d = result.info.space.by_name[name]
        yield make("effect", "estimated", ("asserts", "leans", "open")[i % 3], f"effect {name}",
                   path=name, chosen=option_text(d.options[-1]),
                   alternative=option_text(d.options[0]), estimate=0.04 - 0.01 * i, n_direct=30,
                   family="whole design", family_size=5, lfsr=0.01 * i)  # fmt: skip


def _rules(number, design):
    (name, option), (other, second) = design.choices[:2]
    for i, rule in enumerate((f"{name}={option_text(option)}",
                              f"{name}={option_text(option)} and {other}={option_text(second)}",
                              "longest path, convolutions >= 2")):  # fmt: skip
        scope = {"type": "space", "predicate": rule, "support": 0.2 / (i + 1), "n_in_scope": 12}
        yield make("principle", "estimated", ("asserts", "leans", "open")[i], rule, path=rule,
                   estimate=0.05 - 0.03 * i, scope=scope, n_direct=44, ci_kind="prediction-powered",
                   side_effects={"violations": 0.12, "probes": 44.0})  # fmt: skip
    yield make("motif", "estimated", "leans", "input > 3x3 > output",
               chosen="input > nor_conv_3x3 > output", estimate=0.03,
               side_effects={"good": 0.8, "rest": 0.15})  # fmt: skip
    for i, (name, option) in enumerate(design.choices[:3]):
        family = "saving" if i < 2 else "best untried edit"
        yield make("advice", "estimated", "leans" if i else "asserts", f"{family} {name}",
                   trial=number, path=name, chosen=option_text(option), alternative="something",
                   estimate=-0.004 * (i + 1) if i < 2 else 0.011, wide=0.01, family=family,
                   side_effects={"params": 0.64 + 0.2 * i, "flops": 0.7 + 0.2 * i})  # fmt: skip


def _short_forms():
    terms = [("layers", 2.5), ("nowhere to be found", -4.0)]
    hits = {"random": 0.84, "top": 0.65, "edit": 0.83}
    yield make("scorecard", "estimated", "open", "2 terms", estimate=0.84, unit="share",
               alternatives=[{"value": t, "estimate": p} for t, p in terms],
               side_effects={**hits, "base": 3.0})  # fmt: skip
    nodes = [
        _node("nor_conv_3x3 alive", 1.5, 1, 2, 0.6, 1.0),
        _node(None, None, None, None, 0.4, 0.25),
        _node("cell.node3.from_0 is none", 0.5, 3, 4, 0.7, 0.75),
        _node(None, None, None, None, 0.8, 0.5),
        _node(None, None, None, None, 0.5, 0.25),
    ]
    yield make("tree", "estimated", "open", "3 leaves", estimate=0.78, unit="share",
               side_effects={"random": 0.78, "top": 0.53, "edit": 0.69, "leaves": 3.0},
               method_args=json.dumps(nodes))  # fmt: skip


def _node(term, threshold, below, beyond, estimate, share):
    return dict(term=term, threshold=threshold, below=below, beyond=beyond, estimate=estimate,
                share=share)  # fmt: skip


def _recorded(result, number, design):
    row = result.proposals.set_index("number").loc[number]
    parents = [int(p) for p in row["parents"]]
    yield make("provenance", "recorded", "open", f"trial {number} made", trial=number,
               chosen=str(row["kind"]), alternative=f"trial {parents[0]}" if parents else None,
               estimate=0.013, ci_low=None, ci_high=None, side_effects={"predicted": 0.02},
               proposal_ids=[number])  # fmt: skip
    yield make("provenance", "recorded", "open", "by mutation", chosen="mutation", n_trials=40,
               estimate=0.1, ci_low=None, ci_high=None, family="kinds of proposals",
               side_effects={"improved": 5.0})  # fmt: skip
    for name, option in design.choices[:2]:
        yield make("belief", "recorded", "open", f"belief {name}", path=name,
                   chosen=option_text(option), estimate=0.7, ci_low=None, ci_high=None,
                   unit="share", side_effects={"first": 0.2})  # fmt: skip
