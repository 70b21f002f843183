"""A thousand simulated AARs on one platform, at the rate of real ones.

    python benchmarks/scale.py --aars 1000 --minutes 3 --pods 100 --label after
    python benchmarks/scale.py --aars 1000 --label after --postgres

The server, its database, the token checks and the operator's look are real. An AAR is simulated: a
coroutine that sends what a language-model AAR sends, with no model, no sandbox and no process of
its own. In each turn (`--turn`) it asks what is wanted and what is new, reserves a call, thinks for
5 to 20 s, records the call, runs a command of about 25 s, and books its device seconds. Every
eighth turn submits predictions, every sixteenth posts a finding. It gives signs of life and learns
of stop and pause by a long poll of its own, or of its pod with `--pods`. With `--polls` it asks
`me` every 15 s, and every 5 s while a command runs, as before there were long polls.

A look of the supervisor goes on all the time, by the code of `campaign/looking.py`. One write
in fifty is sent twice. In the middle an operator pauses all AARs for a moment. At the end, the
database is compared with what was answered: nothing may be lost, and nothing written twice.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform as machine
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kit"))

import numpy as np
import psutil
from platform_kit import Running, platform, write_task
from postgres import database

from aarlab.client.operator import OperatorClient
from aarlab.client.platform import PlatformClient
from aarlab.core.clock import parse_iso
from aarlab.core.errors import AarlabError
from aarlab.core.hashing import sha256_hex
from aarlab.core.layout import RunDir
from aarlab.core.supervision import LIFE_HEADER, SUPERVISOR_HEADER, supervisor_key
from aarlab.core.wire import Limits, NewAar, Spend
from aarlab.core.wire_kept import Manifest
from aarlab.core.wire_ledger import (
    CampaignBudget,
    CampaignLimits,
    ModelCall,
    NewControl,
    NewReservation,
)

ROWS, CLIENTS, POLL_S = 300, 2, 15.0
TWICE = 0.02
IDLE_S = 4.0  # the server closes connections that are idle for 5 s
LOOK_DEADLINE_S = 2.0
PAUSE_S = 5.0


class Share(NamedTuple):
    """What one client process simulates: AARs by name with their tokens, in pods."""

    socket: str
    task: str
    ids: list[str]
    operator_token: str
    aars: dict[str, str]
    pods: dict[str, tuple[str, list[str]]]  # token and AARs, by pod
    seconds: float
    turn_s: float
    polls: bool
    seed: int


class Seen(NamedTuple):
    """What one client process saw: times by route, errors, answered writes by AAR."""

    times: dict[str, list[float]]
    errors: Counter[str]
    written: dict[str, Counter[str]]
    paused_at: list[float]  # when AARs came to know of the operator's pause


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aars", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--turn", type=float, default=60.0, help="seconds of a turn")
    parser.add_argument("--pods", type=int, default=0, help="AARs of a pod; 0: each by itself")
    parser.add_argument("--polls", action="store_true", help="ask `me`, as before long polls")
    parser.add_argument("--full-looks", action="store_true", help="look as before `changes`")
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL of its own, no fsync")
    parser.add_argument("--each", action="store_true", help="cost of each route, one by one")
    parser.add_argument("--label", required=True)
    given = parser.parse_args()
    os.environ["AARLAB_SERVER_REQUESTS_PER_S"] = "1000000"  # no limits of rate: its own limits
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        task = write_task(Path(folder) / "data", n=ROWS)
        run = RunDir(Path(folder) / "run")
        with database(given.postgres) as url, platform(task, run, database=url) as running:
            figures = (each_route if given.each else measured)(running, given)
    path = HERE / "scale.json"
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    known[given.label] = figures
    path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    (HERE / "scale.md").write_text(page(known), encoding="utf-8")
    print(json.dumps(figures, indent=1))


def measured(running: Running, given: argparse.Namespace) -> dict[str, Any]:
    """Simulate, measure the server meanwhile, and compare what it holds with what was answered."""
    names = [f"aar-{number:05d}" for number in range(given.aars)]
    tokens = registered(running, names)
    pods = pods_of(running, names, given.pods)
    seconds = given.minutes * 60
    shares = [
        Share(
            str(running.run.socket),
            running.task.name,
            running.task.ids(),
            running.operator_token,
            {name: tokens[name] for name in dealt},
            {pod: value for pod, value in pods.items() if set(value[1]) <= set(dealt)},
            seconds,
            given.turn,
            given.polls,
            number,
        )
        for number, dealt in enumerate(parts(names, given.pods or 1))
    ]
    looks = Looks(running, given.full_looks)
    context = multiprocessing.get_context("spawn")
    began, spent, memory = time.monotonic(), Spent(running), list[float]()
    with context.Pool(CLIENTS) as pool:
        said("simulated")
        pending = pool.map_async(simulate, shares)
        looks.start()
        half = threading.Timer(20 + seconds / 2, pause, [running])
        half.start()
        while not pending.ready():
            memory.append(spent.memory_mib())
            pending.wait(1.0)
        results: list[Seen] = pending.get()
        cpu_s, took_s = spent.so_far(), time.monotonic() - began
        looks.stop()
    said("compared")
    times: dict[str, list[float]] = defaultdict(list)
    errors: Counter[str] = Counter()
    for seen in results:
        errors.update(seen.errors)
        for route, values in seen.times.items():
            times[route] += values
    written = {name: counts for seen in results for name, counts in seen.written.items()}
    whole = sum(map(len, times.values()))
    turns = len(times["POST /v1/model-calls"])
    with patient(running) as operator:
        at = next((c.at for c in operator.controls() if c.action == "pause"), None)
    paused = [t - parse_iso(at).timestamp() for seen in results for t in seen.paused_at if at]
    return {
        **circumstances(running, given),
        "aars_per_pod": given.pods or 1,
        "minutes": given.minutes,
        "turns_per_hour": 3600 / given.turn,
        "requests": whole,
        "requests_per_s": round(whole / took_s, 1),
        "turns": turns,
        "seconds": round(took_s, 1),
        "server_cpu_s": round(cpu_s, 1),
        "server_cpu_s_per_1000_requests": round(cpu_s / whole * 1000, 2),
        "server_cpu_s_per_1000_turns": round(cpu_s / turns * 1000, 1),
        "server_memory_mib": [round(memory[0]), round(max(memory))],
        "errors": dict(errors),
        "look": looks.figures(),
        "pause": {"aars_that_knew": len(paused), "known_after_s": quantiles(paused)},
        "routes": {route: {"n": len(v), **quantiles(v)} for route, v in sorted(times.items())},
        "all_routes": quantiles(
            [t for route, v in times.items() if "wait" not in route for t in v]
        ),
        "writes": compared(running, written),
    }


def said(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} AARs are {what} now", file=sys.stderr, flush=True)


def circumstances(running: Running, given: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores ({machine.machine()}), Python "
        f"{machine.python_version()}, shared with other work; load "
        f"{', '.join(f'{x:.1f}' for x in os.getloadavg())}",
        "database": "PostgreSQL" if running.database else "SQLite",
        "aars": given.aars,
    }


BUDGET = CampaignBudget(limits=CampaignLimits(dollars=1e9, hours=1e7))
EACH = 50  # requests of a route


def each_route(running: Running, given: argparse.Namespace) -> dict[str, Any]:
    """Send each request alone, when all AARs have a session and spent something.

    The server's processor time per request does not depend on what else the machine does.
    """
    names = [f"aar-{number:05d}" for number in range(given.aars)]
    tokens = registered(running, names, budget=False)
    call = {"model": "m", "input_tokens": 9000, "output_tokens": 700, "dollars": 0.02}

    def client(name: str) -> PlatformClient:
        key = supervisor_key(running.operator_token, name)
        return PlatformClient(running.address, tokens[name], 120, key)

    for name in names:
        with client(name) as aar:
            aar.open_session()
            aar.record_call(ModelCall(call="m0", **call))
            aar.reserve(NewReservation(call="m1", dollars=0.5, tokens=20_000))
    found = {}
    with client(names[0]) as aar, running.operator() as operator:
        operator.set_budget(BUDGET)
        aar.open_session()
        known = None if given.full_looks else Changing()
        if known is not None:
            known.look(operator)
        requests = {
            "GET /v1/me": lambda _: aar.me(),
            "POST /v1/reservations": lambda i: aar.reserve(
                NewReservation(call=f"r{i}", dollars=0.5, tokens=20_000)
            ),
            "POST /v1/model-calls": lambda i: aar.record_call(ModelCall(call=f"c{i}", **call)),
            "POST /v1/spend": lambda _: aar.spend(Spend(kind="device_s", amount=1.0)),
            "a look of the supervisor": lambda _: (
                full_look(operator) if known is None else known.look(operator)
            ),
        }
        if known is not None:
            requests["GET /v1/me/wanted"] = lambda _: aar.wanted("pause", 0.0)
            requests["a manifest with its two new blobs"] = keeps(aar)
        for route, send in requests.items():
            spent = Spent(running)
            for number in range(EACH):
                send(number)
            found[route] = round(spent.so_far() / EACH * 1000, 2)
    return {**circumstances(running, given), "server_cpu_ms_per_request": found}


def keeps(aar: PlatformClient) -> Callable[[int], None]:
    """Return what keeps a state: a conversation of 200 KB, a transcript's part, 200 other files."""
    files = {f"file-{number}.txt": f"{number}".encode() for number in range(200)}
    for data in files.values():
        aar.put_blob(sha256_hex(data), data)
    workspace = {name: (sha256_hex(data), 0o644) for name, data in files.items()}

    def keep(number: int) -> None:
        new = {"loop.json": os.urandom(200_000), "transcript.jsonl/000000": os.urandom(100_000)}
        for data in new.values():
            aar.put_blob(sha256_hex(data), data)
        home = {name: sha256_hex(data) for name, data in new.items()}
        aar.put_manifest(Manifest(home=home, workspace=workspace))

    return keep


def quantiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    found = np.percentile(values, [50, 95, 99])
    return {name: round(float(q), 4) for name, q in zip(("p50", "p95", "p99"), found, strict=True)}


def parts(names: list[str], pod: int) -> list[list[str]]:
    """Deal whole pods to the client processes."""
    pods = [names[i : i + pod] for i in range(0, len(names), pod)]
    return [[name for p in pods[i::CLIENTS] for name in p] for i in range(CLIENTS)]


def registered(running: Running, names: list[str], budget: bool = True) -> dict[str, str]:
    limits = Limits(submissions=10**6, hours=120.0, dollars=1e6)
    with running.operator() as operator:
        if budget:
            operator.set_budget(BUDGET)
        return {
            name: operator.register(
                NewAar(name=name, researcher="language", direction="d", limits=limits)
            ).token
            for name in names
        }


def pods_of(running: Running, names: list[str], size: int) -> dict[str, tuple[str, list[str]]]:
    if not size:
        return {}
    from aarlab.core.supervision import pod_key  # not there before pods

    found = {}
    for number, start in enumerate(range(0, len(names), size)):
        members = names[start : start + size]
        found[f"pod-{number}"] = (pod_key(running.operator_token, members), members)
    return found


def pause(running: Running) -> None:
    """Pause all AARs for a moment; the notes of the operator say when."""
    with suppress(AarlabError), patient(running) as operator:
        operator.control(None, NewControl(action="pause", by="bench", text=""))
        time.sleep(PAUSE_S)
        operator.control(None, NewControl(action="resume", by="bench", text=""))


