"""What people say becomes directives: 150 phrasings written before the grammar, 60 after it."""

import fnmatch
import re
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import yaml

import search_spaces
from raynas.architecture import option_text
from raynas.directives import Directive, Turn, fold, in_words
from raynas.errors import UserError
from raynas.feedback import FORMS, Context, checked, directive_of, understand
from raynas.feedback.lexicon import WORDS
from raynas.problem import Problem
from tests.phrasings.contexts import CONTEXTS, context

HERE = Path(__file__).parent / "phrasings"


def cases(name):
    for where, items in yaml.safe_load((HERE / name).read_text()).items():
        for item in items:
            yield where, item


def as_list(value):
    return value if isinstance(value, list) else [value]


def matching(patterns, c):
    """The decisions that patterns such as `layer{5..15}.type` mean."""
    found = []
    for pattern in as_list(patterns):
        ranges = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
        numbers = range(int(ranges[1]), int(ranges[2]) + 1) if ranges else [None]
        for n in numbers:
            one = pattern if n is None else pattern.replace(ranges[0], str(n))
            found += [d.name for d in c.space.decisions if fnmatch.fnmatchcase(d.name, one)]
    assert found, f"{patterns} matches no decision of {c.space.name}"
    return found


def option_atoms(kind, paths, options, tested=False, confidence="medium"):
    return {(kind, path, tuple(sorted(map(str, o))), tested, confidence) for path, o in
            zip(paths, options, strict=True)}  # fmt: skip


def expected(item, c):
    """One atom per decision, bound, order... of what a phrasing should come to."""
    return set(chain.from_iterable(_expected(one, c) for one in item.get("means", ())))


def _expected(one, c):
    by_name = c.space.by_name
    for kind in ("pin", "forbid", "prefer"):
        if kind not in one:
            continue
        paths = matching(one[kind], c)
        key = "of" if kind == "forbid" else "to"
        if key in one:
            wanted = as_list(one[key])
            options = {p: [o for o in by_name[p].options if o in wanted] for p in paths}
            options = {p: o for p, o in options.items() if o and type(o[0]) is type(wanted[0])}
        else:
            options = {p: _beside(p, "above" in one, c) for p in paths if p in c.design}
            options = {p: o for p, o in options.items() if o}
        groups = {}  # decisions with the same options are tested together
        for p, o in options.items():
            groups.setdefault((by_name[p].leaf, tuple(o)), []).append(p)
        for (_, o), members in groups.items():
            on = [p for p in members if c.design and p in c.design]
            has = on and all(c.design[p] in o for p in on)
            tested = kind == "pin" and one.get("tested", not has)
            yield from option_atoms(
                kind, members, [o] * len(members), tested, one.get("confidence", "medium")
            )
    if "keep" in one:
        paths = [p for p in matching(one["keep"], c) if p in c.design]
        yield from option_atoms("pin", paths, [[c.design[p]] for p in paths])
    for kind in ("limit", "aim"):
        if kind in one:
            metric = one[kind]
            sense = "max" if "max" in one else "min"
            bound = one[sense]
            if bound == "best":
                bound = c.best[metric][0]
            elif isinstance(bound, str):
                bound = float(bound.rstrip("x")) * c.readings[metric]
            yield (kind, metric, sense, None if bound is None else f"{bound:.6g}")
    if "order" in one:
        yield ("order", *one["order"])
    if "try" in one:
        changed = {**c.design.options, **one["try"]}
        for name, option in one["try"].items():
            changed[name] = option
        yield ("try", tuple(sorted((p, str(o)) for p, o in one["try"].items())))
    if "comment" in one:
        yield ("comment", one["comment"])


def _beside(path, above, c):
    options = c.space.by_name[path].options
    at = options.index(c.design[path])
    return list(options[at + 1 :] if above else options[:at])


def understood(directives, c):
    return set(chain.from_iterable(_understood(d, c) for d in directives))


