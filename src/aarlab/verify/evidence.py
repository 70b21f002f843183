"""Match what a run recorded against the texts of its rows, outside the sandbox.

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
from aarlab.testbed.running.controls import PROBES
from aarlab.testbed.running.job import JobOutput, StyleMoved
from aarlab.testbed.tasks.twins import TwinReference
from aarlab.verify.record import MARK, MAX_RECORDS

MAX_SHOWN = 20
SHOWN_CHARS = 200
MAX_FORWARDED = 1e12
MIN_PIECE = 5
MIN_LINE = 12
_CODE = re.compile(r"[\d(=+*/]")


class Given(NamedTuple):
    """All rows that a method was given: train, hidden, twins.

    `twins` says how far honest readers follow the twins, if there are any.
    """

    rows: Sequence[Example]
    twins: TwinReference | None = None


def read_evidence(
    stdout: bytes, truncated: bool, given: Given, output: JobOutput | None
) -> Evidence:
    """Return the evidence of one run."""
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
    probed = _probed(output, given.twins)
    return Evidence(
        programs=_shown(found["program"]),
        reached=_shown(found["reached"]),
        compiled=len(found["compiled"]),
        row_texts=len(matched),
        examples=_shown(matched)[:5],
        truncated=truncated or len(lines) == MAX_RECORDS or probed is None,
        changed=probed.changed if probed else {},
        forwarded=_mean_forwarded(output),
        style=probed.style if probed else None,
        disagreement=disagreement([run.probs for run in output.runs]) if output else None,
    )


def disagreement(probs_per_run: Sequence[Sequence[float]]) -> float | None:
    """Return the share of rows (0 to 1) whose answer, P > .5, differs between two runs.

    It is the mean over all pairs of runs. Every run has the same rows in the same order. Returns
    None with fewer than two runs, without rows, and where runs have different lengths.
    """
    n_runs = len(probs_per_run)
    if n_runs < 2 or len({len(probs) for probs in probs_per_run}) != 1 or not probs_per_run[0]:
        return None
    ones_N = (np.asarray(probs_per_run, dtype=np.float64) > 0.5).sum(axis=0)
    pairs_N = ones_N * (n_runs - ones_N)
    return float(pairs_N.mean() / (n_runs * (n_runs - 1) / 2))


def _shown(texts: list[str]) -> list[str]:
    return [text[:SHOWN_CHARS] for text in texts[:MAX_SHOWN]]


class _Probed(NamedTuple):
    """Share of changed answers per probe, and what the twins moved; means over the runs."""

    changed: dict[str, float]
    style: StyleShift | None = None


def _probed(output: JobOutput | None, known: TwinReference | None) -> _Probed | None:
    """Return means over the runs, empty where no run was probed.

    Returns None where the runner would not have written the record.
    """
    runs = output.records if output else []
    if not any(run.changed for run in runs):
        return _Probed({})
    styles = [run.style for run in runs if run.style] if known else []
    shares = [share for run in runs for share in run.changed.values()]
    shares += [share for style in styles for share in (style.flipped, style.moved)]
    if any(set(run.changed) != set(PROBES) for run in runs) or (known and len(styles) < len(runs)):
        return None
    if min(shares) < 0 or max(shares) > 1:
        return None
    changed = {name: float(np.mean([run.changed[name] for run in runs])) for name in PROBES}
    return _Probed(changed, style_shift(styles, known) if known else None)


def style_shift(styles: Sequence[StyleMoved], known: TwinReference) -> StyleShift:
    return StyleShift(
        flipped=float(np.mean([style.flipped for style in styles])),
        most=max(style.flipped for style in styles),
        moved=float(np.mean([style.moved for style in styles])),
        **known.model_dump(),
    )


def _mean_forwarded(output: JobOutput | None) -> float:
    counts = [r.compute.get("rows_forwarded", 0.0) for r in output.records] if output else []
    spent = [min(max(rows, 0.0), MAX_FORWARDED) for rows in counts]
    return float(np.mean(spent)) if spent else 0.0


def _of_rows(pieces: list[str], rows: Sequence[Example]) -> list[str]:
    texts = [text for row in rows for text in (row.prompt, *row.answers)]
    whole = "\n".join(_bare(text) for text in texts)
    lines = {_bare(line) for text in texts for line in text.split("\n")}
    return [piece for piece in pieces if _is_row_text(piece, whole, lines)]


def _is_row_text(piece: str, whole: str, lines: set[str]) -> bool:
    """Return whether some row has all of a short piece, or most of a longer one's telling lines."""
    bare = _bare(piece)
    if len(bare) < MIN_PIECE or not _CODE.search(bare):
        return False
    if bare in whole:
        return True
    telling = [line for line in map(_bare, piece.split("\n")) if len(line) >= MIN_LINE]
    return bool(telling) and sum(line in lines for line in telling) >= max(1, len(telling) / 2)


def _bare(text: str) -> str:
    return "".join(text.split())