def patient(running: Running) -> OperatorClient:
    return OperatorClient(running.address, running.operator_token, deadline_s=600)


class Spent:
    """Processor time and memory of the server, PostgreSQL's own processes not included."""

    def __init__(self, running: Running) -> None:
        self._process = psutil.Process(running.process.pid)
        self._began = self._now()

    def _now(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def so_far(self) -> float:
        return self._now() - self._began

    def memory_mib(self) -> float:
        return self._process.memory_info().rss / 2**20


class Looks:
    """The supervisor's look, every 2 s, in a thread."""

    def __init__(self, running: Running, full: bool) -> None:
        self._running, self._full, self._failed = running, full, 0
        self._over, self._took = threading.Event(), []
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def figures(self) -> dict[str, Any]:
        return {"n": len(self._took), "failed": self._failed, **quantiles(self._took)}

    def _work(self) -> None:
        token = self._running.operator_token
        with OperatorClient(self._running.address, token, LOOK_DEADLINE_S) as operator:
            look = full_look if self._full else Changing().look
            while not self._over.wait(2.0):
                began = time.perf_counter()
                try:
                    look(operator)
                except AarlabError:  # the supervisor leaves such a look out
                    self._failed += 1
                self._took.append(time.perf_counter() - began)


def full_look(operator) -> None:
    """Ask for everything, as the supervisor did before it asked for changes."""
    operator.aars(), operator.controls(), operator.audits(), operator.budget()
    operator.verdicts(), operator.case_verdicts(), operator.method_requests()
    operator.verifications("queued")


class Changing:
    def __init__(self) -> None:
        from aarlab.campaign.looking import Known  # not there before

        self._known = Known()

    def look(self, operator) -> None:
        self._known.refresh(operator)


# ---------------------------------------------------------------- the simulated AARs
def simulate(share: Share) -> Seen:
    return asyncio.run(_simulate(share))


async def _simulate(share: Share) -> Seen:
    seen = Seen(defaultdict(list), Counter(), defaultdict(Counter), [])
    ends = time.monotonic() + share.seconds + 20
    aars = {name: Aar(name, share, seen, ends) for name in share.aars}
    lives = [aar.live() for aar in aars.values()]
    podded = {name for _, members in share.pods.values() for name in members}
    for token, members in share.pods.values():
        lives.append(pod_poll(share, token, [aars[name] for name in members], seen, ends))
    lives += [aar.looked_after() for name, aar in aars.items() if name not in podded]
    await asyncio.gather(*lives)
    return Seen(dict(seen.times), seen.errors, dict(seen.written), seen.paused_at)


class Wire:
    """One connection over the unix socket, opened again when it breaks."""

    def __init__(self, share: Share, seen: Seen, token: str, headers: dict[str, str]) -> None:
        self._socket, self._seen = share.socket, seen
        self._headers = {"Authorization": f"Bearer {token}", **headers}
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used_at = 0.0
        self.life: int | None = None

    async def send(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """Send until there is an answer of the platform; return it, or None where it refuses."""
        headers = dict(self._headers)
        content = b"" if body is None else json.dumps(body).encode()
        if method == "POST":
            headers |= {"Idempotency-Key": key, "Content-Type": "application/json"}
        if self.life is not None:
            headers[LIFE_HEADER] = str(self.life)
        lines = [f"{method} {path} HTTP/1.1", "Host: p", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        raw = "\r\n".join(lines).encode() + b"\r\n\r\n" + content
        for tried in range(60):
            began = time.perf_counter()
            try:
                status, answer = await self._once(raw)
            except (OSError, asyncio.IncompleteReadError):
                self._open = None
                self._seen.errors["connection"] += 1
                await asyncio.sleep(0.2 * (tried + 1) ** 0.5)
                continue
            route = f"{method} {path.partition('?')[0]}"
            self._seen.times[route].append(time.perf_counter() - began)
            if status < 500:
                break
            self._seen.errors[str(status)] += 1
            await asyncio.sleep(0.5)
        if status != 200:
            self._seen.errors[f"{status} {route}"] += 1
            return None
        return json.loads(answer)

    async def _once(self, raw: bytes) -> tuple[int, bytes]:
        if self._open is not None and time.monotonic() - self._used_at > IDLE_S:
            self._open[1].close()
            self._open = None
        if self._open is None:
            self._open = await asyncio.open_unix_connection(self._socket, limit=2**20)
        reader, writer = self._open
        writer.write(raw)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.partition("content-length: ")[2].partition("\r\n")[0]
        answer = await reader.readexactly(int(length or 0))
        self._used_at = time.monotonic()
        return int(head.split(" ", 2)[1]), answer


class Aar:
    """One AAR: its turns, and the thread that looks after it."""

    def __init__(self, name: str, share: Share, seen: Seen, ends: float) -> None:
        self.name, self._share, self._seen, self._ends = name, share, seen, ends
        self._random = random.Random(f"{share.seed} {name}")
        vouch = {SUPERVISOR_HEADER: supervisor_key(share.operator_token, name)}
        self._wire, self._second, self._beat = (
            Wire(share, seen, share.aars[name], vouch) for _ in range(3)
        )
        self._command, self.begun = False, asyncio.Event()
        self.wanted = "run"
        self._keys = 0

    @property
    def life(self) -> int:
        return self._wire.life or 0

    async def live(self) -> None:
        await asyncio.sleep(self._random.uniform(0, 20))
        opened = await self._wire.send("POST", "/v1/sessions", key=f"{self.name}-session")
        for wire in (self._wire, self._second, self._beat):
            wire.life = opened["life"]
        self.begun.set()
        turn, cursor = 0, 0
        await asyncio.sleep(self._random.uniform(0, self._share.turn_s))
        while time.monotonic() < self._ends:
            turn, began = turn + 1, time.monotonic()
            cursor = await self._turn(turn, cursor)
            left_s = self._share.turn_s - (time.monotonic() - began)
            await asyncio.sleep(max(min(left_s, self._ends - time.monotonic()), 0.0))

    async def _turn(self, turn: int, cursor: int) -> int:
        send, rng = self._wire.send, self._random
        await send("GET", "/v1/me")
        await send("GET", "/v1/me/messages?after=0")
        page = await send("GET", f"/v1/findings?sort=changed&limit=100&after={cursor}")
        if page and page["findings"]:
            cursor = page["findings"][-1]["changed"]
        call = f"m{turn:06d}"
        held = {"call": call, "dollars": 0.5, "tokens": 20_000}
        await self._write("reservation", "/v1/reservations", held)
        await asyncio.sleep(rng.uniform(5, 20))
        made = {"model": "m", "input_tokens": 9000, "output_tokens": 700, "dollars": 0.02}
        more = {"cache_read_tokens": 8000, "cache_write_tokens": 900, "seconds": 9.0}
        await self._write("model_call", "/v1/model-calls", {"call": call, **made, **more})
        self._command = True
        await asyncio.sleep(rng.uniform(15, 35))
        self._command = False
        spent = {"kind": "device_s", "amount": 1.0, "note": "python"}
        await self._write("spend", "/v1/spend", spent)
        if turn % 8 == 1:
            probs = np.round(np.random.default_rng(turn).random(ROWS), 4).tolist()
            runs = [{"seed": 0, "probs": probs}]
            sent = {"task": self._share.task, "method": "m", "ids": self._share.ids, "runs": runs}
            await self._write("submission", "/v1/submissions", sent)
        if turn % 16 == 2:
            post = {"kind": "insight", "title": "what I saw", "text": "words " * 40}
            await self._write("finding", "/v1/findings", post)
        return cursor

    async def _write(self, what: str, path: str, body: Any) -> None:
        self._keys += 1
        key = f"{self.name}-{self._keys}"
        if await self._wire.send("POST", path, body, key) is not None:
            self._seen.written[self.name][what] += 1
        if self._random.random() < TWICE:  # an answer that was lost on its way
            await self._wire.send("POST", path, body, key)

    async def looked_after(self) -> None:
        """Give signs of life, and learn what the operator wants."""
        await self.begun.wait()
        if self._share.polls:
            await asyncio.gather(self._beats(), self._asks())
            return
        while time.monotonic() < self._ends:
            path = f"/v1/me/wanted?known={self.wanted}&wait_s={POLL_S}"
            told = await self._beat.send("GET", path)
            self.told(told["wanted"])

    def told(self, wanted: str) -> None:
        if wanted == "pause" != self.wanted:
            self._seen.paused_at.append(time.time())
        self.wanted = wanted

    async def _beats(self) -> None:
        while time.monotonic() < self._ends:
            await asyncio.sleep(POLL_S)
            await self._beat.send("GET", "/v1/me")

    async def _asks(self) -> None:
        while time.monotonic() < self._ends:
            await asyncio.sleep(5.0)
            if self._command:
                self.told((await self._second.send("GET", "/v1/me"))["wanted"])


async def pod_poll(share: Share, token: str, aars: list[Aar], seen: Seen, ends: float) -> None:
    """What a pod does for its AARs: one long poll that is a sign of life of each."""
    wire, known = Wire(share, seen, token, {}), dict[str, str]()
    await asyncio.gather(*(aar.begun.wait() for aar in aars))
    while time.monotonic() < ends:
        body = {"aars": {aar.name: aar.life for aar in aars}, "known": known, "wait_s": POLL_S}
        answer = await wire.send("POST", "/v1/pod/poll", body, key="poll")
        known = answer["wanted"]
        for aar in aars:
            aar.told(known[aar.name])


# ---------------------------------------------------------------- what the database holds
def compared(running: Running, written: dict[str, Counter[str]]) -> dict[str, Any]:
    """Return counts of answered and stored writes; raises where one is lost or doubled."""
    with patient(running) as operator:
        export = operator.export()
        records = {aar.name: aar for aar in operator.aars()}
    stored: dict[str, Counter[str]] = defaultdict(Counter)
    for kind, items in (("submission", export.submissions), ("finding", export.findings)):
        for item in items:
            stored[getattr(item, "aar", None) or item.author][kind] += 1
    for row in export.model_spend:
        stored[row.aar]["model_call"] += row.calls
    for name, aar in records.items():
        stored[name]["spend"] = round(aar.spend.get("device_s", 0.0))
    answered: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for name in records:
        made = written.get(name, Counter())
        for kind in ("submission", "finding", "model_call", "spend"):
            answered[kind] += made[kind]
            kept[kind] += stored[name][kind]
            assert made[kind] == stored[name][kind], f"{name} {kind}: {made} {stored[name]}"
    where = {"AARLAB_SERVER_DATABASE": running.database} if running.database else {}
    done = subprocess.run(
        [sys.executable, "-m", "aarlab.cli", "log", "verify", str(running.run.path)],
        capture_output=True,
        check=False,
        env={**os.environ, **where},
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return {"answered": dict(answered), "stored": dict(kept), "lost": 0, "doubled": 0}


# ---------------------------------------------------------------- the page
def page(known: dict[str, Any]) -> str:
    """The tables of all runs in `scale.json`."""
    runs = {label: found for label, found in known.items() if "routes" in found}
    each = {label: found for label, found in known.items() if "routes" not in found}
    text = [
        "# A thousand AARs on one server",
        " ".join((__doc__ or "").split("\n\n", 2)[2].split()),
    ]
    text.append(SHARED)
    if each:
        text += ["## What a request costs", COSTS, table({k: costs(v) for k, v in each.items()})]
    if runs:
        text += ["## Simulated campaigns", table({k: column(v) for k, v in runs.items()})]
    return "\n\n".join(text) + "\n"


SHARED = (
    "Where the label does not say idle, other work kept the machine's cores several times over "
    "busy meanwhile. Simulated AARs run on the same cores. Requests a second and quantiles say "
    "little; processor seconds are less distorted. What the figures mean for more AARs: "
    "[performance](../docs/performance.md#many-aars-on-one-server). `before` is the state of the "
    "code before long polls, changes, and sums in the database; with 1,000 AARs its server was "
    "full, and the run was given up. Errors called `connection` are requests on connections that "
    "the server had closed, idle for 5 s, or whose queue was full: they were sent again."
)
COSTS = "Milliseconds of the server's processor, one request at a time, every AAR with a session."


def table(columns: dict[str, dict[str, str]]) -> str:
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    lines = ["| |" + "".join(f" {label} |" for label in columns), "|---|" + "---:|" * len(columns)]
    lines += [f"| {r} |" + "".join(f" {c.get(r, '')} |" for c in columns.values()) for r in rows]
    return "\n".join(lines)


def costs(found: dict[str, Any]) -> dict[str, str]:
    rows = {"AARs": f"{found['aars']:,}", "database": found["database"], "date": found["date"]}
    return rows | {k: f"{v:.1f}" for k, v in found["server_cpu_ms_per_request"].items()}


def column(found: dict[str, Any]) -> dict[str, str]:
    def ms(values: dict[str, float]) -> str:
        return " / ".join(f"{value * 1000:,.0f}" for value in values.values()) or "-"

    writes = found["writes"]
    return {
        "date": found["date"],
        "database": found["database"],
        "AARs": f"{found['aars']:,}",
        "AARs of a pod": str(found["aars_per_pod"]),
        "turns an hour of each": f"{found['turns_per_hour']:g}",
        "requests": f"{found['requests']:,} in {found['seconds']:.0f} s",
        "requests a second": f"{found['requests_per_s']:g}",
        "turns made": f"{found['turns']:,}",
        "processor seconds, 1,000 requests": f"{found['server_cpu_s_per_1000_requests']:g}",
        "processor seconds, 1,000 turns": f"{found['server_cpu_s_per_1000_turns']:g}",
        "p50 / p95 / p99, ms": ms(found["all_routes"]),
        "look of the supervisor, ms": ms(
            {name: took for name, took in found["look"].items() if name.startswith("p")}
        ),
        "looks that failed": f"{found['look'].get('failed', 0)} of {found['look']['n']}",
        "a pause is known after, ms": ms(found["pause"]["known_after_s"]),
        "server memory, MiB": " to ".join(map(str, found["server_memory_mib"])),
        "errors": ", ".join(f"{n} x {what}" for what, n in found["errors"].items()) or "none",
        "writes answered": f"{sum(writes['answered'].values()):,}",
        "writes stored": f"{sum(writes['stored'].values()):,}",
        "lost / doubled": f"{writes['lost']} / {writes['doubled']}",
        "load of the machine": found["machine"].rpartition("load ")[2],
    }


if __name__ == "__main__":
    main()
