"""What a campaign found, in a few plain sentences: for the end of `aarlab demo` and the report."""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from aarlab.core.showing import one_line
from aarlab.core.verdicts import standing_in
from aarlab.core.wire import Interval, Verification
from aarlab.report import prose, wording
from aarlab.report.transfer import TransferRow, transfer
from aarlab.report.view import CampaignView, Method

SHOWN_TRANSFERS = 2
SHOWN_KEPT_OUT = 3
MAX_REASON = 200


class Said(NamedTuple):
    """A finding: what it is about, in two or three words, and what was found."""

    about: str
    text: str


@dataclass(frozen=True, slots=True)
class KeptOut:
    """A method of an AAR that has a score on search and no rank, and why it did not get through.

    `error` is that of its verification if it failed. `would_rank` is the rank that its verified
    figure would have; None without a figure that ranks.
    """

    method: Method
    error: str
    reasons: tuple[str, ...]
    would_rank: int | None


class Scored(NamedTuple):
    """A method and its verified figure on one task."""

    method: Method
    figure: Interval


class Elsewhere(NamedTuple):
    """A held-out task: the best verified methods and the best hand-tuned baseline on it."""

    task: str
    best: tuple[Scored, ...]
    human: Scored | None


def in_words(view: CampaignView) -> list[Said]:
    """List what was found: the verdict first, then what it owes to what, then what was caught."""
    if view.task is None:
        return []
    found = [Said("best method", view.verdict)]
    if view.ranked:
        best = view.ranked[0]
        found.append(Said("what it is", f"{best.short} is “{_short(best.name)}”, by {best.aar}."))
        if quoted := prose.headline_sentence(view):
            found.append(Said("to quote", quoted))
        if best.ablated is not None:
            found.append(Said("the teacher", prose.ablation_sentence(view)))
    return found + further(view)


def further(view: CampaignView) -> list[Said]:
    """List what the page's first paragraphs do not say: other tasks, and what was caught."""
    if view.task is None:
        return []
    found = [Said("without labels", text) for text in _label_free_sentence(view)]
    found += [Said("elsewhere", _elsewhere_sentence(one)) for one in elsewhere(view)]
    caught = kept_out(view)[:SHOWN_KEPT_OUT]
    return found + [Said("did not get through", _kept_out_sentence(one)) for one in caught]


def _label_free_sentence(view: CampaignView) -> list[str]:
    baseline = view.baseline("selection")
    if baseline is None or baseline.label_free is None:
        return []
    found = baseline.label_free
    figure = wording.interval(found.pgr) if found.pgr else f"accuracy {found.accuracy:.2f}"
    rows = wording.number_of(found.n_rows, "row")
    return [
        "The strong model, asked directly without training and without any label, has "
        f"{figure} on {rows}."
    ]


# ---------------------------------------------------------------- held-out tasks
def elsewhere(view: CampaignView) -> list[Elsewhere]:
    """List the held-out tasks on which methods of AARs were verified."""
    found = transfer(view)
    return [
        one
        for place, column in enumerate(found.columns)
        if column.held_out and (one := _elsewhere(found.rows, column.task.name, place)).best
    ]


def _elsewhere(rows: tuple[TransferRow, ...], task: str, place: int) -> Elsewhere:
    known = [
        Scored(row.method, figure) for row in rows if (figure := row.estimates[place]) is not None
    ]
    best = [one for one in known if one.method.rank is not None]
    human = [one for one in known if one.method.role == "human"]
    return Elsewhere(
        task,
        tuple(best[:SHOWN_TRANSFERS]),
        max(human, key=lambda one: one.figure.value, default=None),
    )


def _elsewhere_sentence(found: Elsewhere) -> str:
    figures = " and ".join(
        f"{method.short} has {wording.interval(figure)}" for method, figure in found.best
    )
    text = f"On {found.task}, a held-out task that no researcher knew of, {figures}"
    if found.human is not None:
        method, figure = found.human
        text += f"; the best hand-tuned baseline, {method.short}, has {wording.interval(figure)}"
    return f"{text}."


# ---------------------------------------------------------------- what did not get through
def kept_out(view: CampaignView) -> list[KeptOut]:
    """List methods of AARs that a wall, an audit or a person kept from ranking, by AAR.

    The AAR whose best one has the highest figure on search comes first.
    A method that is only not clearly above the weak teacher is not among them.
    """
    given = {snapshot: said[-1].reason for snapshot, said in standing_in(view.export).items()}
    found = []
    for method in view.of_role("aar"):
        if method.rank is None and method.search is not None:
            failed = _failed(view, method)
            reasons = _reasons(method, failed, given.get(method.snapshot or "", ""))
            error = "" if failed is None else _first_sentence(failed)
            found.append(KeptOut(method, error, tuple(reasons), view.would_rank(method)))
    found = [one for one in found if one.reasons]
    best: dict[str, float] = {}
    for one in found:
        best[one.method.aar] = max(best.get(one.method.aar, -math.inf), _searched(one.method))
    return sorted(found, key=lambda one: (-best[one.method.aar], one.method.short))


def _searched(method: Method) -> float:
    return method.search.value if method.search else -math.inf


def _failed(view: CampaignView, method: Method) -> Verification | None:
    """Return the last verification of a method that has none with a figure."""
    if method.selection is not None or view.task is None:
        return None
    wanted = (method.snapshot, view.task.name, "failed")
    runs = [v for v in view.export.verifications if (v.snapshot, v.task, v.state) == wanted]
    return runs[-1] if runs else None


def _reasons(method: Method, failed: Verification | None, verdict: str) -> list[str]:
    found = []
    if failed is not None:
        given = " without texts" if failed.delivery == "blind" else ""
        found.append(f"the platform ran it{given}, and it failed ({_first_sentence(failed)})")
    if method.apart and method.selection is not None:
        reads = "it reads texts" if method.selection.delivery == "open" else ""
        ships = "it ships data" if method.selection.ships else ""
        asked = f"its code asked for {method.selection.asked}" if method.selection.asked else ""
        why = " and ".join(filter(None, (reads, ships, asked)))
        found.append(f"{why}, and such a method ranks only once a person has accepted it")
    for audit in sorted(method.flags, key=lambda audit: audit.kind):
        if audit.severity == "suspect":
            found.append(f"the {audit.kind} audit: {_short(audit.summary.split(';')[0])}")
    if not method.ranks:
        found.append(f"a person's verdict: {method.decision}, {_short(verdict)}")
    return found


def _first_sentence(failed: Verification) -> str:
    return _short(re.split(r"(?<=[.!?])\s", failed.error.strip())[0].rstrip("."))


def _short(text: str) -> str:
    line = one_line(text.strip())
    return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON - 1].rstrip()}…"


def _kept_out_sentence(found: KeptOut) -> str:
    method = found.method
    text = f"{method.short} (“{wording.shortened(method.name)}”) scored "
    text += f"{wording.interval(method.search)} while searching"
    if method.verified is not None:
        text += f", {wording.interval(method.verified)} on hidden rows"
        if method.ablated is not None:
            text += f" and {wording.interval(method.ablated)} with permuted labels"
    if found.would_rank is not None:
        text += f", which would have been rank {found.would_rank}"
    return f"{text}. It did not get through: {'; '.join(found.reasons)}."
