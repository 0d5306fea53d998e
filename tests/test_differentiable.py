"""Differentiable search: mixtures equal their paths, and gradients equal those of the papers."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F

import search_spaces
from raynas.costs import costs_of
from raynas.data import load
from raynas.errors import UserError
from raynas.mixtures import Share, blended
from raynas.recipe import Recipe
from raynas.space import Space
from raynas.strategies import expected_cost, relaxation
from raynas.strategies.bilevel import (
    dominant_eigenvalue,
    gate_gradient,
    gumbel,
    rescaled,
    straight_through,
    turned_sharp,
    unrolled_gradient,
)
from raynas.strategies.chances import Choices
from raynas.strategies.differentiable import Darts, Gdas, PCDarts, Proxyless
from raynas.strategies.expected_cost import ExpectedCost
from raynas.supernet import Supernet, training
from raynas.supernet.training import Trainer
from raynas.training import DeviceData

IMAGES = (1, 8, 8)
CELLS = "nasbench201:channels=4,cells=1"
NETS = {"nasbench201": CELLS, "darts": "darts:channels=8,cells=3"}


@pytest.fixture(scope="module")
def digits():
    return DeviceData.of(load("digits"), torch.device("cpu"))


@pytest.fixture(scope="module")
def nets():
    """Supernets, each with the weights that it began with."""
    made = {name: Supernet(search_spaces.find(text), IMAGES, 10) for name, text in NETS.items()}
    start = {name: {k: v.clone() for k, v in n.state_dict().items()} for name, n in made.items()}
    return made, start


@pytest.fixture
def new(nets, digits, monkeypatch):
    """Trainers of a space, each with new weights; the latest alone may train."""
    monkeypatch.setattr(training, "SAMPLED", 1)  # that accuracy is not looked at here

    def make(name="nasbench201", epochs=2, batch_size=256):
        made, start = nets
        made[name].load_state_dict(start[name])
        return Trainer(made[name], digits, Recipe(epochs=epochs, batch_size=batch_size), seed=4)

    return make


@pytest.fixture
def cells(nets):
    return nets[0]["nasbench201"]


def only(mixture, architecture):
    """Weights of 1 for what a design has, and 0 for all else."""
    taken = mixture.taken(architecture)
    return {
        edge: torch.tensor([float(taken.get(edge) == option) for option in options])
        for edge, options in mixture.edges.items()
    }


# Mixtures


@pytest.mark.parametrize("name", NETS)
def test_a_mixture_of_one_option_each_is_that_design(nets, name):
    """Forwards and backwards, on the same parameters."""
    supernet = nets[0][name]
    space, mixture, images = supernet.space, supernet.mixture(), torch.randn(4, *IMAGES)
    rng = np.random.default_rng(3)
    designs = [a for _ in range(14) if space.identity(a := space.sample(rng)) != "nothing"]
    assert len(designs) > 8
    for design in designs:
        gradients = []
        expected, logits = supernet(images, design), mixture(images, only(mixture, design))
        torch.testing.assert_close(logits, expected)
        for output in (expected, logits):
            output.square().sum().backward()
            gradients.append({k: p.grad for k, p in supernet.shared.items() if p.grad is not None})
            supernet.zero_grad(set_to_none=True)
        used = [{k: g for k, g in some.items() if g.abs().max() > 1e-4} for some in gradients]
        torch.testing.assert_close(used[1], used[0], rtol=1e-3, atol=1e-4)


def test_only_options_that_count_are_computed(cells):
    mixture, run = cells.mixture(), []
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: run.append(name))
        for name, layer in mixture.named_modules()
        if name.startswith("cell0.alive.") and name.count(".") == 2
    ]
    options = ("nor_conv_1x1", "skip_connect", "none", "avg_pool_3x3", "nor_conv_3x3", "none")
    design = cells.space.architecture(dict(zip(mixture.edges, options, strict=True)))
    mixture(torch.randn(2, *IMAGES), only(mixture, design))
    assert {name.rpartition(".")[2] for name in run} == {
        "node1_from_0_nor_conv_1x1",
        "node2_from_0_skip_connect",
        "node3_from_0_avg_pool_3x3",
        "node3_from_1_nor_conv_3x3",
    }
    run.clear()
    even = {edge: torch.full((5,), 0.2) for edge in mixture.edges}
    mixture(torch.randn(2, *IMAGES), even)
    assert len(run) == 24  # six edges of five options, of which one is none
    for hook in hooks:
        hook.remove()


def test_an_edge_adds_up_its_options_by_weight():
    x = torch.randn(2, 8, 4, 4)
    layers = {"double": lambda y: 2 * y, "square": torch.square}
    half = Share((("double", torch.tensor(0.25)), ("square", torch.tensor(0.75))))
    torch.testing.assert_close(blended(x, half, layers.get), 0.5 * x + 0.75 * x**2)
    assert blended(x, Share(()), layers.get) is None
    third = Share((("double", torch.tensor(1.0)),), torch.tensor(3.0))
    partly = blended(x, third, layers.get, part=4)
    shuffled = [0, 2, 4, 6, 1, 3, 5, 7]  # the first of each quarter, then the second of each
    factor = torch.tensor([6.0, 3, 3, 3, 6, 3, 3, 3]).view(1, 8, 1, 1)
    torch.testing.assert_close(partly, factor * x[:, shuffled])
    narrow = Share((("pool", torch.tensor(1.0)),))
    pool = torch.nn.AvgPool2d(2)
    strided = blended(x, narrow, {"pool": pool}.get, part=4, stride=2)
    assert strided.shape == (2, 8, 2, 2)
    torch.testing.assert_close(strided[:, 0], pool(x)[:, 0])
    torch.testing.assert_close(strided[:, 1], F.max_pool2d(x, 2)[:, 2])


def test_partial_channels_use_the_first_of_the_shared_ones(cells):
    part = dict(cells.mixture(4).named_parameters())[
        "cell1.alive.node1_from_0_nor_conv_3x3.1.weight"
    ]
    whole = dict(cells.mixture().named_parameters())
    shared = whole["cell1.alive.node1_from_0_nor_conv_3x3.1.weight"]
    assert torch.equal(part, shared[:2, :2])
    assert any(shared is p for p in cells.parameters())
    with pytest.raises(UserError, match=r"multiple of 3 for .* one of 3 parts of them; got 4"):
        cells.mixture(3)


def test_a_narrower_space_has_a_narrower_mixture():
    space = search_spaces.find("darts:channels=4,cells=3")
    convolutions = [o for o in space.by_name["normal.node0.op0"].options if "conv" in o]
    narrow = space.narrow(
        {"normal.node1.inputs": "0+2", "normal.node0.op0": "skip_connect"},
        {"reduction.node2.op0": convolutions, "reduction.node2.op1": convolutions},
    )
    mixture = narrow.mixture(narrow, IMAGES, 3, 1)
    assert mixture.edges["normal.node0.from_input0"] == ("skip_connect",)
    assert "normal.node1.from_input1" not in mixture.edges
    assert mixture.edges["reduction.node2.from_node1"] == (
        "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
    )  # fmt: skip
    weights = {edge: torch.full((len(o),), 1 / len(o)) for edge, o in mixture.edges.items()}
    assert mixture(torch.randn(3, *IMAGES), weights).isfinite().all()
    strengths = {edge: dict.fromkeys(o, 1.0) for edge, o in mixture.edges.items()}
    narrow.check(narrow.discretize(narrow, strengths))
    kept = space.with_decisions(Space.from_dict(narrow.to_dict()))
    assert kept.mixture(kept, IMAGES, 3, 1).edges == mixture.edges


def test_darts_keeps_the_two_strongest_inputs_of_every_node():
    space = search_spaces.find("darts:channels=4,cells=3")
    edges = space.mixture(space, IMAGES, 3, 1).edges
    strengths = {edge: dict.fromkeys(options, 0.01) for edge, options in edges.items()}
    for edge, option, strength in [
        ("normal.node3.from_input1", "none", 0.99),  # does not count
        ("normal.node3.from_node2", "dil_conv_5x5", 0.4),
        ("normal.node3.from_input0", "skip_connect", 0.3),
        ("normal.node3.from_node1", "sep_conv_3x3", 0.2),
        ("reduction.node1.from_node0", "max_pool_3x3", 0.5),
        ("reduction.node1.from_node0", "avg_pool_3x3", 0.6),
        ("reduction.node1.from_input1", "sep_conv_5x5", 0.2),
    ]:
        strengths[edge][option] = strength
    design = space.discretize(space, strengths)
    assert design["normal.node3.inputs"] == "0+4"
    assert (design["normal.node3.op0"], design["normal.node3.op1"]) == (
        "skip_connect",
        "dil_conv_5x5",
    )
    assert design["reduction.node1.inputs"] == "1+2"
    assert design["reduction.node1.op1"] == "avg_pool_3x3"
    assert "none" not in design.options.values()


def test_nasbench201_takes_the_strongest_options_through_which_something_passes():
    space = search_spaces.find(CELLS)
    strengths = {
        d.name: dict(zip(d.options, (0.4, 0.3, 0.1, 0.2, 0.0), strict=True))
        for d in space.decisions
    }
    assert {*space.discretize(space, strengths).options.values()} == {"skip_connect"}
    strengths["cell.node3.from_0"]["nor_conv_3x3"] = 0.5
    design = space.discretize(space, strengths)
    assert design["cell.node3.from_0"] == "nor_conv_3x3"
    assert [*design.options.values()].count("none") == 5


def test_spaces_without_a_mixture_are_refused(new, monkeypatch):
    trainer = new()
    without = replace(trainer.supernet.space, name="layered", mixture=None)
    monkeypatch.setattr(trainer.supernet, "space", without)
    for method in (Darts(), Gdas(), PCDarts(), Proxyless()):
        with pytest.raises(UserError, match=r"layered: expected .* \(nasbench201, darts\)"):
            method.start(trainer)


# Mathematics


def test_the_unrolled_gradient_of_a_quadratic_problem():
    """T = w'Aw / 2 + a'Bw and V = |w - c|^2 / 2 + |a - d|^2 / 2, with w' = w - s (Aw + B'a).

    Then dV(w', a)/da = a - d - s B (w' - c).
    """
    generator = torch.Generator().manual_seed(0)
    w, c, a, d, b, root = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((3,), (3,), (2,), (2,), (2, 3), (3, 3))
    )
    curve, step = root @ root.T, 0.3
    w, a = w.requires_grad_(), a.requires_grad_()
    found = unrolled_gradient(
        lambda ws, a: ws[0] @ curve @ ws[0] / 2 + a @ b @ ws[0],
        lambda ws, a: (ws[0] - c).square().sum() / 2 + (a - d).square().sum() / 2,
        [w],
        a,
        step,
    )
    ahead = w - step * (curve @ w + b.T @ a)
    torch.testing.assert_close(found, a - d - step * b @ (ahead - c))
    assert (found - (a - d)).abs().min() > 0.01  # the second order matters here


def test_the_unrolled_gradient_of_a_cell_equals_finite_differences():
    supernet = Supernet(search_spaces.find("nasbench201:channels=2,cells=1"), (1, 8, 8), 3).double()
    mixture, generator = supernet.mixture(), torch.Generator().manual_seed(1)
    choices = Choices(mixture.edges, torch.device("cpu"), 0.1)
    names, weights = zip(*mixture.named_parameters(), strict=True)
    data = [torch.randn(6, 1, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2)]
    labels = torch.tensor([0, 1, 2, 0, 1, 2])

    def on(images):
        def loss(weights, values):
            given = (images, choices.weights(values))
            named = dict(zip(names, weights, strict=True))
            return F.cross_entropy(functional_call(mixture, named, given), labels)

        return loss

    training, validation = map(on, data)
    step = 0.5
    at = (0.5 * torch.randn(30, generator=generator, dtype=torch.float64)).requires_grad_()
    found = unrolled_gradient(training, validation, weights, at, step)
    first = torch.autograd.grad(validation(weights, at), at)[0]

    def ahead(values):
        slopes = torch.autograd.grad(training(weights, values), weights)
        moved = [w - step * d for w, d in zip(weights, slopes, strict=True)]
        return validation(moved, values).item()

    for i in (1, 3, 9, 12, 28):
        reach = torch.zeros(30, dtype=torch.float64)
        reach[i] = 1e-5
        difference = (ahead(at.detach() + reach) - ahead(at.detach() - reach)) / 2e-5
        assert found[i].item() == pytest.approx(difference, rel=1e-4, abs=1e-8)
    assert (found - first).norm() > 0.05 * first.norm()  # the second order matters here


@pytest.mark.parametrize("seed", range(5))
def test_a_straight_through_draw_has_the_gradient_of_the_softmax(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, generator=generator).requires_grad_()
    noise, slopes = gumbel(5, generator), torch.randn(5, generator=generator)
    drawn = straight_through(logits, noise, 0.7)
    drawn.backward(slopes)
    hard = drawn.detach()
    assert hard.argmax() == (logits + noise).argmax()
    assert hard.count_nonzero() == 1
    assert hard.sum().item() == pytest.approx(1)
    soft = ((logits + noise) / 0.7).softmax(0)
    torch.testing.assert_close(logits.grad, soft * (slopes - (soft * slopes).sum()) / 0.7)


def test_gumbel_noise_draws_by_the_chances():
    chances = torch.tensor([0.6, 0.3, 0.1])
    generator = torch.Generator().manual_seed(0)
    noise = gumbel(3 * 4000, generator).view(4000, 3)
    drawn = torch.bincount((chances.log() + noise).argmax(1), minlength=3) / 4000
    torch.testing.assert_close(drawn, chances, atol=0.03, rtol=0)


def test_gate_gradients_are_those_of_the_formula():
    """dL/da_i = sum over j of dL/dg_j p_j (1[i = j] - p_i)."""
    logits, slopes = torch.tensor([0.3, -1.0, 0.8]), torch.tensor([2.0, -0.5, 0.1])
    p = logits.softmax(0).tolist()
    expected = [
        sum(slopes[j].item() * p[j] * ((i == j) - p[i]) for j in range(3)) for i in range(3)
    ]
    assert gate_gradient(logits, slopes).tolist() == pytest.approx(expected)


def test_a_step_of_two_paths_leaves_the_others_their_chances():
    before = torch.tensor([0.1, 0.7, -0.4, 1.2])
    after = before + torch.tensor([0.5, 0.0, -0.3, 0.0])
    p, q = before.softmax(0), rescaled(before, after, [0, 2]).softmax(0)
    torch.testing.assert_close(q[[1, 3]], p[[1, 3]])
    assert q[0] > p[0]
    assert (q[0] / q[2]).item() == pytest.approx((after[0] - after[2]).exp().item(), rel=1e-5)


def test_the_dominant_eigenvalue_of_a_quadratic():
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0]
    start = torch.randn(4, generator=generator, dtype=torch.float64)
    for values, largest in (((0.5, -1.0, 5.0, 2.0), 5.0), ((0.5, -7.0, 5.0, 2.0), 7.0)):
        curve = turn @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ turn.T
        found = dominant_eigenvalue(lambda x, c=curve: x @ c @ x / 2, start, start, 60)
        assert found == pytest.approx(largest, rel=1e-6)


def test_the_rule_of_early_stopping():
    flat = [1.0] * 10
    assert turned_sharp(flat) is None
    assert turned_sharp([1.0] * 5 + [1.3] * 5) is None  # 1 / 1.3 = 0.77
    assert turned_sharp([1.0] * 5 + [1.4] * 5) == 4  # 1 / 1.4 = 0.71: back to the fifth epoch
    assert turned_sharp([1.0] * 5 + [9.0] * 4) is None  # no two windows yet
    assert turned_sharp([5.0, *[1.0] * 6, *[2.0] * 4]) == 5


# Methods


@pytest.mark.parametrize("seed", range(2))
def test_the_expected_cost_is_the_mean_cost_of_drawn_designs(cells, seed):
    rng, space = np.random.default_rng(seed), cells.space
    for cost in ("flops", "params"):
        expected = ExpectedCost.fitted(cells, cost, seed)
        rows = {d.name: rng.dirichlet([0.5] * 5) for d in space.decisions}
        said = expected.of({name: torch.tensor(row) for name, row in rows.items()}).item()
        drawn = []
        for _ in range(2000):
            design = space.answer(lambda d, rows=rows: str(rng.choice(d.options, p=rows[d.name])))
            drawn.append(costs_of(space, design, IMAGES, 10)[cost])
        assert said == pytest.approx(np.mean(drawn), rel=0.03)
        some = [costs_of(space, space.sample(rng), IMAGES, 10)[cost] for _ in range(2000)]
        assert expected.reference == pytest.approx(np.mean(some), rel=0.1)


def test_the_weight_of_the_expected_cost_acts_by_its_logarithm(cells):
    expected = ExpectedCost.fitted(cells, "flops", 0)
    even = {edge: torch.full((5,), 0.2) for edge in expected.each}
    slopes, cost = expected.slopes(even, 0.1), expected.of(even).item()
    for edge, found in slopes.items():
        torch.testing.assert_close(found, 0.1 * expected.each[edge] / cost)
    assert (slopes["cell.node3.from_2"][3] > 5 * slopes["cell.node3.from_2"][2]).item()


def test_unknown_costs_and_settings_are_refused(cells):
    with pytest.raises(
        UserError, match="cost: expected one of flops, params, latency_ms; got 'flop'"
    ):
        ExpectedCost.fitted(cells, "flop", 0)
    for make, said in [
        (lambda: Darts(order=3), "order=1 or order=2; got 3"),
        (lambda: Gdas(coldest=0.0), "temperatures above 0"),
        (lambda: PCDarts(part=1), "part of 2 or more"),
        (lambda: Proxyless(weight=-1.0), "weight of 0 or more"),
    ]:
        with pytest.raises(UserError, match=said):
            make()


METHODS = {
    "darts": lambda: Darts(learning_rate=0.05),
    "darts2": lambda: Darts(order=2, learning_rate=0.05, stop=False),
    "gdas": lambda: Gdas(learning_rate=0.05, stop=True),
    "pc_darts": lambda: PCDarts(learning_rate=0.05, warmup=0.0, stop=True),
    "proxyless": lambda: Proxyless(learning_rate=0.05, stop=True),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_training_goes_on_from_its_checkpoint_and_ends_in_designs(new, name):
    """In one go and in two: the same readings, chances and designs."""
    whole, method = new(), METHODS[name]()
    method.start(whole)
    torch.manual_seed(0)
    readings = [whole.run(method)]
    kept = whole.dump(method)
    torch.manual_seed(1)  # nothing comes from the global generator
    readings.append(whole.run(method))
    again, resumed = new(), METHODS[name]()
    resumed.start(again)
    again.restore(resumed, kept)
    assert again.run(resumed) == readings[1]
    assert resumed.chances() == method.chances()
    if name in ("darts", "darts2", "pc_darts"):  # others train another path at each step
        assert readings[1]["train_loss"] < readings[0]["train_loss"]
    assert readings[1].get("eigenvalue", 1.0) > 0
    assert readings[1]["entropy"] < np.log(5)
    for row in method.chances().values():
        assert sum(row.values()) == pytest.approx(1)
        assert list(row) == ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
    space, proposals = whole.supernet.space, method.designs(whole, 6)
    assert proposals == resumed.designs(again, 6)
    for proposal in proposals:
        space.check(proposal.architecture)
        shown = proposal.reason.chances["cell.node3.from_2"]
        assert shown == tuple(method.chances()["cell.node3.from_2"].values())
    assert len({space.identity(p.architecture) for p in proposals}) == 6
    assert [p.reason.kind for p in proposals] == ["derived"] + ["policy"] * 5
    likely = [p.reason.scores["log_probability"] for p in proposals]
    assert likely[1:] == sorted(likely[1:], reverse=True)
    first = space.plainest(space.discretize(space, method.chances()))
    assert proposals[0].architecture == first or name == "pc_darts"


def test_darts_searches_its_own_space(new):
    for method in (Gdas(learning_rate=0.05), PCDarts(warmup=0.0, learning_rate=0.05)):
        trainer = new("darts", epochs=1, batch_size=500)
        method.start(trainer)
        assert method.epoch(trainer)["train_loss"] < 4
        space = trainer.supernet.space
        proposals = method.designs(trainer, 4)
        assert len({space.identity(p.architecture) for p in proposals}) == 4
        assert set(method.chances()) == {
            f"{kind}.node{n}.from_{source}"
            for kind, n in product(("normal", "reduction"), range(4))
            for source in ("input0", "input1", *(f"node{i}" for i in range(n)))
        }
        assert proposals[0].reason.chances == {}  # its edges are no decisions


def test_pc_darts_first_trains_weights_only(new):
    trainer, method = new(), PCDarts(warmup=0.5)
    method.start(trainer)
    assert trainer.run(method)["entropy"] == pytest.approx(np.log(5), abs=1e-9)
    assert trainer.run(method)["entropy"] < np.log(5) - 1e-9


def test_gdas_cools_down(new):
    trainer, method = new(epochs=3), Gdas()
    method.start(trainer)
    assert [trainer.run(method)["temperature"] for _ in range(3)] == pytest.approx([10, 5.05, 0.1])


def test_proxyless_moves_two_options_per_edge_and_heeds_costs(new):
    trainer, method = new(), Proxyless(weight=20.0)
    method.start(trainer)
    before = method.chances()
    method._compete(trainer, next(trainer.held_out()))
    moved = [
        sum(abs(row[o] - before[edge][o]) > 1e-6 for o in row)
        for edge, row in method.chances().items()
    ]
    assert set(moved) <= {0, 2}  # none: two that cost nothing, and nobody reads what they say
    assert moved.count(2) > 2
    costs = [trainer.run(method)["expected_flops"] for _ in range(2)]
    assert costs[1] < costs[0] < method._expected.reference


def test_the_training_ends_when_the_loss_turns_sharp(new, monkeypatch):
    trainer, method = new(epochs=25), Darts(learning_rate=0.1)
    method.start(trainer)
    planted = iter([1.0] * 5 + [2.0] * 5)
    monkeypatch.setattr(relaxation, "dominant_eigenvalue", lambda *_: next(planted))
    search = method._search
    for epoch in range(10):
        assert trainer.epochs == 25
        trainer.epoch = epoch
        search.choices.put(torch.full((30,), float(epoch)) * torch.arange(30) / 30)
        reading = search.close(trainer, [torch.tensor(1.0)])
    assert reading["eigenvalue"] == 2.0
    assert trainer.epochs == 10
    expected = 4.0 * torch.arange(30) / 30  # of the fifth epoch
    torch.testing.assert_close(search.choices.values.detach(), expected)
    assert "epoch 10: stopped early" in trainer.notes[0]
    assert "epoch 5 are taken" in trainer.notes[0]


def test_sharpness_does_not_end_a_training_in_its_first_epochs(new, monkeypatch):
    trainer, method = new(epochs=26), Darts(learning_rate=0.1)
    method.start(trainer)
    planted = iter([1.0] * 5 + [2.0] * 10)
    monkeypatch.setattr(relaxation, "dominant_eigenvalue", lambda *_: next(planted))
    for epoch in range(11):
        assert trainer.epochs == 26
        trainer.epoch = epoch
        method._search.close(trainer, [torch.tensor(1.0)])
    assert trainer.epochs == 11


def test_a_training_too_short_for_its_choices_is_told_of(new):
    trainer, method = new(epochs=10), Darts(learning_rate=3e-4)
    method.start(trainer)  # 40 steps
    assert "40 steps of learning_rate=0.0003 hardly move the choices" in trainer.notes[0]
    assert "learning_rate=0.1" in trainer.notes[0]
    trainer = new(epochs=10)
    Darts(learning_rate=0.1).start(trainer)
    assert trainer.notes == []


def test_choices_move_as_far_in_few_steps_as_in_many(new):
    trainer, method = new(epochs=100), Darts()
    method.start(trainer)  # 400 steps
    assert method._search.choices.rate == pytest.approx(6 / 400)
    assert trainer.notes == []


def test_latency_may_be_what_is_expected(monkeypatch):
    monkeypatch.setattr(expected_cost, "DESIGNS", 30)
    whole = search_spaces.find("nasbench201:channels=4,cells=1")
    rare = ("nor_conv_1x1", "avg_pool_3x3", "none")
    few = whole.narrow(forbidden={d.name: rare for d in whole.decisions})
    cells = Supernet(few, IMAGES, 10)
    expected = ExpectedCost.fitted(cells, "latency_ms", 0)
    even = {e: torch.full((len(o),), 1 / len(o)) for e, o in cells.mixture().edges.items()}
    assert expected.of(even).item() == pytest.approx(expected.reference, rel=0.5)
    assert expected.reference > 0.05


def test_skip_connections_that_lead_are_told_of_once(new):
    trainer, method = new(), Gdas(learning_rate=0.5)
    method.start(trainer)
    search = method._search
    for leading in (3, 5, 6):
        flat = torch.zeros(6, 5)
        flat[:, 0] = 3.0  # none, which does not count
        flat[:leading, 1] = 1.0
        search.choices.put(flat.flatten())
        search.close(trainer, [torch.tensor(1.0)])
    assert len(trainer.notes) == 1
    assert "epoch 1: skip connections lead on 5 of 6 edges" in trainer.notes[0]
    skips = {"none": 0.1, "skip_connect": 0.6, "sep_conv_3x3": 0.3}
    rows = {
        f"{kind}.node0.from_input{i}": skips for kind in ("normal", "reduction") for i in (0, 1)
    }
    assert "2 of 2" in relaxation.skips_lead(rows)
    rows |= {e: {**skips, "sep_conv_3x3": 0.59} for e in rows if e.startswith("normal")}
    assert relaxation.skips_lead(rows) == ""  # reduction cells do not count
