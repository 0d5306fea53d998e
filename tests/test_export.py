import builtins
import json
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

import raynas
import search_spaces
from raynas import cli
from raynas.blocks import Convolution, Resize
from raynas.costs import costs_of
from raynas.errors import UserError
from raynas.export.interchange import onnx, onnx_session, torch_export
from raynas.export.plain import plain
from raynas.export.source import Origin, write

SHAPE = (3, 16, 16)
LIGHT = {
    "compound_scaling": ":width=0.25",
    "darts": ":channels=4,cells=3",
    "nasbench201": ":channels=4,cells=1",
    "vit": ":embedding=64,depth=4",
}
ORIGIN = Origin("Trial 3 of a test.", "space{a=1}", SHAPE, [*"abcdefg"], [1.0] * 3, [2.0] * 3)


def read(text):
    module = {"__name__": "read", "__file__": "read.py"}
    exec(compile(text, "read.py", "exec"), module)
    return module


def shaken(model):
    """With statistics as after a training, in eval mode."""
    generator = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()


def written(model, shape=SHAPE):
    """The text of a network, which `write` has compared with it already, and its network."""
    origin = Origin(**{**vars(ORIGIN), "shape": shape})
    text, weights = write(plain(model), origin, "trial3")
    network = read(text)["network"]()
    network.load_state_dict(weights)
    network.requires_grad_(False)
    return text, network.eval()


@pytest.mark.parametrize("name", search_spaces.names())
def test_a_member_of_every_space_as_plain_code(name):
    space = search_spaces.find(name + LIGHT.get(name, ""))
    some = [space.sample(np.random.default_rng(seed)) for seed in range(3)]
    design = min(some, key=lambda d: costs_of(space, d, SHAPE, 7)["flops"])
    model = shaken(space.build(design, SHAPE, 7))
    text, network = written(model)
    assert "raynas" not in text.partition('"""\n\nimport')[2]
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) < 400
    images = torch.randn(6, *SHAPE)
    assert torch.equal(network(images), plain(model)(images))


class Block(nn.Module):
    """Filters, and adds what it read. More is not said."""

    def __init__(self, c_in, c_out, scale, negate=False):
        super().__init__()
        self.filter = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.unused = nn.Linear(3, 3)
        self.scale, self.negate = scale, negate

    def forward(self, x):
        y = self.filter(x)
        for _ in range(2):
            y = functional.leaky_relu(y, 0.1) * self.scale
        return -y if self.negate else y


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(3, 8, 0.5), Block(8, 8, 2.0), Block(8, 4, 1.5, True)])
        self.gain = nn.Parameter(torch.randn(4, 1, 1))
        self.register_buffer("shift", torch.randn(4, 1, 1), persistent=False)
        self.plain = torch.randn(1, 4, 1, 1)
        self.head = nn.Linear(4, 7)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        parts = (x * self.gain + self.shift - self.plain).reshape(len(x), 2, 2, -1).split(1, 1)
        left, right = parts
        left += right
        return self.head(torch.cat([left, 1 - right], 1).amax(3).flatten(1))


def test_a_network_of_ones_own_classes():
    model = Own().eval().requires_grad_(False)
    text, network = written(model)
    images = torch.randn(5, *SHAPE)
    assert torch.equal(network(images), model(images))
    assert "class Block(nn.Module):" in text
    assert "self.scale = scale" in text  # what differs between blocks, by the name they give it
    assert "x.shape[0]" in text  # the number of images is not fixed
    assert "unused" not in text
    assert text.count("\nclass ") == 3  # two blocks that differ in numbers, one in what it does


def test_equal_layers_in_a_row_become_a_loop():
    rows = [nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(5)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4), *rows, nn.Linear(4, 7))
    text, _ = written(model)
    assert "for _ in range(5)" in text


