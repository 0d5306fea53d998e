"""What a result says when it is asked: levels, layers, decisions, versus, why not; its table."""

import re

import numpy as np
import pytest

import raynas
from raynas.architecture import Architecture, Decision
from raynas.cli import main
from raynas.errors import UserError
from raynas.explanation.checking import orphans
from raynas.explanation.choosing import LEVELS
from raynas.explanation.claims import from_frame, write
from raynas.explanation.sentences import sentence
from raynas.result import SearchResult, load
from raynas.space import Space
from tests.explained_runs import explained_run, make

SPACE = Space(
    "chain",
    (
        Decision("depth", (1, 2), "layers", ordered=True),
        *(
            Decision(f"layer{i}.{leaf}", options, leaf, when=when)
            for i in range(2)
            for when in [("depth", frozenset({2})) if i else None]
            for leaf, options in (("kind", ("conv_3x3", "pool", "skip")), ("width", (8, 16, 32)))
        ),
    ),
)
WORTH = {"conv_3x3": 1.0, "pool": 0.0, "skip": 0.3}


def reading(architecture):
    """Planted: convolutions and width help, depth hardly."""
    kinds = [WORTH[str(o)] for n, o in architecture.choices if n.endswith("kind")]
    logit = np.mean(kinds) + 0.02 * float(architecture["layer0.width"])
    return {"accuracy": 1 / (1 + np.exp(-logit)), "params": 100.0 * len(kinds)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("explained") / "run"
    raynas.search(
        {"objectives": ["accuracy:max", "params:min"]}, space=SPACE, evaluator=reading, trials=36,
        driver="local", run=path, strategy="evolution",
    )  # fmt: skip
    return load(path)


def explain(run, *arguments):
    return main(["explain", str(run.path), *arguments])


def test_every_sentence_of_a_real_run_stands_in_its_claim(run):
    claims = from_frame(run.claims)
    assert len(claims) > 30
    for claim in claims:
        assert orphans(sentence(claim), [claim]) == [], sentence(claim)


def test_every_claim_is_derived_again_from_what_is_on_disk(run):
    written = {c.claim_id: c for c in from_frame(run.claims)}
    again = {c.claim_id: c for c in load(run.path).explain()}
    assert written.keys() == again.keys()
    for name, claim in written.items():
        for field in ("estimate", "ci_low", "ci_high", "lfsr"):
            old, new = getattr(claim, field), getattr(again[name], field)
            assert (old is None) == (new is None)
            assert old is None or abs(old - new) <= 1e-6 * max(1.0, abs(old)), (claim, field)
        assert claim.verdict == again[name].verdict


def test_claims_of_every_kind_are_said_without_an_orphan(tmp_path):
    result = explained_run(tmp_path / "run")
    claims = from_frame(result.claims)
    for claim in claims:
        assert orphans(sentence(claim), [claim]) == [], sentence(claim)
    for level in LEVELS:
        assert len(result.sentences(level)) == LEVELS[level] + 1


def test_the_table_holds_every_sentence_with_its_claims(run):
    table, claims = run.sentence_table, {c.claim_id: c for c in from_frame(run.claims)}
    assert list(table.columns) == [
        "sentence_id", "ordinal", "level", "template", "text", "claim_ids", "renderer"
    ]  # fmt: skip
    assert table["sentence_id"].is_unique
    assert (table["claim_ids"].map(len) > 0).all()
    assert {i for ids in table["claim_ids"] for i in ids} == set(claims)
    for row in table.itertuples():
        cited = [claims[i] for i in row.claim_ids]
        assert orphans(row.text, cited) == []
        assert row.renderer == "template"
        assert row.template == "summary" or row.text == sentence(cited[0])
    assert set(table["level"]) == {*LEVELS, "full"}
    assert (run.path / "sentences" / "sentences.parquet").exists()


def test_levels_say_more_and_more(run):
    brief, standard, detailed = (run.sentences(level)[:-1] for level in LEVELS)
    assert 3 <= len(brief) <= 5
    assert set(brief) < set(standard) < set(detailed)
    assert len(detailed) <= LEVELS["detailed"]
    with pytest.raises(UserError, match="expected one of brief, standard, detailed; got 'long'"):
        run.sentences("long")


def test_a_language_model_may_rephrase_and_nothing_else(run):
    texts = run.sentences("standard", lambda text, claims: text.replace("designs", "networks"))
    plain = run.sentences("standard")
    assert texts[:-1] == [t.replace("designs", "networks") for t in plain[:-1]]
    assert run.sentences("standard", lambda text, claims: "It improves by 99 %.") == plain
    report = run.get_architecture_report(lambda text, claims: f"{text} Proven!")
    assert "Proven!" not in report


def test_sentences_written_in_other_words_are_kept(run, tmp_path):
    import shutil

    shutil.copytree(run.path, tmp_path / "copy")
    other = SearchResult(tmp_path / "copy")
    other.write_claims(lambda text, claims: text.replace("best of", "best among"))
    assert "rephrased" in set(other.sentence_table["renderer"])
    assert any("best among" in text for text in other.sentences())


def test_a_run_without_a_table_is_told_from_its_claims(run, tmp_path):
    import shutil

    shutil.copytree(run.path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "sentences")
    old = SearchResult(tmp_path / "copy")
    assert len(old.sentence_table) == 0
    assert old.sentences("detailed") == run.sentences("detailed")


def test_the_names_of_the_article(run):
    best = run.front().iloc[0]
    assert isinstance(run.architecture(), Architecture)
    assert str(run.architecture) == str(run.architecture()) == best["architecture"]
    assert run.architecture["depth"] == run.architecture()["depth"]
    assert "depth" in run.architecture
    assert run.architecture.options == run.architecture().options
    assert str(run.architecture(3)) == run.trials.set_index("number").loc[3, "architecture"]
    assert run.performance["accuracy"] == best["m.accuracy"]
    assert run.performance["params"] == best["m.params"]
    assert run.performance["trial"] == best["number"]
    assert "confirmed_accuracy" not in run.performance
    layers = run.explanations
    assert len(layers) == run.architecture["depth"]
    assert layers[0] == run.get_explanation_for_layer(0)
    assert list(layers) == [run.get_explanation_for_layer(i) for i in range(len(layers))]
    assert layers[-1] == layers[len(layers) - 1]
    with pytest.raises(IndexError):
        layers[len(layers)]
    for text in layers[0].splitlines():
        assert "layer0." in text
    assert "rather than" in layers[0]


def test_what_fresh_seeds_read_is_told(tmp_path):
    result = explained_run(tmp_path / "run")
    claims = [c for c in from_frame(result.claims) if c.kind == "confirmation"]
    assert result.performance["confirmed_accuracy"] == claims[0].estimate


def test_principles_are_told_with_the_number_of_probes(run, tmp_path):
    text = run.get_design_principles_learned()
    probes = int((run.trials["purpose"] == "uniform_probe").sum())
    assert 0 < probes < 40
    assert f"there were {probes} designs drawn uniformly" in text
    assert text.startswith("Nothing is asserted")
    assert "improves" not in text
    none = raynas.search(
        {"objectives": ["accuracy:max"]}, space=SPACE, evaluator=reading, trials=12,
        driver="local", run=tmp_path / "none", explanation_level="brief",
    )  # fmt: skip
    text = none.get_design_principles_learned()
    assert "no design was drawn uniformly" in text
    assert "explanation_level='standard'" in text
    many = explained_run(tmp_path / "many")
    rules = [c for c in from_frame(many.claims) if c.kind == "principle" and c.verdict != "open"]
    text = many.get_design_principles_learned()
    assert all(sentence(c) in text for c in rules)


def test_a_tree_is_drawn_with_its_fidelity(run, tmp_path):
    figure = explained_run(tmp_path / "run").visualize_decision_tree()
    figure.savefig(tmp_path / "tree.png")
    (axes,) = figure.axes
    words = " ".join([axes.get_title(loc="left"), *(t.get_text() for t in axes.texts)])
    for part in ("78 %", "53 %", "69 %", "Guessing", "accuracy 80.0 %", "cell.node3.from_0 is none",
                 "nor_conv_3x3 alive: 2 or more", "50 % of designs"):  # fmt: skip
        assert part in words
    assert sum(t.get_text() == "yes" for t in axes.texts) == 2
    empty = explained_run(tmp_path / "none", claims=lambda result: [make("audit", "measured",
        "asserts", "x", estimate=1.0, unit="share", side_effects={"right": 1.0})])  # fmt: skip
    with pytest.raises(UserError, match="holds no decision tree"):
        empty.visualize_decision_tree()


def test_all_that_is_known_of_a_decision(run, capsys):
    assert explain(run, "--decision", "layer0.kind") == 0
    text = capsys.readouterr().out
    assert "layer0.kind: kind (options: conv_3x3, pool, skip). Trial" in text
    said = [line for line in text.splitlines() if line.startswith("•")]
    assert any("contributes" in line for line in said)
    assert sum("rather than" in line for line in said) == 2
    assert all("kind" in line for line in said)
    assert explain(run, "--decision", "*.kind") == 0
    text = capsys.readouterr().out
    assert "kind in all layers" in text
    assert "rather than" not in text


def test_why_one_design_and_not_another(run, capsys):
    best = int(run.front().iloc[0]["number"])
    rows = run.trials[run.trials["architecture"] != str(run.architecture())]
    worst = int(rows.sort_values("m.accuracy").iloc[0]["number"])
    assert explain(run, "--versus", str(worst)) == 0
    text = capsys.readouterr().out
    assert f"Trial {best} against trial {worst}:" in text
    gap = 100 * (run.performance["accuracy"] - run.trials.set_index("number")["m.accuracy"][worst])
    assert f"accuracy {gap:+.1f} points" in text
    assert "on the way from trial" in text
    differ = {name for name, a, b in run.diff(best, worst) if None not in (a, b)}
    told = {m for m in re.findall(r"in trial \d+, (\S+) ", text, re.IGNORECASE)}
    assert told == differ


def test_why_not_another_option(run, capsys):
    best = run.architecture()
    option = next(o for o in ("pool", "skip", "conv_3x3") if o != best["layer0.kind"])
    assert explain(run, "--why-not", f"layer0.kind={option}") == 0
    text = capsys.readouterr().out
    assert f"layer0.kind {best['layer0.kind']} rather than {option}" in text
    other = SPACE.architecture({**best.options, "layer0.kind": option})
    tried = run.trials[run.trials["architecture"] == str(other)]
    if len(tried):
        assert f"This design was tried as trial {tried.iloc[0]['number']} (finished)" in text
    else:
        assert "It was not among the 36 trials" in text or "It was considered" in text


def test_several_edits_are_asked_together(run):
    best = run.architecture()
    kind = "pool" if best["layer0.kind"] != "pool" else "skip"
    width = 8 if best["layer0.width"] != 8 else 16
    text = run.why_not(f"layer0.kind={kind}, layer0.width={width}")
    lines = text.splitlines()
    assert "layer0.kind and layer0.width" in lines[1]
    assert f"rather than {kind} and {width}" in lines[1]
    assert sum("rather than" in line for line in lines) == 3


def test_a_question_about_the_same_design_twice_is_a_mistake(run):
    best = int(run.front().iloc[0]["number"])
    with pytest.raises(UserError, match=f"expected two trials; got trial {best} twice"):
        run.versus(best)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--decision", "layer0.kin"], "expected one of depth, .* Did you mean 'layer0.kind'"),
        (["--versus", "999"], "has no trial 999; the last one is 35"),
        (["--why-not", "layer0.kind"], "expected edits such as .*; got 'layer0.kind'"),
        (["--why-not", "layer0.kind=poool"], "expected one of conv_3x3, pool, skip; got 'poool'"),
        (["--why-not", "layer9.kind=pool"], "decision: expected one of"),
        (["--why-not", "=,"], "expected edits such as"),
        (["--layer", "7"], "expected a layer from 0 to"),
        (["--trial", "77"], "has no trial 77"),
    ],
)
def test_bad_questions_are_answered_with_what_to_do(run, capsys, arguments, message):
    assert explain(run, *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("raynas: ")
    assert re.search(message, error)
    assert "Traceback" not in error


def test_an_option_that_is_there_already_is_a_mistake(run):
    has = run.architecture["layer0.kind"]
    with pytest.raises(UserError, match=f"got layer0.kind={has}, which it has"):
        run.why_not(f"layer0.kind={has}")


def test_an_edit_of_a_part_that_the_design_does_not_have(run):
    small = run.trials[run.trials["d.depth"] == 1].iloc[0]
    with pytest.raises(UserError, match="It is asked only where depth is 2"):
        run.why_not("layer1.kind=pool", int(small["number"]))
    assert "layer1.kind" in run.why_not("depth=2,layer1.kind=pool", int(small["number"]))


def test_one_question_at_a_time(run, capsys):
    with pytest.raises(SystemExit):
        explain(run, "--layer", "0", "--versus", "3")
    assert "not allowed with" in capsys.readouterr().err


def test_a_limit_that_another_option_would_break_is_told():
    claim = make("provenance", "proven", "asserts", "x", metric="params", estimate=61234.0,
                 chosen="max_params=50000", family="limit")  # fmt: skip
    text = sentence(claim)
    assert (
        text == "It would need 61,234 params, which max_params=50000 does not allow (exact count)."
    )
    assert orphans(text, [claim]) == []


def test_nothing_is_known_of_a_run_without_trials(tmp_path):
    result = explained_run(tmp_path / "run", count=3, claims=lambda result: [])
    write(result.path / "claims", [])
    assert result.sentences() == [
        "There are too few trials to estimate the effect of any decision (8 are needed)."
    ]
    assert "no design was drawn uniformly" in result.get_design_principles_learned()
