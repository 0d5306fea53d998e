"""What is said of a run, as a table: every sentence with the claims that it rests on.

`RUN/sentences/sentences.parquet`: sentence_id; ordinal, in the order of reading; level, the
briefest at which it is said (`full` is beyond all of them); template, the kind of claim, or
`summary`; text; claim_ids; renderer, `template` or `rephrased`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd
import pyarrow as pa

from raynas.explanation.checking import Rephrase, rephrased
from raynas.explanation.choosing import LEVELS, chosen, in_order
from raynas.explanation.claims import Claim, identify
from raynas.explanation.sentences import sentence, summary
from raynas.files import read_table, write_table

FULL = "full"  # the level of what is said only where a decision or a layer is asked about
MOST = 20_000  # sentences that are kept
SCHEMA = pa.schema(
    [
        ("sentence_id", pa.string()),
        ("ordinal", pa.int64()),
        ("level", pa.string()),
        ("template", pa.string()),
        ("text", pa.string()),
        ("claim_ids", pa.list_(pa.string())),
        ("renderer", pa.string()),
    ]
)


@dataclass(frozen=True)
class Sentence:
    """One row of the table; see the module."""

    sentence_id: str
    ordinal: int
    level: str
    template: str
    text: str
    claim_ids: Sequence[str]
    renderer: str


def tell(claims: Sequence[Claim], rephrase: Rephrase | None = None) -> list[Sentence]:
    """Says every claim, in the order of reading, each at the briefest level that has it.

    Args:
        rephrase: words what is said at some level anew; its text is dropped where it says
            anything else (`raynas.explanation.checking`).
    """
    levels = _levels(claims)
    rows = []
    for c in in_order(claims)[:MOST]:
        level = levels.get(c.claim_id, FULL)
        words = rephrase if level != FULL else None
        rows.append((level, c.kind, *rephrased(sentence(c), [c], words, claims), [c.claim_id]))
    effects = [c for c in claims if c.kind == "effect"]
    if effects:
        ids = [c.claim_id for c in effects]
        rows.append((next(iter(LEVELS)), "summary", summary(claims), "template", ids))
    return [
        Sentence(identify("", template, text, i), i, level, template, text, ids, renderer)
        for i, (level, template, text, renderer, ids) in enumerate(rows)
    ]


def write(folder: Path, sentences: Sequence[Sentence]) -> None:
    """Replaces the sentences of a run, making the folder."""
    folder.mkdir(exist_ok=True)
    rows = [{f.name: getattr(s, f.name) for f in fields(Sentence)} for s in sentences]
    write_table(folder / "sentences.parquet", pa.Table.from_pylist(rows, schema=SCHEMA))


def read(folder: Path) -> pd.DataFrame:
    """The sentences of a run; without any, an empty frame with their columns."""
    path = folder / "sentences.parquet"
    table = read_table(path) if path.exists() else SCHEMA.empty_table()
    data: pd.DataFrame = table.to_pandas()
    return data


def _levels(claims: Sequence[Claim]) -> dict[str, str]:
    """The briefest level at which each claim is said."""
    found: dict[str, str] = {}
    for level, most in LEVELS.items():
        for c in chosen(claims, most):
            found.setdefault(c.claim_id, level)
    return found
