"""Own networks as spaces."""

import itertools
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

import raynas
from raynas.architecture import InvalidArchitecture, InvalidSpace
from raynas.choices import as_space, choice, located, searchable
from raynas.costs import layers
from raynas.errors import UserError

SHAPE = (1, 8, 8)


class Chain(nn.Module):
    """Repeated layers, a shared choice, a choice within a choice."""

    def __init__(self, input_shape, num_classes):
        super().__init__()
        channels, parts = input_shape[0], []
        for i in range(choice("depth", [1, 2, 4], "how many layers")):
            width = choice(f"layer{i}.width", [8, 16])
            parts += [nn.Conv2d(channels, width, 3), choice("activation", [nn.ReLU, nn.GELU])()]
            if choice(f"layer{i}.drop", [False, True]):
                parts.append(nn.Dropout(choice(f"layer{i}.rate", [0.1, 0.5])))
            channels = width
        self.body = nn.Sequential(*parts)
        self.head = nn.Linear(channels, num_classes)


def test_what_a_network_asks_for_is_found_with_its_conditions():
    space = searchable(Chain)
    when = {d.name: d.when for d in space.decisions}
    assert list(when)[:3] == ["depth", "layer0.width", "activation"]
    assert when["layer0.width"] is when["activation"] is None
    assert when["layer1.width"] == ("depth", frozenset({2, 4}))
    assert when["layer3.width"] == ("depth", frozenset({4}))
    assert when["layer3.rate"] == ("layer3.drop", frozenset({True}))
    assert space.size == 2 * sum((2 * (1 + 2)) ** depth for depth in (1, 2, 4))
    assert space.by_name["layer0.width"].ordered
    assert not space.by_name["activation"].ordered
    assert space.by_name["depth"].meaning == "how many layers"
    assert space.notes == ()


def test_every_design_builds_what_it_says():
    space = searchable(Chain)
    for seed in range(20):
        design = space.sample(np.random.default_rng(seed))
        model = space.build(design, SHAPE, 7)
        convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        assert len(convolutions) == design["depth"]
        assert convolutions[0].out_channels == design["layer0.width"]
        assert model.head.out_features == 7
        kinds = {type(m).__name__ for m in model.body} - {"Conv2d", "Dropout"}
        assert kinds == {design["activation"]}


def test_outside_of_a_search_a_choice_is_its_first_option():
    assert choice("x", [3, 4]) == 3
    assert Chain(SHAPE, 2).head.in_features == 8


def test_options_may_be_anything_with_a_name():
    def network():
        pool = choice("pool", {"small": (2, 2), "large": (4, 4)})
        norm = choice("norm", [None, nn.BatchNorm2d])
        return nn.Sequential(nn.AvgPool2d(pool), norm(3) if norm else nn.Identity())

    space = searchable(network)
    assert space.by_name["pool"].options == ("small", "large")
    assert space.by_name["norm"].options == ("none", "BatchNorm2d")
    design = space.parse("network{pool=large norm=BatchNorm2d}")
    model = space.build(design, SHAPE, 2)
    assert model[0].kernel_size == (4, 4)
    assert isinstance(model[1], nn.BatchNorm2d)


def test_a_choice_under_two_conditions_is_asked_too_often_and_known_to_be_idle():
    def network():
        wide, deep = choice("wide", [False, True]), choice("deep", [False, True])
        bonus = choice("bonus", [1, 2, 3]) if wide and deep else 0
        return nn.Linear(1 + bonus, 1 + wide + 2 * deep)

    space = searchable(network)
    networks = {space.identity(space.plainest(a)) for a in space.enumerate()}
    assert len(networks) == 3 + 3  # three without the bonus, three with it
    for design in space.enumerate():
        plain = space.plainest(design)
        space.check(plain)
        assert str(space.build(plain, SHAPE, 2)) == str(space.build(design, SHAPE, 2))


