"""Sends events of a campaign to a webhook, from a thread of the campaign's process.

The receiver gets one POST per event with a small JSON object. Each event is sent at least once: a
file in the campaign's folder records how far `events.jsonl` was sent, and a campaign that was
killed and resumed continues there. An event that is sent twice has the same `id` and the same body.

AARs may be able to read the channel, so a payload holds only names of the spec, ids, numbers and
fixed words (`message_of`). Audits are sent if AARs learn of their kind anyway (core.verdicts).

Covered: no score, label, held-out task, audit result, method name, error message, text of an AAR,
model or provider, path or token is in a payload. A redirect is not followed. The receiver's answer
is not read. Neither the address nor the receiver's answer is in an event, a log or an error. A slow
or dead receiver delays nothing but the last `LAST_S` seconds of the process.
Not covered: when things happen. Who reads the channel learns when an AAR ended, used up its budget,
or had a method verified or suspected.
"""

import hashlib
import hmac
import json
import random
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from aarlab import __version__
from aarlab.campaign.reading import address_fault, is_local
from aarlab.campaign.settings import WebhookSettings, webhook_settings
from aarlab.campaign.spec import CampaignSpec
from aarlab.campaign.watch import EventLog
from aarlab.core.endings import Ending
from aarlab.core.errors import AarlabError, BadInput
from aarlab.core.files import write_json
from aarlab.core.layout import RunDir
from aarlab.core.showing import NOUNS
from aarlab.core.verdicts import REPORTED

POLL_S = 0.5
TIMEOUT_S = 10.0
LAST_S = 5.0  # at the end of the process, for what is still to be sent
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 300.0
CHUNK_BYTES = 1 << 20
# The receiver cannot take this very event, now or later: it is left out after a few attempts.
UNACCEPTABLE, MOST_REFUSALS = (400, 413, 422), 5
SIGNATURE = "X-Aarlab-Signature"

_PLAIN = re.compile(r"[A-Za-z0-9 ._,+]{1,100}")
_ID = re.compile(r"[a-z]{2,4}_[A-Za-z0-9]{1,40}|[0-9a-f]{12}")
_STEERED = {
    "pause": "paused by the operator",
    "resume": "resumed by the operator",
    "stop": "stopped by the operator",
    "extend": "given more budget by the operator",
}
# Alerts whose own text may hold words of a provider, a log or an audit.
_FIXED_TEXTS = {
    "waiting": "waits for its model provider",
    "account": "research waits until a provider's account works again",
    "process": "was given up after repeated crashes",
}
_ABOUT_AN_AAR = ("crashing", "silent", "waiting")


class Message(NamedTuple):
    """What is said about one event. `text` is a sentence for people; `facts` is for programs."""

    event: str
    facts: dict[str, str | int]
    text: str


def message_of(event: Mapping[str, Any], spec: CampaignSpec) -> Message | None:
    """Return what may leave about an event of `events.jsonl`; None for any other event.

    Names are compared with those of the spec, and ids and texts with their form. An event with
    anything else in these places is not sent.
    """
    names = {aar.name for aar in spec.aars}
    about = {**event, "aars": names, "tasks": set(spec.tasks)}
    kind = event.get("kind")
    make = _MESSAGES.get(kind) if isinstance(kind, str) else None
    try:
        return None if make is None else make(about)
    except (KeyError, ValueError, TypeError):
        return None


def _started(event: Mapping[str, Any]) -> Message:
    return Message("campaign_started", {}, "started")


def _ended(event: Mapping[str, Any]) -> Message:
    ending = Ending(event["ending"])
    facts: dict[str, str | int] = {"ending": ending.value}
    if isinstance(event.get("submissions"), int):
        facts["submissions"] = event["submissions"]
    return Message("campaign_ended", facts, f"ended: {ending.words}")


def _control(event: Mapping[str, Any]) -> Message:
    done, aar = _STEERED[event["action"]], event["aar"]
    if aar is None:
        return Message("control", {"action": event["action"]}, done)
    facts: dict[str, str | int] = {"action": event["action"], "aar": _one_of(event, "aars", aar)}
    return Message("control", facts, f"{aar} was {done}")


