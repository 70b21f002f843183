"""A page offers what can still act on an AAR, and says why not more."""

import json
from pathlib import Path

import pytest
from platform_kit import Running
from seats import facts, operator_seat

from aarlab.agents.state import AarState, save_state
from aarlab.core.clock import now_iso
from aarlab.core.endings import AarEnding, Ending
from aarlab.server.dashboard.activity import alerts, steering
from aarlab.server.dashboard.memory import Memory
from aarlab.server.dashboard.run_files import Disk

ALL = ["pause", "stop", "message", "extend"]


def ended(ending: Ending) -> AarEnding:
    return AarEnding(aar="a", ending=ending, why="")


@pytest.mark.parametrize(
    "role, wanted, ending, state, can, why",
    [
        ("language", ("run", "run"), None, "running", ALL, ""),
        ("control", ("pause", "run"), None, "running", ["resume", *ALL[1:]], ""),
        ("language", ("pause", "pause"), None, "running", ALL[1:], "with the whole campaign"),
        ("language", ("run", "run"), None, "interrupted", ALL, "takes effect when it is resumed"),
        ("language", ("run", "run"), None, "finished", ["extend"], "It has ended (finished)"),
        ("language", ("run", "run"), Ending.BUDGET, "running", ["extend"], "budget it continues"),
        ("language", ("run", "run"), Ending.BUDGET, "budget", ["extend"], "campaign is resumed"),
        ("language", ("stop", "run"), None, "running", [], "stopped permanently"),
        ("language", ("run", "run"), Ending.STOPPED, "running", [], "stopped permanently"),
        ("language", ("run", "run"), None, "stopped", [], "stopped permanently"),
        ("language", ("run", "run"), Ending.GIVEN_UP, "partly", [], "campaign resume"),
        ("human", ("run", "run"), None, "running", [], "Baselines"),
    ],
)
def test_what_can_be_asked_follows_from_how_things_stand(
    role: str, wanted: tuple[str, str], ending: Ending | None, state: str, can: list[str], why: str
) -> None:
    known = ended(ending) if ending else None
    found, said = steering(role, *wanted, known, state)
    assert found == can and why in said and bool(why) == bool(said)


def end_campaign(running: Running, ending: Ending) -> None:
    event = {"at": now_iso(), "kind": "campaign_ended", "ending": ending.value, "why": ""}
    with running.run.events.open("a", encoding="utf-8") as out:
        out.write(json.dumps(event) + "\n")


def test_an_ended_campaign_offers_no_pause_and_no_stop(served: Running) -> None:
    with operator_seat(served) as client:
        before = client.get("/").text
        assert 'id="steer-wren"' in before and "A pause takes effect on resume" in before
        assert "stop permanently" in client.get("/aars/wren").text
        path = Path(served.run.aar("heron")) / "state.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_state(path, AarState(finished=True, why="its budget is used up"))
        assert 'id="steer-heron"' not in client.get("/").text
        end_campaign(served, Ending.FINISHED)
        page, shown = facts(client, "/"), client.get("/").text
        live, wren = client.get("/live/campaign").text, client.get("/aars/wren").text
    assert page["can_all"] == "" and {row["pausing"] for row in page["aars"]} == {""}
    over = "No AAR can be paused or stopped any more: the campaign has ended (finished)."
    for text in (shown, live):
        assert "steer" not in text and 'value="pause"' not in text and over in text
    assert "It has ended (finished), so it cannot be paused" in wren
    assert "More budget" in wren
    assert "stop permanently" not in wren and "before its next turn" not in wren


def test_a_webhook_that_takes_no_events_is_an_alert() -> None:
    text = "the webhook at hooks.example.org takes no events (HTTP 500)"
    event = {"at": "2026-01-31T09:00:00+00:00", "kind": "alert", "what": "webhook", "text": text}
    found = alerts([], Memory(), [event, {**event, "what": "disk"}], Disk(2**50, 2**50))
    assert [(one["gravity"], one["text"]) for one in found] == [
        ("warn", f"{text} (2026-01-31 09:00 UTC)")
    ]
