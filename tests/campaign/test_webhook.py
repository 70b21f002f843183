"""Events to a webhook: what leaves, that each arrives, and that a receiver harms nothing."""

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from extension_kit import distribution
from hook_receiver import Hook, receiving
from toy_campaign import command, finished, processes_of, toy_spec

from aarlab.campaign.checking import remarks
from aarlab.campaign.settings import WebhookSettings, webhook_settings
from aarlab.campaign.spec import CampaignSpec, NotifySpec, load_spec
from aarlab.campaign.watch import EventLog
from aarlab.campaign.webhook import (
    MOST_REFUSALS,
    SIGNATURE,
    Receiver,
    Webhook,
    message_of,
    note_trouble,
    receiver_of,
    sending,
    sent_events,
)
from aarlab.core.errors import BadInput
from aarlab.core.files import write_json
from aarlab.core.layout import DataRoot, RunDir
from aarlab.report.load import load_export

AT = "2026-01-31T09:00:00.000000+00:00"
LEAK = "pgr 0.731 of the model's own words"


def spec_with(**notify: Any) -> CampaignSpec:
    return toy_spec().model_copy(update={"notify": NotifySpec.model_validate(notify)})


def alert(what: str, about: str = "", **facts: str) -> dict[str, Any]:
    return {"kind": "alert", "what": what, "about": about, **facts}


# ---------------------------------------------------------------- what leaves
SAID: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "campaign_started", "name": LEAK}, "campaign_started", "started"),
    (
        {"kind": "campaign_ended", "ending": "partly", "submissions": 8, "why": LEAK},
        "campaign_ended",
        "ended: finished, some AARs given up",
    ),
    (
        {"kind": "control", "action": "pause", "aar": None, "by": LEAK},
        "control",
        "paused by the operator",
    ),
    (
        {"kind": "control", "action": "stop", "aar": "edda", "by": LEAK},
        "control",
        "edda was stopped by the operator",
    ),
    (
        {"kind": "aar_ended", "aar": "rowan", "ending": "budget", "why": LEAK},
        "aar_ended",
        "rowan ended: budget used up",
    ),
    (
        {
            "kind": "method_verified",
            "run": LEAK,
            "aar": "rowan",
            "snapshot": "0123456789ab",
            "task": "gauss",
            "state": "done",
            "pgr": LEAK,
        },
        "method_verified",
        "method 0123456789ab of rowan was verified on gauss",
    ),
    (
        {"kind": "process_restarted", "process": "verifier", "last": LEAK},
        "process_restarted",
        "verifier was restarted",
    ),
    (
        alert("process", "server", text=LEAK),
        "process",
        "server was given up after repeated crashes",
    ),
    (
        alert("crashing", "rowan", text="its process died 2 times"),
        "crashing",
        "rowan: its process died 2 times",
    ),
    (alert("waiting", "rowan", text=LEAK), "waiting", "rowan: waits for its model provider"),
    (
        alert("account", LEAK, text=LEAK),
        "account",
        "research waits until a provider's account works again",
    ),
    (
        alert("budget", "rowan dollars", text="8 of 10 dollars are used"),
        "budget",
        "rowan: 8 of 10 dollars are used",
    ),
    (
        alert("budget_reached", "the campaign hours", text="2 of 2 hours are used"),
        "budget_reached",
        "the campaign: 2 of 2 hours are used",
    ),
    (
        alert("audit", "aud_1", aar="rowan", audit="static", text=LEAK),
        "audit",
        "audit aud_1 suspects a method of rowan: a verdict is needed",
    ),
    (alert("disk", text="1.5 GB are free"), "disk", "the disk is nearly full: 1.5 GB are free"),
]


