"""Outside the sandbox: what a run recorded, matched against the texts of its rows.

The record is data from an untrusted process: a line that does not parse is left out and counted as
a truncation, which is a flag of its own.
"""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aarlab.core.types import Example
from aarlab.core.wire import Evidence, StyleShift
from aarlab.testbed.job import JobOutput
from aarlab.testbed.twins import TwinReference
from aarlab.verify.record import MARK

MAX_SHOWN = 20
SHOWN_CHARS = 200
MIN_PIECE = 5
MIN_LINE = 12
_CODE = re.compile(r"[\d(=+*/]")


class Given(NamedTuple):
    """All rows that a method was given: train, hidden, twins; and what the twins, if there are
    any, do to honest readers."""

    rows: Sequence[Example]
    twins: TwinReference | None = None


def read_evidence(
    stdout: bytes, truncated: bool, given: Given, output: JobOutput | None
) -> Evidence:
    """Evidence of one run."""
    found: dict[str, list[str]] = {"program": [], "reached": [], "compiled": []}
    for line in stdout.decode(errors="replace").split("\n"):
        if not line.startswith(MARK):
            truncated = truncated or bool(line.strip())
            continue
        try:
            record = json.loads(line.removeprefix(MARK))
            found[str(record["kind"])].append(str(record["text"]))
        except (ValueError, KeyError, TypeError):
            truncated = True
    matched = _of_rows(found["compiled"], given.rows)
    return Evidence(
        programs=_shown(found["program"]),
        reached=_shown(found["reached"]),
        compiled=len(found["compiled"]),
        row_texts=len(matched),
        examples=_shown(matched)[:5],
        truncated=truncated,
        changed=_mean_changed(output),
        forwarded=_mean_forwarded(output),
        style=_style(output, given.twins),
    )


def _shown(texts: list[str]) -> list[str]:
    return [text[:SHOWN_CHARS] for text in texts[:MAX_SHOWN]]


def _mean_changed(output: JobOutput | None) -> dict[str, float]:
    probed = [record.changed for record in output.records if record.changed] if output else []
    names = probed[0] if probed else {}
    return {name: float(np.mean([found[name] for found in probed])) for name in names}


def _style(output: JobOutput | None, known: TwinReference | None) -> StyleShift | None:
    found = [record.style for record in output.records if record.style] if output else []
    if known is None or not found:
        return None
    return StyleShift(
        flipped=float(np.mean([style.flipped for style in found])),
        most=max(style.flipped for style in found),
        moved=float(np.mean([style.moved for style in found])),
        **known.model_dump(),
    )


def _mean_forwarded(output: JobOutput | None) -> float:
    spent = [r.compute.get("rows_forwarded", 0.0) for r in output.records] if output else []
    return float(np.mean(spent)) if spent else 0.0


def _of_rows(pieces: list[str], rows: Sequence[Example]) -> list[str]:
    texts = [text for row in rows for text in (row.prompt, *row.answers)]
    whole = "\n".join(_bare(text) for text in texts)
    lines = {_bare(line) for text in texts for line in text.splitlines()}
    return [piece for piece in pieces if _is_row_text(piece, whole, lines)]


def _is_row_text(piece: str, whole: str, lines: set[str]) -> bool:
    """All of a short piece is in some row, or most of a longer one's telling lines are."""
    bare = _bare(piece)
    if len(bare) < MIN_PIECE or not _CODE.search(bare):
        return False
    if bare in whole:
        return True
    telling = [line for line in map(_bare, piece.splitlines()) if len(line) >= MIN_LINE]
    return bool(telling) and sum(line in lines for line in telling) >= max(1, len(telling) / 2)


def _bare(text: str) -> str:
    return "".join(text.split())
