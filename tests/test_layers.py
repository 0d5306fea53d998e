"""Imports point one way: pure core <- analysis <- torch <- ray <- shell."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE = {  # layer -> what may be imported at the top of a file, from here and from below
    0: {"numpy", "pydantic"},
    1: {"igraph", "matplotlib", "optuna", "pandas", "pyarrow", "scipy", "sklearn", "jinja2"},
    2: {"torch", "safetensors"},
    3: {"ray"},
    4: {"plotly", "rich", "starlette", "yaml"},
}
LAYER = {  # a file or folder of raynas/ -> its layer; a new file fails until someone decides
    "architecture": 0,
    "compressing": 0,
    "directives": 0,
    "errors": 0,
    "feedback": 0,
    "graphs": 0,
    "named": 0,
    "measured": 1,
    "steered": 1,
    "feasibility": 4,
    "targets": 4,
    "objective": 0,
    "problem": 0,
    "recipe": 0,
    "screening": 0,
    "session": 0,
    "standing": 0,
    "space": 0,
    "strategies": 0,
    "strategies.bohb": 1,
    "strategies.bilevel": 2,
    "strategies.chances": 2,
    "strategies.controllers": 2,
    "strategies.differentiable": 2,
    "strategies.expected_cost": 2,
    "strategies.enas": 2,
    "strategies.generator": 2,
    "strategies.policy": 2,
    "strategies.reinforce": 2,
    "strategies.relaxation": 2,
    "survey": 0,
    "trial": 0,
    "strategies.acquisition": 1,
    "strategies.bananas": 1,
    "strategies.predictor": 1,
    "archive": 1,
    "benchmark": 1,
    "benchmark_command": 4,
    "buying": 1,
    "certainty": 1,
    "drawing": 1,
    "explanation": 1,
    "disk": 1,
    "files": 1,
    "front": 1,
    "history": 1,
    "lock": 1,
    "patience": 1,
    "log": 1,
    "remote": 1,
    "mapping": 1,
    "filling": 1,
    "starting": 1,
    "run": 1,
    "tables": 1,
    "turns": 1,
    "warm_start": 1,
    "watching": 1,
    "attention": 2,
    "blocks": 2,
    "cells": 2,
    "compression": 2,
    "costs": 2,
    "data": 2,
    "evaluation": 2,
    "export": 2,
    "latency": 2,
    "latency_commands": 4,
    "memory": 2,
    "one_shot": 2,
    "mixtures": 2,
    "operations": 2,
    "proxies": 2,
    "choices": 2,
    "resizing": 2,
    "supernet": 2,
    "training": 2,
    "buildable": 2,
    "widening": 2,
    "search_spaces": 2,
    "tune": 3,
    "__init__": 4,
    "answering": 4,
    "api": 4,
    "asked": 4,
    "asking": 4,
    "explain_command": 4,
    "explained": 4,
    "continuing": 4,
    "design_command": 4,
    "design_session": 4,
    "auditing": 4,
    "catalogue": 4,
    "arguments": 4,
    "cli": 4,
    "dashboard": 4,
    "dashboard_command": 4,
    "commands": 4,
    "columns": 1,
    "overview": 1,
    "status_command": 4,
    "trial_command": 4,
    "doctor_command": 4,
    "phases": 1,
    "progress": 4,
    "json_progress": 4,
    "stop_command": 4,
    "report": 4,
    "result": 4,
    "running": 4,
    "specialize": 4,
    "sessions": 4,
    "stages": 4,
    "track_command": 4,
    "tracking": 4,
}
FILES = sorted([*(ROOT / "raynas").rglob("*.py"), *(ROOT / "search_spaces").rglob("*.py")])


def layer_of(module):
    first, *rest = module.split(".")
    name = rest[0] if first == "raynas" and rest else first
    name = "__init__" if name in ("raynas", "__version__") else name
    if len(rest) > 1 and f"{name}.{rest[1]}" in LAYER:  # a heavier file of a lighter folder
        name = f"{name}.{rest[1]}"
    assert name in LAYER, f"{module} has no row in LAYER: decide its layer first"
    return LAYER[name]


def module_of(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree, lazily):
    """What a file imports: at its top (not under TYPE_CHECKING), or anywhere at all."""
    top = [n for n in tree.body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n))]
    for node in ast.walk(tree) if lazily else top:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_downwards(file):
    layer = layer_of(module_of(file))
    allowed = {name for below in range(layer + 1) for name in OUTSIDE[below]}
    for name in imported(ast.parse(file.read_text()), lazily=False):
        first = name.split(".")[0]
        if first in ("raynas", "search_spaces"):
            assert layer_of(name) <= layer, f"{file.name} (layer {layer}) imports {name}"
        else:
            assert first in sys.stdlib_module_names or first in allowed, (
                f"{file.name} (layer {layer}) imports {first} at its top"
            )


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_only_tune_knows_ray(file):
    names = {n.split(".")[0] for n in imported(ast.parse(file.read_text()), lazily=True)}
    assert "ray" not in names or LAYER["tune"] == layer_of(module_of(file))


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import raynas, raynas.cli", ("torch", "ray", "pandas", "numpy", "pydantic", "rich")),
        ("import raynas; raynas.load", ("torch", "ray")),
        ("import raynas.session, raynas.strategies", ("torch", "ray", "pandas")),
        ("import raynas.archive, raynas.explanation.findings", ("torch", "ray")),
        ("import raynas.training, raynas.costs", ("ray", "torchvision")),
    ],
)
def test_what_an_import_does_not_load(statement, absent):
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = done.stdout.split()
    assert not [name for name in absent if name in loaded]