def _aar_ended(event: Mapping[str, Any]) -> Message:
    ending, aar = Ending(event["ending"]), _one_of(event, "aars", event["aar"])
    return Message(
        "aar_ended", {"aar": aar, "ending": ending.value}, f"{aar} ended: {ending.words}"
    )


def _verified(event: Mapping[str, Any]) -> Message:
    aar, snapshot = _one_of(event, "aars", event["aar"]), _matching(_ID, event["snapshot"])
    task, state = _one_of(event, "tasks", event["task"]), event["state"]
    words = {"done": "was verified", "failed": "could not be verified"}[state]
    facts: dict[str, str | int] = {"aar": aar, "snapshot": snapshot, "task": task, "state": state}
    return Message("method_verified", facts, f"method {snapshot} of {aar} {words} on {task}")


def _restarted(event: Mapping[str, Any]) -> Message:
    process = _process(event, event["process"])
    return Message("process_restarted", {"process": process}, f"{process} was restarted")


def _alert(event: Mapping[str, Any]) -> Message | None:
    what, about = event["what"], event.get("about")
    if what in _ABOUT_AN_AAR:
        aar = _one_of(event, "aars", about)
        said = _FIXED_TEXTS.get(what) or _matching(_PLAIN, event["text"])
        return Message(what, {"aar": aar}, f"{aar}: {said}")
    if what in ("budget", "budget_reached"):
        who, _, limit = str(about).rpartition(" ")
        whole = who == "the campaign"
        who = who if whole else _one_of(event, "aars", who)
        facts: dict[str, str | int] = {"limit": _one_of({"limits": NOUNS}, "limits", limit)}
        facts |= {} if whole else {"aar": who}
        return Message(what, facts, f"{who}: {_matching(_PLAIN, event['text'])}")
    if what == "audit":
        if event["audit"] not in REPORTED:
            return None  # it may follow from a figure on hidden rows
        aar, audit = _one_of(event, "aars", event["aar"]), _matching(_ID, about)
        text = f"audit {audit} suspects a method of {aar}: a verdict is needed"
        return Message(what, {"aar": aar, "audit": audit}, text)
    if what == "disk":
        return Message(what, {}, f"the disk is nearly full: {_matching(_PLAIN, event['text'])}")
    if what == "process":
        process = _process(event, about)
        return Message(what, {"process": process}, f"{process} {_FIXED_TEXTS[what]}")
    return Message(what, {}, _FIXED_TEXTS[what]) if what == "account" else None


_MESSAGES: dict[str, Callable[[Mapping[str, Any]], Message | None]] = {
    "campaign_started": _started,
    "campaign_ended": _ended,
    "control": _control,
    "aar_ended": _aar_ended,
    "method_verified": _verified,
    "process_restarted": _restarted,
    "alert": _alert,
}


def _one_of(known: Mapping[str, Collection[str]], which: str, name: Any) -> str:
    if not isinstance(name, str) or name not in known[which]:
        raise ValueError(f"not one of the {which}")
    return name


def _process(event: Mapping[str, Any], name: Any) -> str:
    return str(name) if name in ("server", "verifier") else _one_of(event, "aars", name)


