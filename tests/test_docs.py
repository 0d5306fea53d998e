"""The guides run as they stand: Python blocks one after another, files kept, commands typed."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from raynas.cli import main

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```(python|bash)\n(.*?)```", re.DOTALL)
GUIDES = [path for path in sorted(DOCS.glob("*.md")) if "```python" in path.read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES, ids=lambda p: p.stem)
def test_a_guide_can_be_followed(guide, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    names = {}
    for language, code in BLOCK.findall(guide.read_text()):
        if language == "bash":
            for line in code.splitlines():
                assert main(shlex.split(line)[1:]) == 0, line
        elif title := re.match(r"# (\w+\.py)\n", code):
            (tmp_path / title[1]).write_text(code)
        else:
            exec(compile(code, guide.name, "exec"), names)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