def test_a_choice_that_only_a_pair_of_options_leads_to_is_found():
    def network():
        picks = [choice(f"x{i}", list(range(4))) for i in range(3)]
        if picks[0] == 2 and picks[1] == 3:
            return nn.Linear(1, choice("hidden", [5, 6]))
        return nn.Linear(1, 1 + sum(picks))

    space = searchable(network)
    assert "hidden" in space.by_name
    for picks in itertools.product(range(4), repeat=3):
        text = "network{" + " ".join(f"x{i}={p}" for i, p in enumerate(picks))
        options = {f"x{i}": p for i, p in enumerate(picks)}
        asked = picks[0] == 2 and picks[1] == 3
        design = space.answer(lambda d, o=options: o.get(d.name, d.options[0]))
        assert "hidden" in design or not asked, text
        space.build(design, SHAPE, 2)


def test_numbers_of_numpy_and_mixed_numbers_are_numbers():
    assert choice("x", [np.int64(3), np.int64(4)]) == 3
    assert choice("x", [0, 0.5]) == 0.0

    def network():
        return nn.Dropout(choice("rate", [0, np.float64(0.5)]))

    assert searchable(network).by_name["rate"].options == (0.0, 0.5)


def test_hundreds_of_choices_are_surveyed_in_seconds():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.sizes = [
                (choice(f"l{i}.w", [1, 2, 3]), choice(f"l{i}.k", [1, 2]))
                for i in range(choice("depth", list(range(10, 41))))
            ]

    space = searchable(Deep)
    assert len(space.decisions) == 81
    assert space.by_name["l39.k"].when == ("depth", frozenset({40}))
    assert not space.notes


def test_the_wrong_number_of_outputs_is_refused_before_the_search(tmp_path):
    def network():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, choice("w", [4, 8])))

    with pytest.raises(UserError, match=r"expected .* logits \[N, 10\]; .* gives \[1, [48]\]"):
        raynas.search(space=network, trials=2, epochs=1, driver="local", run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unused_choice_is_told():
    def network():
        choice("idle", [1, 2])
        width = choice("width", [1, 2])
        return nn.Linear(width, 1)

    assert ["'idle'" in note for note in searchable(network).notes] == [True]


def test_layers_of_an_own_network_name_their_decisions():
    class Named(nn.Module):
        def __init__(self, input_shape):
            super().__init__()
            width = choice("width", [4, 8])
            self.first = nn.Conv2d(input_shape[0], width, choice("kernel", [1, 3]), padding="same")
            self.second = nn.Conv2d(width, 4, choice("other.kernel", [1, 3]), padding="same")

        def forward(self, images):
            return self.second(self.first(images)).mean((2, 3))

    space = searchable(Named)
    rows = layers(space, space.sample(np.random.default_rng(0)), SHAPE, 4)
    assert [(r["name"], r["decisions"]) for r in rows] == [
        ("first", ["width", "kernel"]),
        ("second", ["other.kernel"]),
    ]
    assert rows[0]["shape_in"] == SHAPE


def sized(shape):
    return nn.Linear(choice("width", [1, 2]), shape)


def unnamed():
    return nn.Linear(choice("width", [(1, 2), (3, 4)])[0], 1)


def fickle():
    options = [1, 2] if choice("many", [False, True]) else [1, 2, 3]
    return nn.Linear(choice("width", options), 1)


def chaotic():
    return nn.Linear(choice(f"width{random.random():.9f}".replace(".", "_"), [1, 2]), 1)


def wrong():
    return nn.Linear("three", choice("width", [1, 2]))


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (sized, UserError, "wants 'shape'.*input_shape and num_classes"),
        (lambda: nn.Linear(1, 1), UserError, "makes no choices"),
        (unnamed, InvalidSpace, "Name what else you choose from"),
        (fickle, InvalidSpace, r"its options are \(1, 2, 3\) in one design and \(1, 2\)"),
        (Chain((1, 8, 8), 2), UserError, "got a finished Chain. Pass the class"),
        (lambda: choice("x", 3), InvalidSpace, "expected a list of options; got 3"),
        (lambda: choice("x", ["a b", "c"]), InvalidSpace, "Name them"),
        (lambda: choice("train.optimizer", ["a", "b"]), InvalidSpace, "under 'train'"),
        (lambda: choice("x", [1, 2]), UserError, r"expected a torch.nn.Module back; got 1"),
        (chaotic, InvalidSpace, "asks for more than 1000 choices"),
        (wrong, UserError, "cannot be built with the first option.*TypeError"),
    ],
)
def test_what_cannot_be_a_space_is_said(network, error, message):
    with pytest.raises(error, match=message):
        as_space(network)