def _matching(form: re.Pattern[str], text: Any) -> str:
    if not isinstance(text, str) or not form.fullmatch(text):
        raise ValueError("not of that form")
    return text


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where to send, and the secrets to send with. It does not show them."""

    url: str = field(repr=False)
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    def headers(self, number: str, body: bytes) -> dict[str, str]:
        """Return the headers of a request: id, signature if there is a secret, and token."""
        made = {
            "Content-Type": "application/json",
            "User-Agent": f"aarlab/{__version__}",
            "Idempotency-Key": number,
        }
        if self.secret:
            signed = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
            made[SIGNATURE] = f"sha256={signed}"
        if self.token:
            made["Authorization"] = f"Bearer {self.token}"
        return made


def receiver_of(spec: CampaignSpec, settings: WebhookSettings | None = None) -> Receiver:
    """Return the receiver of a campaign whose spec has `notify`.

    Settings replace the spec's address. Raises BadInput, without quoting the address, where there
    is none or it is not usable.
    """
    known = webhook_settings() if settings is None else settings
    given = known.url.get_secret_value()
    url, where = (given, "AARLAB_NOTIFY_URL") if given else ("", "notify.url")
    if not url:
        url = (spec.notify.url if spec.notify else None) or ""
    if not url:
        raise BadInput("there is no address to send events to: set AARLAB_NOTIFY_URL or notify.url")
    if (fault := address_fault(url)) is not None:
        raise BadInput(f"{where} {fault}")
    return Receiver(url, known.secret.get_secret_value(), known.token.get_secret_value())


class Webhook(threading.Thread):
    """The thread that sends. Start it, `take_trouble` now and then, and `close` it at the end.

    It waits `wait_s(failures)` seconds after that many failed attempts in a row.
    """

    def __init__(
        self,
        run: RunDir,
        spec: CampaignSpec,
        receiver: Receiver,
        wait_s: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__(name="webhook", daemon=True)
        self._run, self._spec, self._receiver = run, spec, receiver
        self._wait_s = wait_s or _growing
        self._chosen = frozenset(spec.notify.events if spec.notify else ())
        self._closing = threading.Event()
        self._failures = self._refusals = 0
        self._trouble: str | None = None
        self._retry_after_s = 0.0
        self._sent_to = _read_cursor(run)
        self._client = httpx.Client(
            follow_redirects=False, trust_env=not is_local(receiver.host)
        )  # raises where the environment names a proxy that cannot be used

    def run(self) -> None:
        with self._client as client:
            while True:
                last = self._closing.is_set()
                if self._send_new(client):
                    wait_s = POLL_S
                else:
                    wait_s = max(self._wait_s(self._failures), self._retry_after_s)
                if last:
                    return
                self._closing.wait(wait_s)

    def close(self) -> None:
        """Send what is left, for at most LAST_S seconds; what was not sent waits for `resume`."""
        self._closing.set()
        self.join(LAST_S)

    def take_trouble(self) -> str | None:
        """Return why events cannot be sent, once per outage."""
        said, self._trouble = self._trouble, None
        return said

    def _send_new(self, client: httpx.Client) -> bool:
        """Send the new events in order. Return False if one could not be sent."""
        for end, line in _new_lines(self._run, self._sent_to):
            body = self._body(self._sent_to, line)
            if body is not None and not self._deliver(client, *body):
                return False
            self._sent_to = end
            if body is not None:
                self._save_cursor()
        return True

    def _body(self, start: int, line: bytes) -> tuple[str, bytes] | None:
        """Return id and payload of a line at an offset of the file; None if it is not sent."""
        made = payload_of(start, line, self._spec)
        if made is None or made["event"] not in self._chosen:
            return None
        return made["id"], json.dumps(made, ensure_ascii=False).encode()

    def _deliver(self, client: httpx.Client, number: str, body: bytes) -> bool:
        why = self._attempt(client, number, body)
        if why is None:
            self._failures = self._refusals = 0
            return True
        if self._refusals >= MOST_REFUSALS:
            self._failures = self._refusals = 0
            self._trouble = f"the webhook at {self._receiver.host} refuses event {number}: {why}"
            return True
        self._failures += 1
        if self._failures == 1:
            self._trouble = (
                f"the webhook at {self._receiver.host} takes no events ({why}); they are kept and "
                "sent once it does"
            )
        return False

    def _attempt(self, client: httpx.Client, number: str, body: bytes) -> str | None:
        """Return None if the receiver took the event, else why not in fixed words."""
        self._retry_after_s = 0.0
        timeout = LAST_S / 2 if self._closing.is_set() else TIMEOUT_S
        headers = self._receiver.headers(number, body)
        try:
            with client.stream(
                "POST", self._receiver.url, content=body, headers=headers, timeout=timeout
            ) as response:
                status = response.status_code
                self._retry_after_s = _retry_after_s(response)
        except httpx.TimeoutException:
            return f"no answer within {timeout:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return type(error).__name__
        if 200 <= status < 300:
            return None
        self._refusals = self._refusals + 1 if status in UNACCEPTABLE else 0
        return f"HTTP {status}, a redirect" if 300 <= status < 400 else f"HTTP {status}"

    def _save_cursor(self) -> None:
        with suppress(OSError):  # then events are sent once more after a restart
            write_json(self._run.webhook, {"sent_to": self._sent_to}, 0o600)


def payload_of(start: int, line: bytes, spec: CampaignSpec) -> dict[str, Any] | None:
    """Return what is sent for a line of `events.jsonl` at an offset; None for what is not sent.

    `id` depends on the line and its place only, so that it is the same each time.
    """
    try:
        event = json.loads(line)
        said = message_of(event, spec) if isinstance(event, dict) else None
        time = str(event["at"]) if said is not None else ""
    except (ValueError, KeyError):
        return None
    if said is None:
        return None
    number = hashlib.sha256(f"{spec.name}\n{start}\n".encode() + line).hexdigest()[:24]
    return {
        "id": number,
        "campaign": spec.name,
        "event": said.event,
        "time": time[:40],
        "facts": said.facts,
        "text": f"{spec.name}: {said.text}",
    }


def sent_events(run: RunDir, spec: CampaignSpec) -> Iterator[dict[str, Any]]:
    """Yield the payloads of all events of a campaign that may leave it, oldest first."""
    start = 0
    for end, line in _new_lines(run, 0):
        if (made := payload_of(start, line, spec)) is not None:
            yield made
        start = end


def _new_lines(run: RunDir, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield the whole lines from an offset, each with the offset of its end."""
    while True:
        try:
            with run.events.open("rb") as file:
                file.seek(start)
                read = file.read(CHUNK_BYTES)
        except OSError:
            return
        whole = read.rfind(b"\n") + 1
        if not whole:
            return
        for line in read[: whole - 1].split(b"\n"):
            start += len(line) + 1
            yield start, line


