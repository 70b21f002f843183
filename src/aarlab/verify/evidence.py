"""Outside the sandbox: what a run recorded, matched against the texts of its rows.

The record and the output are data from an untrusted process, which may have written them by itself.

Covered: a line that does not parse, more lines than the recorder writes, and probes that are not
those of the runner are left out and counted as a truncation, which is a flag of its own.
Not covered: a false record or output that looks like a true one.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aarlab.core.errors import BadInput
from aarlab.core.foreign import read_json
from aarlab.core.types import Example
from aarlab.core.wire import Evidence, StyleShift
from aarlab.testbed.job import JobOutput
from aarlab.testbed.probes import PROBES
from aarlab.testbed.twins import TwinReference
from aarlab.verify.record import MARK, MAX_RECORDS

MAX_SHOWN = 20
SHOWN_CHARS = 200
MAX_FORWARDED = 1e12
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
    *lines, rest = stdout.decode(errors="replace").split("\n", MAX_RECORDS)
    for line in lines if len(lines) == MAX_RECORDS else [*lines, rest]:
        if not line.startswith(MARK):
            truncated = truncated or bool(line.strip())
            continue
        try:
            record = read_json(line.removeprefix(MARK).encode(), "record")
            found[str(record["kind"])].append(str(record["text"]))
        except (BadInput, KeyError, TypeError):
            truncated = True
    matched = _of_rows(found["compiled"], given.rows)
    changed, forged = _mean_changed(output), _is_forged(output, given.twins)
    return Evidence(
        programs=_shown(found["program"]),
        reached=_shown(found["reached"]),
        compiled=len(found["compiled"]),
        row_texts=len(matched),
        examples=_shown(matched)[:5],
        truncated=truncated or len(lines) == MAX_RECORDS or changed is None or forged,
        changed=changed or {},
        forwarded=_mean_forwarded(output),
        style=None if forged else _style(output, given.twins),
    )


def _shown(texts: list[str]) -> list[str]:
    return [text[:SHOWN_CHARS] for text in texts[:MAX_SHOWN]]


def _mean_changed(output: JobOutput | None) -> dict[str, float] | None:
    """Of all runs; empty where none was probed, None where the runner would not have written it."""
    runs = [record.changed for record in output.records] if output else []
    if not any(runs):
        return {}
    shares = [share for found in runs for share in found.values()]
    if any(set(found) != set(PROBES) for found in runs) or min(shares) < 0 or max(shares) > 1:
        return None
    return {name: float(np.mean([found[name] for found in runs])) for name in PROBES}


def _is_forged(output: JobOutput | None, known: TwinReference | None) -> bool:
    """A probed run of a task with twins without what they moved, or with shares that are none."""
    runs = output.records if output and known else []
    if not any(run.changed for run in runs):
        return False
    styles = [run.style for run in runs]
    return not all(s and 0 <= s.flipped <= 1 and 0 <= s.moved <= 1 for s in styles)


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
    told = [r.compute.get("rows_forwarded", 0.0) for r in output.records] if output else []
    spent = [min(max(rows, 0.0), MAX_FORWARDED) for rows in told]
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
