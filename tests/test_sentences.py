"""Every number in a sentence stands in its claim, and no word is stronger than the evidence."""

import re
from datetime import UTC, datetime

import numpy as np
import pytest

from raynas.explanation.checking import orphans, rephrased, unfaithful
from raynas.explanation.choosing import LEVELS, ORDER
from raynas.explanation.claims import Claim, from_frame, read, write
from raynas.explanation.sentences import WORDS, chosen, sentence, summary
from raynas.explanation.wording import DOUBT, percent

METRICS = (("accuracy", "1"), ("loss", "nat"), ("gain", "1"), ("latency_ms", "ms"))
FIRST = ("ranking", "collapse", "scaling", "suggestion", "progress", "directive")
OPTIONS = ("nor_conv_3x3", "skip_connect", "5", "16", "true", "gelu", "0.25")
PATHS = ("cell.node3.from_0", "layer12.kernel_size", "*.kind", "depth")
SHARE = {"unit": "share"}


def made(kind, rng):
    """A claim of a kind with made-up evidence."""
    metric, unit = METRICS[rng.integers(len(METRICS))]
    if kind in ("confirmation", "performance"):
        metric, unit = METRICS[0]
    wide = 1.0 if metric == "accuracy" else 40.0
    estimate = float(wide * rng.normal(0, 0.2))
    spread = float(wide * abs(rng.normal(0, 0.1)))
    p = float(rng.choice([rng.uniform(0.5, 1), rng.uniform(0.9, 1)]))
    verdict = "asserts" if p > 0.99 else "leans" if p > 0.95 else "open"
    one, two = rng.choice(OPTIONS, 2, replace=False)
    fields = {
        "metric": metric,
        "unit": unit,
        "trial": int(rng.integers(1000)),
        "path": str(rng.choice(PATHS)),
        "chosen": str(one),
        "alternative": str(two),
        "dataset": "digits",
        "fidelity": float(rng.integers(1, 200)),
        "estimate": estimate,
        "ci_low": estimate - spread,
        "ci_high": estimate + spread,
        "p_sign": p,
        "lfsr": 1 - p,
        "n_trials": int(rng.integers(4, 20_000)),
        "n_direct": int(rng.integers(300)),
        "n_seeds": 3,
        "trial_ids": [int(n) for n in rng.integers(0, 1000, 4)],
        "family": "whole design",
    }
    more = SPECIAL.get(kind, lambda rng: {})(rng)
    share = float(rng.uniform())
    if more.get("unit") in ("share", "share of trials"):
        fields |= {"estimate": share, "ci_low": share * 0.8, "ci_high": min(1, share * 1.1)}
    if more.get("unit") == "rank correlation":
        fields |= {"estimate": share, "ci_low": share - 0.3, "ci_high": min(1, share + 0.1)}
    fields |= more
    verdict = fields.pop("verdict", verdict)
    tier = fields.pop("tier", "estimated")
    return Claim(
        f"{rng.integers(1 << 60):x}", kind, tier, verdict, f"{kind} made up",
        datetime.now(UTC), method="made up", snapshot="x", **fields,
    )  # fmt: skip


def shares(rng, *names):
    return {name: float(rng.uniform()) for name in names}


def ratios(rng):
    return {"params": float(rng.uniform(0.2, 3)), "latency_ms": float(rng.uniform(0.2, 3))}


def a_contrast(rng):
    sort = rng.integers(5)
    trained = {"alternatives": [{"value": "x", "trained": bool(sort % 2)}]}
    more = [
        trained,
        {**trained, "side_effects": ratios(rng)},
        {"tier": "measured"},
        {"verdict": "null", "tier": "proven", "estimate": 0.0, "ci_low": 0.0, "ci_high": 0.0},
        {"estimate": None, "verdict": "open", "p_sign": None},
    ][sort]
    if sort < 3 and rng.random() < 0.5:
        more |= {"audit_estimate": float(rng.normal(0, 0.1)), "status": "confirmed"}
    return more