def test_a_network_that_asks_for_something_new_is_stopped():
    moods = iter(["calm"] * 300 + ["wild"])

    def moody():
        width = choice("width", [1, 2])
        return nn.Linear(width, choice("more", [1, 2]) if next(moods, "wild") == "wild" else 1)

    space = searchable(moody)
    for _ in moods:
        pass
    with pytest.raises(InvalidArchitecture, match="asks for 'more'"):
        space.build(space.sample(np.random.default_rng(0)), SHAPE, 2)


def test_designs_that_cannot_be_built_are_told():
    def network():
        return nn.Conv2d(4, choice("width", [4, 6, 8]), 1, groups=choice("groups", [1, 4]))

    assert "cannot be built" in searchable(network).notes[0]


FILE = '''
"""A space in a file, which uses another file beside it."""
from dataclasses import dataclass
from torch import nn
from beside import WIDTHS
from raynas import choice


@dataclass
class Settings:
    classes: int


def network(input_shape, num_classes):
    settings = Settings(num_classes)
    width = choice("width", WIDTHS)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64 * input_shape[0], width), nn.ReLU(),
        nn.Linear(width, settings.classes),
    )
'''


@pytest.fixture
def file(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(FILE)
    (tmp_path / "beside.py").write_text("WIDTHS = [4, 8, 16, 32]\n")
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path / "own.py"
    sys.modules.pop("beside", None)


def test_a_space_in_a_file(file, monkeypatch):
    space = as_space(f"{file}:network", SHAPE, 10)
    assert space.by_name["width"].options == (4, 8, 16, 32)
    monkeypatch.chdir(file.parent)
    assert located("own.py:network") == f"{file}:network"
    assert located("layered") == "layered"
    with pytest.raises(UserError, match="does not exist"):
        as_space("absent.py:network")
    with pytest.raises(UserError, match=r"say which, own.py:NAME: expected one of .*network"):
        as_space("own.py")
    with pytest.raises(UserError, match=r"broken.py cannot be used.*ModuleNotFoundError"):
        as_space("broken.py:network")
    with pytest.raises(UserError, match="expected a space"):
        as_space(42)


@pytest.mark.slow
def test_a_file_can_be_searched_resumed_and_loaded(file, tmp_path):
    run, text = tmp_path / "run", f"{file}:network"
    first = raynas.search(space=text, trials=2, epochs=1, run=run)
    assert (first.trials["status"] == "finished").all()
    again = raynas.resume(run, trials=4)
    assert sorted(again.trials["number"]) == [0, 1, 2, 3]
    with pytest.raises(UserError, match="space of your own"):
        raynas.load(run).get_model()
    model = raynas.load(run, space=text).get_model()
    assert model(torch.zeros(2, *SHAPE)).shape == (2, 10)


@pytest.mark.slow
def test_an_own_network_with_its_training(tmp_path):
    result = raynas.search(
        space=Tiny, trials=3, epochs=1, run=tmp_path / "run", search_training=True,
        strategy="random", scheduler="none", driver="local",
    )  # fmt: skip
    assert {"d.width", "d.train.learning_rate", "d.train.optimizer"} <= set(result.trials)
    assert result.get_model().training is False
    name, claims = result.layer_claims(1)
    assert name == "1"
    assert {c.path for c in claims} <= {"width"}


class Tiny(nn.Sequential):
    def __init__(self, input_shape, num_classes):
        width = choice("width", [4, 8])
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, num_classes))