def _understood(d, c):
    if d.kind in ("pin", "forbid", "prefer"):
        by_name = c.space.by_name
        options = [[o for o in by_name[p].options if o in d.options] for p in d.paths]
        yield from option_atoms(d.kind, d.paths, options, d.tested, d.confidence)
    elif d.kind in ("limit", "aim"):
        yield (d.kind, d.metric, d.sense, None if d.bound is None else f"{d.bound:.6g}")
    elif d.kind == "order":
        yield ("order", *(o.partition(":")[0] for o in d.objectives))
    elif d.kind == "try":
        made = c.space.parse(d.architecture).options
        edits = [(p, str(o)) for p, o in made.items() if c.design.options.get(p, o) != o]
        yield ("try", tuple(sorted(edits)))
    else:
        yield (d.kind, d.words)


def judged(where, item):
    """`right`, `refused` (though something was meant) or `wrong`."""
    c = context(where)
    found = understand(item["say"], c)
    want, got = expected(item, c), understood(found.directives, c)
    undo = bool(item.get("undo"))
    refuse = bool(item.get("refuse"))
    if want == got and undo == found.undo and refuse == bool(found.refusals):
        return "right"
    return "refused" if not got and not found.undo and found.refusals else "wrong"


@pytest.mark.parametrize(
    ("file", "right"), [("before.yaml", 0.9), ("after.yaml", 0.9), ("blind.yaml", 0.7)]
)
def test_words_are_understood_right_or_refused(file, right):
    results = [(judged(where, item), where, item["say"]) for where, item in cases(file)]
    shares = {
        k: sum(r[0] == k for r in results) / len(results) for k in ("right", "refused", "wrong")
    }
    print(file, len(results), {k: f"{100 * v:.1f} %" for k, v in shares.items()})
    assert [r for r in results if r[0] == "wrong"] == []
    assert shares["right"] >= right
    assert set(CONTEXTS) >= {where for where, _ in cases(file)}


LAYERED = context("layered")


def only(feedback, c=LAYERED):
    """The one directive of feedback."""
    (found,) = understand(feedback, c).directives
    return found


def test_a_suggestion_is_a_tested_pin_with_its_comment_as_words():
    given = {"comment": "larger receptive field", "suggestion": {"kernel_size": 5}}
    found = only({"layer_3": given})
    assert found == Directive(
        "pin", "larger receptive field", ("layer3.kernel_size",), (5,), tested=True
    )


@pytest.mark.parametrize(
    ("leaf", "given", "option"),
    [
        ("type", "depthwise_separable_conv", "separable_conv"),
        ("kernel", "7x7", 7),
        ("activation", "silu", "swish"),
        ("skip", "no", False),
        ("channels", "128", 128),
    ],
)
def test_other_spellings_mean_the_nearest_option(leaf, given, option):
    assert only({"layer0": {"suggestion": {leaf: given}}}).options == (option,)


def test_an_option_that_the_design_has_already_is_not_tested():
    found = only({"layer_0": {"suggestion": {"kernel_size": 3}}})
    assert not found.tested
    assert "trial 17 has it already" in found.note


def test_constraint_updates_become_limits_and_an_order():
    update = {"prioritize": "accuracy_over_size", "max_params": 40_000, "max_latency_ms": None}
    found = understand({"constraint_update": update}, LAYERED).directives
    assert [(d.kind, d.metric, d.bound) for d in found] == [
        ("order", "", None),
        ("aim", "accuracy", 0.93),
        ("limit", "params", 40_000),
        ("limit", "latency_ms", None),
    ]


def test_every_other_key():
    feedback = {
        "layer1": {"keep": ["kernel_size"]},
        "layer2": {"comment": "looks fine"},
        "avoid": ["7x7 kernels", "relu in layer 3"],
        "keep": ["layer3.type"],
        "try": [str(LAYERED.design), {"layer3.kernel_size": 5}],
        "prefer": {"layer3.type": {"separable_conv": "high", "conv": "low"}},
        "add": {
            "layer3.kernel_size": [9],
            "warmup": {"options": [0, 5], "before": 0, "meaning": "epochs", "ordered": True},
        },
        "say": "deeper",
    }
    found = understand(feedback, LAYERED).directives
    kinds = [d.kind for d in found]
    assert kinds == (
        [
            "pin",
            "comment",
            "forbid",
            "forbid",
            "pin",
            "try",
            "try",
            "prefer",
            "prefer",
            "add",
            "add",
            "prefer",
        ]
    )
    assert [d.confidence for d in found if d.kind == "prefer"] == ["high", "low", "medium"]
    for d in found:
        assert in_words(d, LAYERED.state)
    fold(LAYERED.state.problem, LAYERED.space, [Turn(1, 0.0, "feedback", "", found)])


