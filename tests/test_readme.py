"""The README's Python runs as it stands."""

import re
from pathlib import Path

import pytest

import search_spaces
from raynas.strategies import STRATEGIES

TEXT = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.slow
def test_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in BLOCKS:
        exec(compile(code, "README.md", "exec"), names)
        assert len(names["result"].front()) >= 1


def test_every_space_and_strategy_is_named():
    named = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    assert sorted(named) == sorted([*search_spaces.names(), *STRATEGIES])


def test_every_command_exists():
    from raynas.cli import _parser

    commands = _parser()._subparsers._group_actions[0].choices
    named = set(
        re.findall(r"(?:^|\s)raynas ([a-z]+)", "".join(re.findall(r"```(?!p).*?```", TEXT, re.S)))
    )
    assert named
    assert named <= set(commands)