@pytest.mark.parametrize(("event", "name", "text"), SAID, ids=[text for _, _, text in SAID])
def test_what_is_said_of_each_event(event: dict[str, Any], name: str, text: str) -> None:
    said = message_of(event, toy_spec())
    assert said is not None and (said.event, said.text) == (name, text)
    assert LEAK not in json.dumps(said)


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "certify", "task": "gauss", "state": "done"},
        {"kind": "aar_awaited", "aar": "rowan", "token": "/run/tokens/rowan"},
        {"kind": "verification_queued", "method": "m", "task": "unseen"},
        {"kind": "method_verified", "aar": "rowan", "snapshot": "0" * 12, "task": "unseen"}
        | {"state": "done"},
        {"kind": "method_verified", "aar": LEAK, "snapshot": "0" * 12, "task": "gauss"}
        | {"state": "done"},
        {"kind": "process_restarted", "process": LEAK},
        {"kind": "control", "action": "message", "aar": None},
        {"kind": "aar_ended", "aar": "rowan", "ending": LEAK},
        alert("audit", "aud_1", aar="rowan", audit="ceiling", text="above the ceiling"),
        alert("audit", LEAK, aar="rowan", audit="static", text=""),
        alert("budget", f"{LEAK} dollars", text="8 of 10 dollars are used"),
        alert("budget", "rowan dollars", text="<!channel> 0.7"),
        alert("given_up", "rowan", text=LEAK),
        alert("webhook", text=LEAK),
        {"kind": ["alert"]},
        {"kind": "alert"},
    ],
)
def test_nothing_else_leaves(event: dict[str, Any]) -> None:
    assert message_of(event, toy_spec()) is None


# ---------------------------------------------------------------- sending
@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def written(run: RunDir, *events: dict[str, Any]) -> None:
    with run.events.open("a", encoding="utf-8") as out:
        out.writelines(json.dumps({"at": AT, **event}) + "\n" for event in events)


def ended(*names: str) -> list[dict[str, Any]]:
    return [{"kind": "aar_ended", "aar": name, "ending": "finished"} for name in names]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sender(run: RunDir, hook: Hook, **given: Any) -> Webhook:
    spec = spec_with(**given.pop("notify", {}))
    return Webhook(run, spec, Receiver(hook.url, **given), wait_s=lambda failures: 0.01)


def test_each_event_is_sent_signed_and_in_order(run: RunDir) -> None:
    written(run, {"kind": "aar_registered", "aar": "rowan"}, *ended("rowan", "edda"))
    with receiving(Hook()) as hook:
        webhook = sender(run, hook, secret="s3cret", token="t0ken")
        webhook.start()
        until(lambda: len(hook.got) == 2)
        written(run, {"kind": "campaign_ended", "ending": "finished", "submissions": 8})
        webhook.close()
    assert [e["text"] for e in hook.events] == [
        "toy: rowan ended: finished",
        "toy: edda ended: finished",
        "toy: ended: finished",
    ]
    assert hook.events[0]["facts"] == {"aar": "rowan", "ending": "finished"}
    assert {(e["campaign"], e["time"]) for e in hook.events} == {("toy", AT)}
    for each in hook.got:
        made = hmac.new(b"s3cret", each.body, hashlib.sha256).hexdigest()
        assert each.headers[SIGNATURE] == f"sha256={made}"
        assert each.headers["Authorization"] == "Bearer t0ken"
        assert each.headers["Idempotency-Key"] == each.event["id"]
    assert list(sent_events(run, toy_spec())) == hook.events
    assert run.webhook.stat().st_mode & 0o777 == 0o600


def test_only_the_events_that_were_chosen_are_sent(run: RunDir) -> None:
    written(run, *ended("rowan"), {"kind": "campaign_ended", "ending": "finished"})
    with receiving(Hook()) as hook:
        webhook = sender(run, hook, notify={"events": ["campaign_ended"]})
        webhook.start()
        webhook.close()
    assert [e["event"] for e in hook.events] == ["campaign_ended"]
    assert SIGNATURE not in hook.got[0].headers and "Authorization" not in hook.got[0].headers