def test_a_mapping_is_all_or_nothing_and_names_every_wrong_field():
    feedback = {
        "layer_9": {"suggestion": {"kernel_size": 5}},
        "layer_3": {"suggestion": {"kernel_size": 4, "colour": "red"}},
        "constraint_update": {"max_parms": 3, "target_device": "cuda"},
        "wish": 1,
        "say": "make it pop",
        "keep": ["layer2"],
    }
    with pytest.raises(UserError) as error:
        understand(feedback, LAYERED)
    text = str(error.value)
    for said in (
        "num_layers 16 only; trial 17 has num_layers 4: layers 0 to 3",
        "layer3.kernel_size: expected one of 3, 5, 7; got 4",
        "'colour'",
        "Did you mean 'params'?",
        "a run keeps its device",
        "wish: expected one of layer_K",
        "'pop'",
    ):
        assert said in text


def test_layers_are_counted_as_the_explanations_count_them():
    found = understand({"layer_1": {"suggestion": {"kernel": 5}}}, context("mobile")).directives
    assert [d.paths for d in found] == [("stage1.block0.kernel",)]
    with pytest.raises(UserError, match="is the same in all designs"):
        understand({"layer_2": {"suggestion": {"kernel": 5}}}, context("mobile"))
    with pytest.raises(UserError, match="no design is under discussion"):
        understand({"layer_1": {"keep": True}}, context("nasbench201"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kernel 5 at layer 9", "layer 9 is part of designs with num_layers 16 only"),
        ("use a kernel of 4 in layer 3", "expected one of 3, 5, 7; got 4"),
        ("use attention in layer 2", "'attention' is not known"),
        ("under 50k", "what is bounded?"),
        ("latency under 2", "2 ms"),
        ("use swish in layer 2 and 5x5 kernels", "whether the place goes for both"),
        ("no gelu in layer 1 and relu in layer 2", "repeat the verb"),
        ("no convolutions", "plain convolutions"),
        ("why swish?", "a question"),
    ],
)
def test_a_refusal_says_why_and_what_would_be_understood(text, why):
    found = understand(text, LAYERED)
    (refusal,) = found.refusals
    assert not found.directives
    assert why in refusal.why
    assert refusal.nearest
    assert refusal.nearest[0] in str(refusal)


def test_every_form_that_refusals_suggest_is_understood():
    c = context("layered_timed")
    for form in FORMS:
        if "squeeze" not in form:
            found = understand(form, c)
            why = [r.why for r in found.refusals]
            assert found.directives or "already" in why[0] or "has another" in why[0], (form, why)


def test_a_sentence_that_may_take_back_the_one_before_refuses_both():
    found = understand("Use gelu everywhere. Except in layer 2.", LAYERED)
    assert not found.directives
    assert len(found.refusals) == 2


def test_nothing_that_is_typed_raises():
    """Words of the grammar in any order are understood or refused."""
    words = [p for phrases in WORDS.values() for p in phrases]
    words += ["5", "50k", "2 ms", "20 %", "5x5", "swish", "kernel", "layer 3", "stage 2"] * 40
    rng = np.random.default_rng(0)
    for name in CONTEXTS:
        c = context(name)
        for _ in range(40):
            text = " ".join(rng.choice(words) for _ in range(rng.integers(1, 6)))
            found = understand(text, c)
            assert found.directives or found.refusals or found.undo
            for d in found.directives:
                assert in_words(d, c.state)


@pytest.mark.parametrize("name", search_spaces.names())
def test_every_decision_and_option_of_every_space_can_be_named(name):
    """`set stage1.width to 24` is a pin, or there is nothing to choose."""
    space = search_spaces.find(name)
    c = Context(fold(Problem(), space, ()))
    for d in space.decisions[:40]:
        for option in d.options[:3]:
            if option_text(option).startswith("-") or "+" in option_text(option):
                continue  # cannot be said in words: a mapping can
            found = understand(f"set {d.name} to {option_text(option)}", c)
            if found.refusals:
                assert isinstance(option, bool), (d.name, option, found.refusals)
            else:
                (pin,) = found.directives
                assert (pin.kind, pin.paths, pin.options) == ("pin", (d.name,), (option,))


