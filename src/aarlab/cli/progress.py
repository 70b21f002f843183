"""A campaign as a live table: what each AAR does, its best score, what happened last."""

import time
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aarlab.agents.state import AarState, load_state
from aarlab.campaign.spec import AarSpec, CampaignSpec
from aarlab.cli.terminal import Console
from aarlab.core.endings import Ending
from aarlab.core.layout import RunDir
from aarlab.core.showing import one_line

SHOWN_EVENTS = 4


class CampaignView:
    """Redraws from the AARs' state files on every event; plain lines where there is no terminal."""

    def __init__(self, run: RunDir, spec: CampaignSpec, console: Console) -> None:
        self.run, self.spec, self.console = run, spec, console
        self.begun = time.monotonic()
        self.recent: list[str] = []
        self.phase = "starting"
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
        if kind != "tick":
            line = one_line(_line(kind, facts))
            self.recent = [*self.recent[-SHOWN_EVENTS + 1 :], line[:120]]
            self.phase = "verifying" if kind == "verification_queued" else self.phase
            if not self.console.is_terminal:
                text = Text(f"{time.monotonic() - self.begun:6.1f} s  {line}")
                self.console.print(text, no_wrap=True, overflow="ellipsis")
        if self.console.is_terminal:
            self.live.update(self._table())

    def _table(self) -> Group:
        table = Table(title=f"campaign {self.spec.name}, {time.monotonic() - self.begun:.0f} s")
        for column in ("AAR", "direction", "trials", "best PGR (search, shaped)", "now"):
            table.add_column(column, overflow="ellipsis", no_wrap=True, max_width=46)
        for aar in self.spec.aars:
            table.add_row(*self._row(aar))
        return Group(table, *(Text(line, style="dim") for line in self.recent))

    def _row(self, aar: AarSpec) -> list[str]:
        state = load_state(self.run.aar(aar.name) / "state.json")
        most = self.spec.limits_of(aar).submissions or "∞"
        return [
            aar.name,
            aar.direction or aar.role,
            f"{len(state.done)}/{most}",
            _best(state),
            _now(state, given_up=self.run.given_up(aar.name).exists()),
        ]


def _best(state: AarState) -> str:
    scores = [trial.score for trial in state.done if trial.score is not None]
    return f"{scores[-1].pgr:+.2f} ± {scores[-1].stderr:.2f}" if scores else "-"


def _line(kind: str, facts: dict[str, Any]) -> str:
    """Format an event as one line; an ending is described by its own words."""
    if kind in ("aar_ended", "campaign_ended"):
        words = Ending(facts["ending"]).words
        who = facts.get("aar") or "campaign"
        return f"{who}: {words}" + (f": {facts['why']}" if facts.get("why") else "")
    return " ".join([kind.replace("_", " "), *(str(v) for v in facts.values() if v)])


def _now(state: AarState, given_up: bool) -> str:
    if given_up:
        return Ending.GIVEN_UP.words
    if state.finished:
        return "done"
    return state.pending.method if state.pending else "thinking"
