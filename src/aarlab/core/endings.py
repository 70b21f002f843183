"""How an AAR or a campaign ended: one list of endings, with one wording wherever they are shown."""

import json
import os
import re
import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from aarlab.core.wire_base import Name, Wire

MAX_WHY = 2000
TAIL = 1 << 18
_STYLE = r"bold|dim|italic|underline|red|green|blue|yellow|cyan|magenta|white|black"
_MARKUP = re.compile(rf"\[/?(?:{_STYLE})(?: (?:{_STYLE}))*\]")  # style marks in Inspect's errors


class Ending(StrEnum):
    """`partly` and `crashed` apply to campaigns only; `interrupted` ones can be resumed."""

    FINISHED = "finished"
    BUDGET = "budget"
    STOPPED = "stopped"
    PARTLY = "partly"
    GIVEN_UP = "given_up"
    CRASHED = "crashed"
    INTERRUPTED = "interrupted"

    @property
    def words(self) -> str:
        return WORDS[self]

    @property
    def good(self) -> bool:
        """Return whether nothing went wrong. Only these endings are shown with a tick."""
        return self in (Ending.FINISHED, Ending.BUDGET, Ending.STOPPED)


WORDS = {
    Ending.FINISHED: "finished",
    Ending.BUDGET: "budget used up",
    Ending.STOPPED: "stopped by the operator",
    Ending.PARTLY: "finished, some AARs given up",
    Ending.GIVEN_UP: "given up",
    Ending.CRASHED: "crashed",
    Ending.INTERRUPTED: "interrupted",
}
# Exit codes of `aarlab campaign run` and `resume`.
EXIT_CODES = {Ending.PARTLY: 3, Ending.GIVEN_UP: 4}


class AarEnding(Wire):
    """How one AAR ended, and why in its own words or its provider's."""

    aar: Name
    ending: Ending
    why: Annotated[str, Field(max_length=MAX_WHY)] = ""
    at: str = ""

    @property
    def words(self) -> str:
        """Return the ending and its reason in one line."""
        known = not self.why or self.why == self.ending.words
        return self.ending.words if known else f"{self.ending.words}: {self.why}"


def ending_of(why: str) -> Ending:
    """Classify the ending of an AAR that ended by itself, from the reason its process gave."""
    if why.startswith("it finished by itself"):  # the rest is the model's own text
        return Ending.FINISHED
    if why.startswith(("stopped by the operator", "the operator stopped it")):
        return Ending.STOPPED
    over = ("the budget is exhausted", "budget is used up", "are used up", " has used ")
    return Ending.BUDGET if any(words in why for words in over) else Ending.FINISHED


def campaign_ending(endings: Sequence[AarEnding], stopped: bool) -> Ending:
    """Return the ending of a campaign, given how its AARs ended.

    `stopped` says that the operator ended the research.
    """
    lost = [each for each in endings if each.ending is Ending.GIVEN_UP]
    if lost:
        return Ending.GIVEN_UP if len(lost) == len(endings) else Ending.PARTLY
    kinds = {each.ending for each in endings}
    if stopped or kinds == {Ending.STOPPED}:
        return Ending.STOPPED
    return Ending.BUDGET if kinds == {Ending.BUDGET} else Ending.FINISHED


def given_up_text(endings: Sequence[AarEnding]) -> str:
    """Say which AARs were given up and why, one clause for each; return "" if none was."""
    lost = [each for each in endings if each.ending is Ending.GIVEN_UP]
    return "; ".join(f"{each.aar} was given up: {each.why.rstrip('.')}" for each in lost)


def last_ending(events: Path) -> tuple[Ending, str] | None:
    """Return how the campaign of this `events.jsonl` ended, and why; None if it was never started.

    A campaign that was started and recorded no end was interrupted or is still running. It is
    returned as `INTERRUPTED`.
    """
    try:
        with events.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TAIL, 0))
            lines = file.read().split(b"\n")
    except OSError:
        return None
    found = None if size <= TAIL else (Ending.INTERRUPTED, "")  # started before the tail
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        found = (ending_in(event) if isinstance(event, dict) else None) or found
    return found


def ending_in(event: dict[str, Any]) -> tuple[Ending, str] | None:
    """Return the campaign's ending that an event implies, and why; None if it implies none."""
    kind = event.get("kind")
    if kind == "campaign_started":
        return Ending.INTERRUPTED, ""
    if kind == "campaign_finished":  # written before 0.2, which had one ending
        return Ending.FINISHED, ""
    if kind != "campaign_ended":
        return None
    try:
        return Ending(str(event.get("ending"))), plain_reason(str(event.get("why", "")))
    except ValueError:
        return Ending.INTERRUPTED, ""


def plain_reason(text: str) -> str:
    """Return foreign text as one line of at most MAX_WHY characters, without control characters.

    Inspect's style marks are removed. Other brackets are kept, so callers that print the text must
    not parse markup.
    """
    shown = "".join(
        " " if char in "\n\r\t" else char if unicodedata.category(char)[0] != "C" else "\ufffd"
        for char in _MARKUP.sub("", text[: 4 * MAX_WHY])
    )
    joined = " ".join(shown.split())
    return joined if len(joined) <= MAX_WHY else joined[: MAX_WHY - 1] + "\u2026"
