"""How the AARs of a campaign ended, according to the files in their folders and the platform."""

import json
from collections.abc import Sequence
from contextlib import suppress

from aarlab.agents.language.given_up import note_given_up
from aarlab.agents.language.redaction import cleaner
from aarlab.agents.state import how_it_ended
from aarlab.campaign.aars import AarSpec
from aarlab.campaign.processes import Child
from aarlab.campaign.spec import CampaignSpec
from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.endings import AarEnding, Ending, ending_of, plain_reason
from aarlab.core.errors import AarlabError
from aarlab.core.files import write_atomic
from aarlab.core.layout import RunDir
from aarlab.core.ledger import HOUR_S
from aarlab.core.wire import AarRecord


def endings(run: RunDir, spec: CampaignSpec, records: Sequence[AarRecord]) -> list[AarEnding]:
    """Return the endings of all AARs that have ended or were given up, in the order of the spec."""
    known = {record.name: record for record in records}
    found = (
        how_it_ended(run, aar.name) or _guest(spec, aar, known.get(aar.name)) for aar in spec.aars
    )
    return [each for each in found if each is not None]


def _guest(spec: CampaignSpec, aar: AarSpec, record: AarRecord | None) -> AarEnding | None:
    return guest_ending(record) if record is not None and spec.joins_by_itself(aar) else None


def guest_ending(aar: AarRecord) -> AarEnding | None:
    """Return the ending of an agent that joined by itself, or None while it may continue."""
    why = guest_over(aar)
    return None if why is None else AarEnding(aar=aar.name, ending=ending_of(why), why=why)


def guest_over(aar: AarRecord) -> str | None:
    """Return why an agent that joined by itself has ended, or None while it may continue.

    It ends when the operator stops it, or when its limit of hours since its first call is used up.
    """
    if aar.wanted == "stop":
        return "stopped by the operator"
    if aar.limits.hours is None or aar.started_at is None:
        return None
    since_s = (parse_iso(now_iso()) - parse_iso(aar.started_at)).total_seconds()
    over = since_s >= aar.limits.hours * HOUR_S
    return f"its {aar.limits.hours:g} hours are used up" if over else None


def give_up(run: RunDir, child: Child) -> AarEnding:
    """Record in an AAR's folder and transcript why its process is not restarted any more."""
    why = why_it_died(run, child)
    made = AarEnding(aar=child.name, ending=Ending.GIVEN_UP, why=why, at=now_iso())
    write_atomic(run.given_up(child.name), made.model_dump_json(indent=1) + "\n")
    if run.transcript(child.name).exists() or _is_language(run, child.name):
        text = f"given up by the campaign after {child.crashes} crashes in a row: {why}"
        # Where its transcript is damaged, `given_up.json` and the events have it.
        with suppress(AarlabError, OSError, ValueError, KeyError):
            note_given_up(run.aar(child.name), text)
    return made


def _is_language(run: RunDir, name: str) -> bool:
    try:
        return bool(
            json.loads((run.aar(name) / "aar.json").read_text(encoding="utf-8")).get("language")
        )
    except (OSError, ValueError, AttributeError):
        return False


def why_it_died(run: RunDir, child: Child) -> str:
    """Return the message of the AAR's last error in one line.

    Without one, returns how its process ended and the last line of its log.
    """
    try:
        error = json.loads(run.aar_error(child.name).read_text(encoding="utf-8"))
        said = str(error["message"])
    except (OSError, ValueError, KeyError, TypeError):
        last = child.last_words(1)
        said = f"{child.died_of}: {last}" if last else child.died_of
    return plain_reason(cleaner([])(said)) or "its process died without a word"