def an_importance(rng):
    family = rng.choice(["whole space", "top decile", "around trial 12"])
    return {**SHARE, "family": str(family), "path": None if rng.random() < 0.2 else "*.kind",
            "p_sign": None, "verdict": str(rng.choice(["asserts", "leans", "open"]))}  # fmt: skip


def a_principle(rng):
    probes = int(rng.integers(1, 80))
    scope = {"predicate": "depth=3 and layer1.kind=b", "support": float(rng.uniform())}
    return {"scope": scope, "side_effects": {"probes": probes, **shares(rng, "violations")}}


def a_scorecard(rng):
    terms = [{"value": f"{n}x{n} convolutions", "estimate": rng.normal()} for n in range(1, 7)]
    fidelity = shares(rng, "random", "top", "edit")
    return {"side_effects": {**fidelity, "base": -12.34}, "alternatives": terms, **SHARE}


def a_provenance(rng):
    sort = rng.integers(7)
    edits = {"predicate": "layer1.kernel_size 3 → 5; depth 2 → 3"}
    return [
        {"alternative": "trial 31", "chosen": "mutation", "side_effects": {"predicted": 0.0123}},
        {"alternative": "trial 31", "chosen": "mutation", "scope": edits, "estimate": None},
        {"family": "kinds of proposals", "side_effects": {"improved": 7.0}, "chosen": "policy"},
        {"family": "turned away", "unit": "designs", "metric": "designs", "estimate": 17.0,
         "chosen": "duplicates of trials"},
        {"family": "tried", "chosen": "finished"},
        {"family": "considered", "chosen": "duplicate of trial 12"},
        {"family": "never met", "estimate": None},
    ][sort]  # fmt: skip


def a_suggestion(rng):
    counts = {"edits": float(rng.integers(1, 9)), "controls": float(rng.integers(1, 9))}
    slower = {"latency_difference": float(rng.normal(0, 0.3))}
    more = {"tier": "measured", "family": "turn 17"}
    more["status"] = str(rng.choice(["in force", "taken back"]))
    more |= [
        {"side_effects": {**counts, **ratios(rng), **slower}},
        {"side_effects": counts},
        {"side_effects": counts, "ci_low": None, "ci_high": None, "verdict": "open"},
        {"side_effects": counts, "estimate": None, "verdict": "open", "p_sign": None},
        {"verdict": "null", "tier": "proven", "estimate": 0.0, "ci_low": 0.0, "ci_high": 0.0},
    ][rng.integers(5)]
    return more


def a_directive(rng):
    kind = str(rng.choice(["pin", "forbid", "add", "prefer", "limit", "aim", "order", "try",
                           "comment"]))  # fmt: skip
    hits, of = sorted(map(int, rng.integers(0, 40, 2)))
    counts = {"hits": float(hits), "of": float(of)}
    status = str(rng.choice(["in force", "taken back", "replaced"]))
    end = {} if status == "in force" else {"scope": {"predicate": "turn 41"}}
    more = {"method_args": kind, "family": "turn 17", "status": status, "tier": "recorded", **end}
    if kind == "order":
        return {**more, "chosen": "31", "alternative": str(rng.choice(["31", "12"]))}
    if kind in ("try", "comment"):
        return {**more, **({"estimate": None, "trial": None} if rng.random() < 0.3 else {})}
    if kind in ("aim", "prefer") and rng.random() < 0.7:
        counts |= {"hits_before": 3.0, "of_before": 7.0, "first": 3 / 7}
    estimate = hits / of if of else None
    return {**more, "side_effects": counts, "unit": "share", "estimate": estimate,
            "ci_low": None, "ci_high": None}  # fmt: skip


