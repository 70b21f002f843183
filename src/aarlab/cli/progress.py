"""A campaign on the terminal: a live table, its status and its estimate.

The table has what each AAR does, its best score and what happened last.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aarlab.agents.state import AarState, load_state
from aarlab.campaign.spec import AarSpec, CampaignSpec
from aarlab.campaign.status import AarStatus, CampaignStatus, RerunStatus
from aarlab.campaign.watch import LEAVES, QUEUED, Certified, aars_of
from aarlab.cli.terminal import Console
from aarlab.cli.transcripts import in_short, last_entry
from aarlab.core.delivery import event_words
from aarlab.core.endings import Ending
from aarlab.core.layout import RunDir
from aarlab.core.ledger import PURPOSES, tokens_of
from aarlab.core.showing import limits_text, one_line
from aarlab.core.wire_ledger import CampaignLimits, Limits

if TYPE_CHECKING:
    from aarlab.campaign.checking import Estimate


SHOWN_EVENTS = 4
QUIET_S = 5.0  # without a terminal, a line at least this often


class CampaignView:
    """A view drawn again from the AARs' state files on every event.

    Without a terminal it prints plain lines.
    """

    def __init__(self, run: RunDir, spec: CampaignSpec, console: Console) -> None:
        self.run, self.spec, self.console = run, spec, console
        self.begun = time.monotonic()
        self.recent: list[str] = []
        self.reruns_left = 0
        self.in_pods: list[str] = []  # the pod of each that one does
        self.queued = set[str]()
        self._said_at = self.begun
        self.live = Live(console=console, refresh_per_second=4, transient=False)

    def __enter__(self) -> "CampaignView":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.update(self._table())
            self.live.stop()

    def notify(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "reruns_left":
            self.reruns_left, self.in_pods = facts["count"], facts.get("in_pods", [])
        elif kind != "tick":
            self._note_queue(kind, facts)
            line = one_line(_line(kind, facts))
            self.recent = [*self.recent[-SHOWN_EVENTS + 1 :], line[:120]]
            self._print(line)
        elif time.monotonic() - self._said_at > QUIET_S:
            self._print(self._how_far())
        if self.console.is_terminal:
            self.live.update(self._table())

    def _note_queue(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == QUEUED:
            self.queued.add(facts["process"])
        elif kind in LEAVES:
            self.queued.discard(facts["process"])

    def _print(self, line: str) -> None:
        """Print a line with the time, where no table shows it."""
        self._said_at = time.monotonic()
        if not self.console.is_terminal:
            text = Text(f"{self._said_at - self.begun:6.1f} s  {line}")
            self.console.print(text, soft_wrap=True)  # in a log file a reason is wanted whole

    def _how_far(self) -> str:
        """Say how many AARs are at work and how much there is left to verify."""
        names = [aar.name for aar in self.spec.aars]
        left = [n for n in names if not load_state(self.run.aar(n) / "state.json").finished]
        queued = {aar for process in self.queued for aar in aars_of(self.run, process)}
        at_work, waiting = ([n for n in left if (n in queued) is where] for where in (False, True))
        parts = [f"at work: {', '.join(at_work)}"] if at_work else []
        parts += [f"in the queue: {', '.join(waiting)}"] if waiting else []
        parts = parts if left else ["research is over"]
        if self.reruns_left:
            parts.append(f"re-runs of the platform left: {self.reruns_left}")
        if self.in_pods:
            parts.append(f"of these at work: {', '.join(sorted(self.in_pods))}")
        return "; ".join(parts)

    def _table(self) -> Group:
        table = Table(title=f"campaign {self.spec.name}, {time.monotonic() - self.begun:.0f} s")
        for column in ("AAR", "direction", "trials", "best score while searching", "now"):
            table.add_column(column, overflow="ellipsis", no_wrap=True, max_width=46)
        for aar in self.spec.aars:
            table.add_row(*self._row(aar))
        recent = [Text(line, style="dim") for line in self.recent]
        return Group(table, Text(self._how_far()), *recent)

    def _row(self, aar: AarSpec) -> list[str]:
        state = load_state(self.run.aar(aar.name) / "state.json")
        most = self.spec.limits_of(aar).submissions or "∞"
        now = _now(state, given_up=self.run.given_up(aar.name).exists())
        language = self.spec.language_of(aar)
        if language is None:
            return [
                aar.name,
                aar.direction or aar.role,
                f"{len(state.done)}/{most}",
                _best(state),
                now,
            ]
        played = "scripted" if language.model.startswith("scripted/") else "language model"
        last = last_entry(self.run.transcript(aar.name))
        turns, doing = ("-", now) if last is None else (f"turn {last.turn}", in_short(last))
        return [aar.name, aar.direction or played, turns, "-", now if state.finished else doing]


def _best(state: AarState) -> str:
    scores = [trial.score for trial in state.done if trial.score is not None]
    return f"{scores[-1].pgr:+.2f} ± {scores[-1].stderr:.2f}" if scores else "-"


def _line(kind: str, facts: dict[str, Any]) -> str:
    """Format an event as one line; an ending is described by its own words."""
    if kind in ("aar_ended", "campaign_ended"):
        words = Ending(facts["ending"]).words
        who = facts.get("aar") or "campaign"
        return f"{who}: {words}" + (f": {facts['why']}" if facts.get("why") else "")
    return f"{kind.replace('_', ' ')} {event_words(facts)}".rstrip()


def _now(state: AarState, given_up: bool) -> str:
    if given_up:
        return Ending.GIVEN_UP.words
    if state.finished:
        return "done"
    return state.pending.method if state.pending else "thinking"


COLUMNS = ("AAR", "state", "done", "subm.", "hours", "tokens", "$", "$/h", "left")


def print_status(found: CampaignStatus, console: Console) -> None:
    table = Table(*COLUMNS[:2])
    for name in COLUMNS[2:-1]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(COLUMNS[-1])
    for aar in found.aars:
        table.add_row(*_row(aar))
    console.print(table)
    state = "running" if found.running else found.ending.words if found.ending else "not running"
    stopped = "" if found.ending is Ending.STOPPED else ", stopped"
    wanted = {"run": "", "pause": ", paused", "stop": stopped}[found.wanted]
    if found.why:
        console.print(f"{state}: {found.why}", highlight=False, soft_wrap=True)
    hourly = "" if found.dollars_per_hour is None else f", ${found.dollars_per_hour:.2f} per hour"
    left = _left(found.left)
    console.print(
        f"{state}{wanted}: {found.hours:.2f} research hours, {found.tokens:,.0f} tokens, "
        f"${found.dollars:.2f}{hourly}{f'; left to all: {left}' if left else ''}",
        highlight=False,
    )
    for own in found.operator_spend:
        held = f", {own.open} of them without a bill and counted at their most" if own.open else ""
        console.print(
            f"operator: {PURPOSES[own.purpose]} by {own.model}: {own.calls} calls{held}, "
            f"{tokens_of(own.model_dump()):,.0f} tokens, ${own.dollars:.4f}",
            highlight=False,
        )
    if found.reruns:
        console.print(reruns_text(found.reruns), highlight=False, markup=False, soft_wrap=True)
    for one in found.certify:
        console.print(_certified(one), highlight=False, markup=False, soft_wrap=True)


def reruns_text(reruns: Sequence[RerunStatus]) -> str:
    """Say how many re-runs are left, and which pod does which since when."""
    at_work = [
        f"{one.pod}: {one.method} on {one.task}"
        + ("" if one.ablation == "none" else f" ({one.ablation})")
        + f", since {one.since[11:19]} UTC"
        for one in reruns
        if one.pod
    ]
    waiting = len(reruns) - len(at_work)
    return one_line("; ".join([f"re-runs: {waiting} waiting", *at_work]))


def _certified(one: Certified) -> str:
    about = f"certify on {one.task}: "
    if one.state == "skipped":
        return f"{about}not scored{f' ({one.method})' if one.method else ''}: {one.why}"
    cost = f", {one.seconds:,.0f} s" + (f", ${one.dollars:.4f}" if one.dollars else "")
    said = f"{about}{one.method}, {one.seeds} seeds, {one.state}"
    return said + (cost if one.seconds else "") + (f": {one.why}" if one.why else "")


def _row(aar: AarStatus) -> list[str]:
    hourly = "" if aar.dollars_per_hour is None else f"{aar.dollars_per_hour:.2f}"
    spent = Ending.BUDGET.words  # the last column says of what
    return [
        aar.name,
        spent if aar.state.startswith(spent) else aar.state,
        str(aar.done),
        str(aar.submissions),
        f"{aar.hours:.2f}" + (f" (+{aar.waiting_h:.2f} waiting)" if aar.waiting_h else ""),
        f"{aar.tokens:,.0f}",
        f"{aar.dollars:.2f}",
        hourly,
        _left(aar.left),
    ]


def _left(limits: Limits | CampaignLimits) -> str:
    return limits_text(dict(limits))


def print_estimate(spec: "CampaignSpec", found: "Estimate", console: Console) -> None:
    from aarlab.campaign.checking import ASSUMED, estimate_rows

    lines = [
        f"{spec.name}: on {', '.join(spec.tasks)}, {spec.isolation}",
        *(f"{what + ':':16}{text}" for what, text in estimate_rows(spec, found)),
    ]
    if found.expected_dollars_per_hour:
        lines.append("expected, assuming")
        lines += [f"{'':16}{what}: {value:g}" for what, value in ASSUMED.items()]
    for line in lines:
        console.print(line, soft_wrap=True)