def _read_cursor(run: RunDir) -> int:
    """Return how far events were sent; 0 where that is unknown or beyond the end of the file."""
    try:
        known = int(json.loads(run.webhook.read_text(encoding="utf-8"))["sent_to"])
        return known if 0 <= known <= run.events.stat().st_size else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _growing(failures: int) -> float:
    """Return 2, 4, 8 ... up to 300 seconds, up to a quarter less."""
    longest = min(FIRST_WAIT_S * 2.0 ** min(failures - 1, 16), LONGEST_WAIT_S)
    return longest * random.uniform(0.75, 1.0)


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return min(max(float(response.headers.get("Retry-After", 0)), 0.0), LONGEST_WAIT_S)
    except ValueError:
        return 0.0


def started_webhook(run: RunDir, spec: CampaignSpec, log: EventLog) -> Webhook | None:
    """Start sending a campaign's events, if its spec wants it.

    Where that cannot be done, an alert says why and the campaign runs without.
    """
    if spec.notify is None:
        return None
    try:
        webhook = Webhook(run, spec, receiver_of(spec))
    except (AarlabError, ValueError, ImportError) as error:
        why = str(error) if isinstance(error, AarlabError) else type(error).__name__
        log.add("alert", what="webhook", about="", text=f"no events are sent: {why}")
        return None
    webhook.start()
    return webhook


@contextmanager
def sending(run: RunDir, spec: CampaignSpec, log: EventLog) -> Iterator[Webhook | None]:
    """Send a campaign's events while this is open, and at its end what is left."""
    webhook = started_webhook(run, spec, log)
    try:
        yield webhook
    finally:
        if webhook is not None:
            webhook.close()
            note_trouble(webhook, log)


def note_trouble(webhook: Webhook, log: EventLog) -> None:
    """Log an alert if the webhook has just stopped taking events."""
    if said := webhook.take_trouble():
        with suppress(OSError):  # a full disk: the webhook is not what ends the campaign
            log.add("alert", what="webhook", about="", text=said)