def a_progress(rng):
    fronts = {"front_now": float(rng.integers(1, 30)), "front_before": float(rng.integers(30))}
    more = {"family": "turn 17", "status": "in force", "tier": "recorded", "chosen": "31"}
    more |= [
        {"alternative": "31", "side_effects": {**fronts, **shares(rng, "design", "reference")}},
        {"alternative": "12", "side_effects": {**fronts, **shares(rng, "design", "reference")},
         "method_args": str(rng.choice(["", "behind", "left out"]))},
        {"alternative": None, "side_effects": {**fronts, **shares(rng, "design")}},
        {"alternative": "12", "chosen": None, "side_effects": fronts},
    ][rng.integers(4)]  # fmt: skip
    return more


SPECIAL = {
    "suggestion": a_suggestion,
    "directive": a_directive,
    "progress": a_progress,
    "performance": lambda rng: {"side_effects": {"accuracy": 0.9, "params": 48210.0}},
    "tradeoff": lambda rng: {"side_effects": ratios(rng), "chosen": "4", "alternative": "12"},
    "contrast": a_contrast,
    "share": lambda rng: {**SHARE, "side_effects": {"params": 1234.0, "total": 98765.0}},
    "ranking": lambda rng: {
        "unit": "rank correlation", "side_effects": {"confirm": 5.0, "uniform_probe": 4.0},
        "chosen": None if rng.random() < 0.5 else "az", "n_trials": int(rng.integers(2, 20)),
    },
    "collapse": lambda rng: {"side_effects": {"led": 5.0, "edges": 6.0}},
    "prediction": lambda rng: {
        "unit": "rank correlation", "side_effects": {"stopped_early": 3.0, "error": 0.02}
    },
    "calibration": lambda rng: {
        "unit": "share of trials", "side_effects": {"stopped_early": 3.0, "error": 0.02}
    },
    "confirmation": lambda rng: {
        "side_effects": {"reading": 0.9412, "excess": float(rng.normal(0, 0.01))}
    },
    "attribution": lambda rng: {
        "alternative": str(rng.choice(["average", "trial 12"])),
        "side_effects": {} if rng.random() < 0.2 else shares(rng, "reference", "design"),
    },
    "importance": an_importance,
    "interaction": lambda rng: {**SHARE, "path": PATHS[0], "alternative": PATHS[1]},
    "principle": a_principle,
    "motif": lambda rng: {"side_effects": shares(rng, "good", "rest"), "chosen": "3x3 after 1x1"},
    "advice": lambda rng: {
        "side_effects": ratios(rng), "family": str(rng.choice(["saving", "best untried edit"]))
    },
    "scorecard": a_scorecard,
    "tree": lambda rng: {
        **SHARE, "side_effects": {**shares(rng, "random", "top", "edit"), "leaves": 8.0}
    },
    "provenance": a_provenance,
    "belief": lambda rng: {**SHARE, "side_effects": shares(rng, "first"), "verdict": "asserts"},
    "audit": lambda rng: {
        **SHARE, "side_effects": {"right": 9.0, "expected": 9.37}, "verdict": "asserts"
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", WORDS)
def test_every_number_of_a_sentence_stands_in_its_claim(kind):
    for seed in range(60):
        claim = made(kind, np.random.default_rng(seed))
        text = sentence(claim)
        assert orphans(text, [claim]) == [], text
        assert re.search(r"None|nan\b|  | ,|\.\.|\( |;\.", text) is None, text
        assert text.endswith(".")
        assert text[0] == text[0].upper() or text.startswith((*PATHS, "kind", "wide", "suggestion"))


@pytest.mark.parametrize("kind", WORDS)
def test_a_changed_digit_is_found(kind):
    """Of single digits changed at random nearly all: a few give another number of the claim."""
    found, tried = 0, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        claim = made(kind, rng)
        text = sentence(claim)
        places = [m.start() for m in re.finditer(r"\d", text)]
        for place in rng.permutation(places)[:3]:
            digit = str((int(text[place]) + int(rng.integers(1, 10))) % 10)
            changed = f"{text[:place]}{digit}{text[place + 1 :]}"
            found += bool(orphans(changed, [claim]))
            tried += 1
    assert tried == 0 or found / tried > 0.85


@pytest.mark.parametrize("kind", WORDS)
def test_words_are_as_strong_as_the_evidence(kind):
    for seed in range(60):
        claim = made(kind, np.random.default_rng(seed))
        text = sentence(claim)
        if claim.verdict != "asserts":
            assert not re.search(r"improves|worsens|raises|lowers|almost surely", text, re.I)
        if claim.p_sign is not None and claim.p_sign < 0.95:
            assert "very likely" not in text.lower()
        if kind in ("effect", "attribution", "principle", "motif") and claim.p_sign < 0.8:
            assert DOUBT in text
        if claim.tier == "estimated" and kind in ("effect", "attribution", "principle", "motif",
                                                  "advice", "importance", "contrast"):  # fmt: skip
            assert re.search(r"after \d+ epoch", text) or claim.estimate is None


def an_effect(p, verdict, estimate=0.02):
    rng = np.random.default_rng(0)
    claim = made("effect", rng)
    fields = {**vars(claim), "metric": "accuracy", "unit": "1", "p_sign": p, "verdict": verdict}
    return Claim(**{**fields, "estimate": estimate, "path": "depth", "fidelity": 9.0})


@pytest.mark.parametrize(
    ("p", "verdict", "start"),
    [
        (0.995, "asserts", "depth 5 instead of 3 almost surely improves accuracy: +2.0 points ("),
        (0.96, "asserts", "depth 5 instead of 3 very likely improves accuracy: +2.0 points ("),
        (0.995, "leans", "Very likely, not certain: depth 5 instead of 3: accuracy +2.0 points ("),
        (0.96, "leans", "Very likely, not certain: "),
        (0.99, "open", "Likely, not certain: "),
        (0.81, "open", "Likely, not certain: "),
        (0.79, "open", "depth 5 instead of 3: accuracy +2.0 points ("),
        (0.6, "asserts", "depth 5 instead of 3: accuracy +2.0 points ("),
    ],
)
def test_the_wording_is_fixed_by_the_strength(p, verdict, start):
    claim = Claim(**{**vars(an_effect(p, verdict)), "chosen": "5", "alternative": "3"})
    text = sentence(claim)
    assert text.startswith(start)
    assert (DOUBT in text) == (p < 0.8)


def test_what_is_worse_is_not_said_to_improve():
    assert "worsens accuracy" in sentence(an_effect(1.0, "asserts", -0.02))
    loss = Claim(**{**vars(an_effect(1.0, "asserts", -0.02)), "metric": "loss", "unit": "nat"})
    assert "improves loss: -0.02 nat" in sentence(loss)
    own = Claim(**{**vars(loss), "metric": "gain", "unit": "1"})
    assert "lowers gain: -0.02" in sentence(own)


def test_small_shares_keep_a_digit():
    assert [percent(v) for v in (0.0, 0.004, 0.0996, 0.21, 1.0)] == [
        "0 %", "0.4 %", "10 %", "21 %", "100 %"
    ]  # fmt: skip


CLAIM = an_effect(0.995, "asserts")
TEXT = sentence(CLAIM)


def test_other_words_for_the_same_are_taken():
    def softer(text, claims):
        assert claims[0]["claim_id"] == CLAIM.claim_id
        return text.replace("instead of", "in place of").replace("tried", "of this search")

    text, by = rephrased(TEXT, [CLAIM], softer)
    assert by == "rephrased"
    assert "in place of" in text


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda t: f"{t} It saves 37 % of latency.", "number 37"),
        (lambda t: f"{t} It was seen twelve times.", "word twelve"),
        (lambda t: re.sub(r" \(90 %[^)]*\)", "", t), "without 90"),
        (lambda t: t.replace("improves", "worsens"), "word worsens"),
        (lambda t: t.replace("+2.0", "-2.0"), "number -2.0"),
        (lambda t: t.replace("almost surely ", ""), "without almost surely"),
        (lambda t: f"{t} This is because it is deeper.", "word because"),
        (lambda t: t.replace("improves", "never improves"), "denial"),
        (lambda t: f"{t} A gelu would do as well.", "name gelu"),
        (lambda t: f"{t} Use conv_7x7.", "number conv_7x7"),
    ],
)
def test_words_that_say_something_else_are_dropped(change, cause):
    others = [Claim(**{**vars(CLAIM), "chosen": "gelu"})]
    assert cause in unfaithful(change(TEXT), TEXT, [CLAIM], others)
    assert rephrased(TEXT, [CLAIM], lambda t, c: change(t), others) == (TEXT, "template")