def test_an_interpreter_is_asked_for_what_the_grammar_refuses():
    asked = []

    def interpreter(text, problem, space):
        asked.append((text, problem.objectives[0].name, space.name))
        return [{"kind": "pin", "paths": ["layer2.type"], "options": ["depthwise_separable_conv"]}]

    text = "layer 2 deserves a separable convolution"
    (found,) = understand(text, LAYERED, interpreter).directives
    assert (found.options, found.words) == (("separable_conv",), text)
    assert asked == [(text, "accuracy", "layered")]
    understand("no 7x7 kernels", LAYERED, interpreter)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("text", "answer", "why"),
    [
        (
            "layer 2 deserves a separable convolution of 64",
            {"kind": "pin", "paths": ["layer2.type"], "options": ["separable_conv"]},
            "left over '64'",
        ),
        (
            "layer 2 deserves swish, and be quick about accuracy",
            {"kind": "pin", "paths": ["layer2.activation"], "options": ["swish"]},
            "accuracy",
        ),
        (
            "layers 1 and 2 deserve swish",
            {"kind": "pin", "paths": ["layer2.activation"], "options": ["swish"]},
            "left over 'layers 1 and 2'",
        ),
        ("bananas", {"kind": "pin", "paths": ["layer2.colour"], "options": [1]}, "layer2.colour"),
        ("bananas", {"kind": "limit", "metric": "params", "bound": "many"}, "bound: expected"),
        ("bananas", {"kind": "peel"}, "kind: expected one of pin"),
    ],
)
def test_an_interpreter_must_be_valid_and_leave_nothing_over(text, answer, why):
    found = understand(text, LAYERED, lambda *_: [answer])
    assert not found.directives
    assert why in found.refusals[0].why


def test_plain_data_names_every_wrong_field():
    data = {"kind": "pin", "path": ["a"], "tested": "yes", "sense": "up", "decision": 3}
    with pytest.raises(UserError) as error:
        directive_of(data)
    text = str(error.value)
    for said in ("Did you mean 'paths'?", "tested: expected true", "sense: expected", "decision:"):
        assert said in text


@pytest.mark.parametrize(
    ("directive", "why"),
    [
        (Directive("pin", "", ("layer3.kernel_size",), (4,)), "expected one of 3, 5, 7; got 4"),
        (Directive("pin", "", ("layer3.colour",), (4,)), "layer3.colour"),
        (Directive("forbid", "", ("num_layers",), (2, 4, 8, 16)), "nothing would be left"),
        (Directive("pin", "", ("layer3.activation",), ("relu6",)), "'relu6'"),
        (Directive("limit", metric="params", bound=float("nan")), "a number from 0 on"),
        (Directive("limit", metric="accuracy", sense="min", bound=95.0), "from 0 to 1"),
        (Directive("limit", metric="parms", bound=1.0), "Did you mean 'params'?"),
        (Directive("order", objectives=("accuracy:min",)), "accuracy is accuracy:max"),
        (Directive("try", architecture="layered{num_layers=3}"), "num_layers: expected one of"),
        (Directive("add", paths=("num_layers",), options=("x",)), "of type int"),
        (Directive("add", paths=("num_layers",), options=(8,)), "already"),
    ],
)
def test_what_means_nothing_here_is_an_error(directive, why):
    with pytest.raises(UserError, match=re.escape(why)):
        checked(directive, LAYERED)


def test_a_cost_that_the_run_cannot_know_is_no_limit():
    c = replace(LAYERED, costs=frozenset({"params", "flops"}))
    assert "cannot know latency_ms" in understand("under 2 ms", c).refusals[0].why


@pytest.mark.parametrize(
    "text",
    [
        "no separable convolutions and skip connections everywhere",
        "no dilated convolutions and kernel 5 in layer 1",
        "layer 2 has larger kernels",
        "the latency is under 3 ms",
        "we use gelu",
    ],
)
def test_what_can_be_read_in_two_ways_or_states_what_is_becomes_nothing(text):
    found = understand(text, LAYERED)
    assert not found.directives
    assert found.refusals