def test_what_failed_is_sent_again_under_the_same_id_and_told_once(run: RunDir) -> None:
    written(run, *ended("rowan", "edda"))
    log = EventLog(run.events, lambda kind, facts: None)
    with receiving(Hook(answers=[500, 429, 404], headers={"Retry-After": "0"})) as hook:
        webhook = sender(run, hook)
        webhook.start()
        until(lambda: len(hook.got) == 5)
        webhook.close()
        note_trouble(webhook, log)
        note_trouble(webhook, log)
    assert [e["facts"]["aar"] for e in hook.events] == ["rowan"] * 4 + ["edda"]
    assert len({each.body for each in hook.got}) == 2
    alerts = [json.loads(line) for line in run.events.read_text().splitlines()[2:]]
    assert [(a["what"], "127.0.0.1" in a["text"], "HTTP 500" in a["text"]) for a in alerts] == [
        ("webhook", True, True)
    ]
    assert "/hook" not in alerts[0]["text"]


def test_a_redirect_is_not_followed(run: RunDir) -> None:
    written(run, *ended("rowan"))
    with receiving(Hook()) as elsewhere, receiving(Hook(answers=[307] * 100)) as hook:
        hook.headers = {"Location": elsewhere.url}
        webhook = sender(run, hook, token="t0ken")
        webhook.start()
        until(lambda: len(hook.got) == 3)
        webhook.close()
    assert elsewhere.got == []
    assert "HTTP 307, a redirect" in (webhook.take_trouble() or "")


def test_an_event_that_the_receiver_cannot_take_does_not_hold_up_the_others(run: RunDir) -> None:
    written(run, *ended("rowan", "edda"))
    with receiving(Hook(answers=[400] * MOST_REFUSALS)) as hook:
        webhook = sender(run, hook)
        webhook.start()
        until(lambda: len(hook.got) == MOST_REFUSALS + 1)
        webhook.close()
    assert hook.events[-1]["facts"]["aar"] == "edda"
    assert "refuses event" in (webhook.take_trouble() or "")