@pytest.mark.parametrize("answer", ["", None, 3])
def test_an_answer_that_is_no_text_is_dropped(answer):
    assert rephrased(TEXT, [CLAIM], lambda t, c: answer) == (TEXT, "template")


def test_a_hedge_may_not_be_dropped():
    claim = an_effect(0.7, "open")
    text = sentence(claim)
    assert unfaithful(text, text, [claim]) == []
    assert "without cannot tell" in unfaithful(text.replace(f", {DOUBT}", ""), text, [claim])


def test_the_summary_counts_its_claims():
    claims = [an_effect(0.995, v) for v in ("asserts", "leans", "leans", "open")]
    assert orphans(summary(claims), claims) == []
    assert orphans(summary(claims).replace("Of 4", "Of 7"), claims) == ["7"]


def many(seed, kinds=tuple(WORDS), each=4):
    rng = np.random.default_rng(seed)
    return [made(kind, rng) for kind in kinds for _ in range(each)]


def test_every_kind_has_a_place_in_the_order():
    assert set(ORDER) == set(WORDS)


@pytest.mark.parametrize("seed", range(5))
def test_more_is_said_at_each_level_and_nothing_is_left_out(seed):
    claims = many(seed)
    said = {level: chosen(claims, most) for level, most in LEVELS.items()}
    assert [len(said[level]) for level in LEVELS] == [5, 8, 20]
    ids = [{c.claim_id for c in said[level]} for level in LEVELS]
    assert ids[0] < ids[1] < ids[2]
    assert len(chosen(claims, 1000)) == len({c.claim_id for c in chosen(claims, 1000)})