def test_sizes_that_follow_from_others_are_known_where_functions_are_put_in():
    def wide(c_in, hidden):  # used once, inside of a function that is used once
        return nn.Sequential(nn.Conv2d(c_in, hidden, 1), nn.BatchNorm2d(hidden), nn.SiLU())

    def block(hidden):
        parts = [("expand", wide(hidden // 2, hidden)), ("project", nn.Conv2d(hidden, 4, 1))]
        return nn.Sequential(OrderedDict(parts))

    rows = [Held(block(8)) for _ in range(2)]
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), *rows, nn.AvgPool2d(16), nn.Flatten(), nn.Linear(4, 7)
    )
    text, _ = written(model)
    assert "class Held" in text


class Held(nn.Module):
    def __init__(self, branch):
        super().__init__()
        self.branch = branch

    def forward(self, x):
        return x + self.branch(x)


def test_rounded_and_parametrized_weights_are_written_as_they_act():
    class Halved(nn.Module):
        def forward(self, weight):
            return weight / 2

    model = nn.Sequential(
        Convolution(3, 4, 3, bits=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7)
    ).eval()
    parametrize.register_parametrization(model[3], "weight", Halved())
    text, network = written(model)
    images = torch.randn(2, *SHAPE)
    assert torch.equal(network(images), model(images))
    assert "round" not in text
    assert parametrize.is_parametrized(model[3])  # untouched
    assert len({*network[0].weight[0].detach().flatten().tolist()}) <= 15


def test_what_cannot_be_written_as_fixed_steps_is_refused():
    class Deciding(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :7] if x.sum() > 0 else x.flatten(1)[:, 7:14]

    with pytest.raises(UserError, match=r"Deciding.*what is in its tensors.*safetensors"):
        written(Deciding())


def test_onnx_and_torch_export_take_any_number_of_images(tmp_path):
    pytest.importorskip("onnxruntime")
    layers = [Resize(0.75), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1)]
    model = plain(shaken(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 7))))
    onnx(model, (1, 16, 16), {"classes": "[1]"}, tmp_path / "a.onnx")
    images = torch.randn(3, 1, 16, 16)
    found = onnx_session(tmp_path / "a.onnx")(images)
    assert torch.allclose(found, model(images), atol=1e-4)
    again = torch_export(model, (1, 16, 16), {}, tmp_path / "a.pt2")
    assert torch.allclose(again(images), model(images), atol=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "run"
    space = search_spaces.find("layered")
    raynas.search(
        space=space.narrow({"num_layers": 2}),
        trials=1,
        epochs=1,
        strategy="random",
        driver="local",
        scheduler="none",
        run=folder,
    )
    return folder


def result_of(run):
    return raynas.load(run, space=search_spaces.find("layered"))


def test_a_file_classifies_without_raynas(run, tmp_path, capsys):
    from PIL import Image

    out = tmp_path / "winner.py"
    assert cli.main(["export", str(run), "--space", "layered", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "as in the search" in said
    assert "winner.safetensors" in said
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".")]
    (tmp_path / "pictures" / "3").mkdir(parents=True)
    picture = tmp_path / "pictures" / "3" / "a.png"
    Image.fromarray(np.full((20, 16), 200, np.uint8)).save(picture)
    code = (
        "import sys; sys.modules['raynas'] = None; sys.argv[1:] = {}\n"
        "import runpy; runpy.run_path('winner.py', run_name='__main__')"
    )
    for arguments, match in (
        ([str(picture)], "a.png: "),
        (["--evaluate", str(tmp_path / "pictures")], "of 1 pictures"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert match in done.stdout, done.stderr


def test_safetensors_say_what_they_are(run):
    from safetensors import safe_open

    path = result_of(run).export(format="safetensors")
    assert path == run / "exports" / "trial0_weights.safetensors"
    with safe_open(path, "pt") as file:
        said = file.metadata()
    assert json.loads(said["input_shape"]) == [1, 8, 8]
    assert json.loads(said["classes"]) == [*map(str, range(10))]
    assert said["architecture"].startswith("layered{")


def test_an_accuracy_that_is_not_reached_stops_an_export(run, monkeypatch, tmp_path):
    import raynas.export as module

    real = module.plain

    def broken(model):
        found = real(model)
        with torch.no_grad():
            found.get_submodule("classifier").bias.add_(torch.arange(10.0))
        return found

    monkeypatch.setattr(module, "plain", broken)
    with pytest.raises(UserError, match=r"classes .* right; the search reported .*Nothing was"):
        result_of(run).export(format="safetensors", out=tmp_path / "a.safetensors")
    assert not [*tmp_path.iterdir()]


def test_without_onnx_it_says_how_to_have_it(run, monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name == "onnx":
            raise ImportError("no", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r"onnx is not installed.*pip install 'raynas\[export\]'"):
        result_of(run).export(format="onnx")


def test_what_is_asked_wrongly(run, tmp_path):
    result = result_of(run)
    with pytest.raises(UserError, match="format"):
        result.export(format="onxx")
    with pytest.raises(UserError, match=r"ends in \.py; got 'a.txt'"):
        result.export(format="python", out=tmp_path / "a.txt")
    with pytest.raises(UserError, match="that Python can import"):
        result.export(format="python", out=tmp_path / "a-b.py")