def test_a_receiver_that_never_answers_does_not_hold_the_campaign(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aarlab.campaign.webhook.LAST_S", 0.3)
    written(run, *ended("rowan"))
    released = threading.Event()
    with receiving(Hook(before=lambda number: released.wait(60) and None)) as hook:
        monkeypatch.setenv("AARLAB_NOTIFY_URL", hook.url)
        log = EventLog(run.events, lambda kind, facts: None)
        with sending(run, spec_with(), log) as webhook:
            assert webhook is not None
            until(lambda: len(hook.got) == 1)
        assert webhook.is_alive() and webhook.daemon, "it ends with the process"
        assert not run.webhook.exists(), "not known to have arrived: it is sent again"
        released.set()
        webhook.join(60)


def test_nothing_but_an_alert_comes_of_settings_that_cannot_be_used(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AARLAB_NOTIFY_URL", raising=False)
    log = EventLog(run.events, lambda kind, facts: None)
    with sending(run, spec_with(), log) as webhook:
        assert webhook is None
    with sending(run, toy_spec(), log) as webhook:
        assert webhook is None
    (said,) = [json.loads(line) for line in run.events.read_text().splitlines()]
    assert said["what"] == "webhook" and "set AARLAB_NOTIFY_URL" in said["text"]


# ---------------------------------------------------------------- kill -9
SENDER = """
import json, sys
from pathlib import Path
from aarlab.campaign.runner import open_spec
from aarlab.campaign.watch import EventLog
from aarlab.campaign.webhook import sending
from aarlab.core.layout import RunDir
run, count = RunDir(Path(sys.argv[1])), int(sys.argv[2])
log = EventLog(run.events, lambda kind, facts: None)
with sending(run, open_spec(run), log) as webhook:
    for _ in range(count):
        log.add("aar_ended", aar="rowan", ending="finished", why="")
    while webhook._sent_to < run.events.stat().st_size:
        webhook.join(0.01)
"""


@pytest.mark.gate
def test_killed_senders_lose_nothing_and_doubles_have_one_id(run: RunDir) -> None:
    write_json(run.spec, {"campaign": spec_with().model_dump(mode="json"), "settings": {}})
    process: subprocess.Popen[bytes] | None = None

    def kill(number: int) -> None:  # received, and not yet known to be: it must come again
        if number in (3, 4, 9, 15) and process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    with receiving(Hook(before=kill)) as hook:
        for count in (10, 0, 5, 0, 5):
            process = subprocess.Popen(
                [sys.executable, "-c", SENDER, str(run.path), str(count)],
                env={**os.environ, "AARLAB_NOTIFY_URL": hook.url},
            )
            process.wait(timeout=60)
        assert process.returncode == 0
    expected = [e["id"] for e in sent_events(run, toy_spec())]
    got = [e["id"] for e in hook.events]
    assert len(expected) == len(set(expected)) == 20
    assert list(dict.fromkeys(got)) == expected, "lost, or out of order"
    assert len(got) == len(expected) + 4, "each killed sender had one in flight"
    assert len({each.body for each in hook.got}) == 20


WATCHER = """
import json, os
from aarlab.report.tracking import Exporter

def send(tracking, to):
    names = {name for one in tracking.aars for row in one.rows for name in row.figures}
    with open(os.environ["WATCHED"], "w", encoding="utf-8") as out:
        json.dump([tracking.ended, sorted(names), len(tracking.tables)], out)
    return "a look"

EXPORTER = Exporter("watcher", send)
"""


@pytest.mark.gate
def test_a_campaign_that_is_killed_tells_the_webhook_everything(
    tmp_path: Path, toy_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = RunDir(tmp_path / "run"), tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(spec_with().model_dump(mode="json")))
    with receiving(Hook()) as hook:
        monkeypatch.setenv("AARLAB_NOTIFY_URL", hook.url)
        process = command(toy_root, "campaign", "run", str(path), "--out", str(run.path))
        for wanted in ("campaign_started", "aar_ended"):
            until(lambda wanted=wanted: any(e["event"] == wanted for e in hook.events))
            if wanted == "aar_ended":
                assert _tracked(run, toy_root, tmp_path, monkeypatch) == [
                    False,
                    ["gauss/best_shown_pgr", "gauss/shown_pgr"],
                    0,
                ]
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            until(lambda: not processes_of(run.path))
            process = command(toy_root, "campaign", "resume", str(run.path))
        code, out = finished(process)
    assert code == 0, out
    ended, names, tables = _tracked(run, toy_root, tmp_path, monkeypatch)
    assert ended and "gauss/search_pgr" in names and tables == 1
    expected = list(sent_events(run, toy_spec()))
    by_id = {e["id"]: e for e in hook.events}
    assert list(by_id.values()) == expected
    assert len({each.body for each in hook.got}) == len(by_id), "a double with another body"
    kinds = [e["event"] for e in expected]
    assert kinds.count("aar_ended") >= 4 and kinds[-1] == "campaign_ended"
    verified = [e["facts"] for e in expected if e["event"] == "method_verified"]
    export = load_export(run.export)
    ranking = [v for v in export.verifications if (v.split, v.ablation) == ("selection", "none")]
    assert sorted(v["snapshot"] for v in verified) == sorted(v.snapshot[:12] for v in ranking)
    everything = json.dumps([[e["facts"], e["text"]] for e in expected])
    for run_made in export.verifications:
        assert run_made.estimate is not None
        assert f"{run_made.estimate.value:.3f}" not in everything
    for token in run.tokens.iterdir():
        assert token.read_text().strip() not in everything


def _tracked(run: RunDir, root: DataRoot, site: Path, patch: pytest.MonkeyPatch) -> Any:
    """Return what an exporter of an installed package gets of the campaign now."""
    if not (site / "watcher.py").exists():
        (site / "watcher.py").write_text(WATCHER)
        distribution(site, "watcher", {"aarlab.exporters": {"watcher": "watcher:EXPORTER"}})
    with patch.context() as inner:
        inner.setenv("PYTHONPATH", str(site))
        inner.setenv("WATCHED", str(site / "watched.json"))
        code, out = finished(
            command(root, "report", "track", str(run.path), "--to", "watcher"), 120
        )
    assert code == 0, out
    return json.loads((site / "watched.json").read_text())


def test_the_check_of_a_spec_says_that_the_address_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(spec: CampaignSpec) -> list[str]:
        found = remarks(spec, DataRoot(tmp_path), lambda task: True)
        return [f"{one.gravity}: {one.text}" for one in found if one.place == ("notify",)]

    monkeypatch.delenv("AARLAB_NOTIFY_URL", raising=False)
    assert said(toy_spec()) == []
    (one,) = said(spec_with())
    assert one.startswith("to do: ") and "AARLAB_NOTIFY_URL" in one
    monkeypatch.setenv("AARLAB_NOTIFY_URL", "https://hooks.example.org/in")
    assert said(spec_with()) == []


# ---------------------------------------------------------------- secrets
@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T0/B0/xyz",
        "https://discord.com/api/webhooks/1/abc",
        "https://me:pass@hooks.example.org/in",
        "https://hooks.example.org/in?auth=abc",
        "https://hooks.example.org/in#abc",
        "https://hooks.example.org/a1b2c3d4e5f6a7b8c9",
    ],
)
def test_an_address_with_a_secret_is_refused_in_a_spec_and_not_quoted(
    url: str, tmp_path: Path
) -> None:
    raw = {**toy_spec().model_dump(mode="json"), "notify": {"url": url}}
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(BadInput, match="holds secrets") as found:
        load_spec(path)
    assert url not in str(found.value)