@pytest.mark.parametrize("seed", range(5))
def test_a_brief_answer_holds_the_five_things_that_matter(seed):
    kinds = tuple(k for k in WORDS if k not in FIRST)
    claims = many(seed, kinds, each=12)
    parts = [c for c in claims if c.kind == "attribution" and c.verdict != "open"]
    best = max(parts, key=lambda c: abs(c.estimate))
    brief = chosen(claims, LEVELS["brief"])
    assert best in brief
    told = next(c for c in claims if c.kind == "performance").trial
    confirmed = any(c.kind == "confirmation" and c.trial == told for c in claims)
    assert next(c.kind for c in brief) == ("confirmation" if confirmed else "performance")
    assert sum(c.kind == "advice" and c.family == "saving" for c in brief) == 1
    assert sum(c.kind == "advice" and c.family == "best untried edit" for c in brief) == 1
    assert sum(c.kind in ("effect", "contrast") and c.verdict == "open" for c in brief) == 1


def test_runs_without_the_newer_kinds_are_told_as_well():
    old = ("performance", "tradeoff", "effect", "contrast", "share")
    assert {c.kind for c in chosen(many(0, old), 20)} == set(old)
    assert chosen([], 8) == []


def test_what_was_written_is_said_again_in_the_same_words(tmp_path):
    claims = many(1)
    (tmp_path / "claims").mkdir()
    write(tmp_path / "claims", claims)
    back = from_frame(read(tmp_path / "claims"))
    assert [sentence(c) for c in back] == [sentence(c) for c in claims]
    assert all(orphans(sentence(c), [c]) == [] for c in back)
