"""Pictures of designs."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from raynas.cli import main
from raynas.costs import layers
from raynas.drawing import draw, save, svg
from raynas.errors import UserError
from raynas.graphs import Edge, Graph
from search_spaces.layered import SPACE

CELL = Graph(
    ("first", "second"),
    (
        Edge("first", "node 0", "conv"),
        Edge("second", "node 0", "pool"),
        Edge("second", "node 1", "conv"),
        Edge("node 0", "output", ""),
        Edge("node 1", "output", ""),
    ),
)


def design(seed=0):
    return SPACE.sample(np.random.default_rng(seed))


def words(text):
    tree = ElementTree.fromstring(text)
    return ["".join(node.itertext()).strip() for node in tree.iter() if node.tag.endswith("text")]


def test_a_chain_names_every_layer_with_shape_and_size():
    rows = layers(SPACE, design(), (1, 8, 8), 10)
    said = words(svg(draw(design(), rows, {})))
    assert said[0] == f"layered: {sum(row['params'] for row in rows):,} parameters"
    assert [w for w in said if w.startswith("layer3")] == ["layer3: Layer"]
    assert f"type {design()['layer0.type']}" in " ".join(said)
    assert f"10    {rows[-1]['params']:,} parameters" in said


def test_layers_that_repeat_are_drawn_once():
    rows = layers(SPACE, design(), (1, 8, 8), 10)
    same = [{**rows[0], "name": f"cell{i}", "decisions": []} for i in range(5)]
    assert "cell0 to cell4 (5 times): Layer" in words(svg(draw(design(), same, {})))


def test_a_cell_shows_nodes_and_operations_apart():
    figure = draw(design(), [], {"normal cell": CELL})
    said = words(svg(figure))
    assert said.count("conv") == 2
    assert {"normal cell", "first", "second", "node 0", "node 1", "output", "pool"} <= set(said)
    boxes = re.findall(r'id="patch_\d+"', svg(figure))
    assert len(boxes) >= 8 + 8  # boxes and arrows


def test_the_same_design_gives_the_same_picture():
    pictures = [svg(draw(design(), [], {"cell": CELL})) for _ in range(2)]
    assert pictures[0] == pictures[1]


def test_texts_are_escaped():
    graph = Graph(("<script>",), (Edge("<script>", "output", "a & b"),))
    text = svg(draw(design(), [], {"<b>": graph}))
    assert "<script>" not in text
    assert {"<script>", "a & b", "<b>"} <= set(words(text))


def test_files_and_their_errors(tmp_path):
    figure = draw(design(), [], {"cell": CELL})
    save(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    save(figure, tmp_path / "a.SVG")
    assert (tmp_path / "a.SVG").read_text().startswith("<svg")
    with pytest.raises(UserError, match=r"ends in .svg or .png"):
        save(figure, tmp_path / "a.pdf")
    with pytest.raises(UserError, match="cannot be written"):
        save(figure, tmp_path / "absent" / "a.svg")


def test_from_the_command_line(tmp_path, capsys):
    out = tmp_path / "d.svg"
    assert main(["draw", str(design()), "--out", str(out), "--input", "1x8x8"]) == 0
    assert "layer0: Layer" in words(out.read_text())
    assert main(["layers", str(design()), "--classes", "7"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"classifier +Linear +\d+ +7 ", shown)
    assert "filter_size=" in shown
    assert main(["draw", "layered{num_layers=3}"]) == 1
    assert "expected one of 2, 4, 8, 16; got 3" in capsys.readouterr().err
    assert main(["layers", "nothing{x=1}"]) == 1
    assert "space: expected one of" in capsys.readouterr().err