@pytest.mark.parametrize(
    ("notify", "said"),
    [
        ({"url": "http://hooks.example.org/in"}, "must begin with https://"),
        ({"url": "ftp://hooks.example.org/in"}, "must begin with https://"),
        ({"url": "hooks.example.org"}, "is not an address"),
        ({"events": ["aar_end"]}, "did you mean `aar_ended`"),
    ],
)
def test_a_wrong_notify_is_explained(notify: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump({**toy_spec().model_dump(mode="json"), "notify": notify}))
    with pytest.raises(BadInput, match=said):
        load_spec(path)


def test_settings_replace_the_address_of_the_spec_and_are_not_shown() -> None:
    spec = spec_with(url="https://hooks.example.org/in")
    assert receiver_of(spec, WebhookSettings()).url == "https://hooks.example.org/in"
    url = "https://hooks.example.org/other/s3cret"
    known = WebhookSettings.model_validate({"url": url, "secret": "s3cret", "token": "s3cret"})
    found = receiver_of(spec, known)
    assert found.url == url and "s3cret" not in f"{found!r} {known!r}"
    with pytest.raises(BadInput, match=r"AARLAB_NOTIFY_URL must begin") as error:
        receiver_of(spec, WebhookSettings.model_validate({"url": "http://a.example/s3cret"}))
    assert "s3cret" not in str(error.value)


def test_settings_of_a_file_that_only_its_owner_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "webhook.env"
    path.write_text("AARLAB_NOTIFY_URL=https://a.example/one\nAARLAB_NOTIFY_SECRET=s3cret\n")
    monkeypatch.setenv("AARLAB_NOTIFY_FILE", str(path))
    path.chmod(0o640)
    with pytest.raises(BadInput, match="chmod 600"):
        webhook_settings()
    path.chmod(0o600)
    assert webhook_settings().secret.get_secret_value() == "s3cret"
    monkeypatch.setenv("AARLAB_NOTIFY_URL", "https://a.example/two")
    assert webhook_settings().url.get_secret_value() == "https://a.example/two"
    path.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        webhook_settings()
