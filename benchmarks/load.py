"""Many AARs on one platform: reading findings, posting, submitting 1,263 rows.

    python benchmarks/load.py --aars 10,100,1000 --seconds 60 --out benchmarks/load.md
    python benchmarks/load.py --aars 1000 --every 60 --seconds 1800

Without `--every`, each AAR sends its next request as soon as it has an answer: the most that the
server can take. With it, an AAR does one round (read, post, submit) in so many seconds, begun at a
random time: what the server costs while it is not full. Clients run in processes of their own on
the same machine. Scoring alone is timed in this process, with no server.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform as machine
import random
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kit"))

import httpx
import numpy as np
import psutil
from platform_kit import Running, TinyTask, platform, write_task
from postgres import database

from aarlab.core.layout import RunDir
from aarlab.core.wire import Predictions, Run
from aarlab.vault.scorer import Scorer
from aarlab.vault.vault import Vault

ROWS, CLIENTS = 1263, 2
Times = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aars", default="10,100,1000")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each number of AARs")
    parser.add_argument("--every", type=float, help="seconds of one AAR's round; default: no pause")
    parser.add_argument("--out", type=Path, default=HERE / "load.md")
    parser.add_argument("--append", action="store_true", help="add to the page")
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL of its own, no fsync")
    given = parser.parse_args()
    for name in ("REQUESTS_PER_S", "REQUEST_BURST", "POSTS_PER_S", "POST_BURST"):
        os.environ[f"AARLAB_SERVER_{name}"] = "1000000"  # the server's own limits, not the rates
    blocks = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        task = write_task(Path(folder) / "data", n=ROWS)
        scoring = time_scoring(task)
        for n_aars in map(int, given.aars.split(",")):
            run = RunDir(Path(folder) / f"run-{n_aars}")
            with database(given.postgres) as url, platform(task, run, database=url) as running:
                blocks.append(one(running, n_aars, given.seconds, given.every))
            print(blocks[-1])
    text = ("" if given.append else head(scoring)) + "\n".join(blocks) + "\n"
    with given.out.open("a" if given.append else "w") as page:
        page.write(text)


def time_scoring(task: TinyTask) -> float:
    """Microseconds per row of one shaped score, join by row id included; median of 50."""
    scorer, seconds = Scorer(Vault(task.data)), []
    both = [
        Predictions(task.ids(), [Run(seed=0, probs=task.probs("search", 0.7, seed))])
        for seed in range(2)
    ]
    for _ in range(50):
        begun = time.perf_counter()
        scorer.feedback(task.name, both[0], both[1])
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds)) / ROWS * 1e6


def one(running: Running, n_aars: int, seconds: float, every: float | None) -> str:
    tokens = [running.token(f"aar-{number}") for number in range(n_aars)]
    body = {"socket": str(running.run.socket), "task": running.task.name, "ids": running.task.ids()}
    context = multiprocessing.get_context("spawn")
    with context.Pool(CLIENTS) as pool:
        shares = [(body, tokens[i::CLIENTS], seconds, every) for i in range(CLIENTS)]
        pending = pool.starmap_async(simulate, shares)
        spent_s = cpu_s(running.process.pid)
        memory = watch(running.process.pid, pending)
        results = pending.get()
        spent_s = cpu_s(running.process.pid) - spent_s
    times: Times = defaultdict(list)
    errors: Counter[str] = Counter()
    took = max(end for *_, end in results) - min(begun for _, _, begun, _ in results)
    for found, failed, _, _ in results:
        errors.update(failed)
        for route, values in found.items():
            times[route] += values
    return block(n_aars, Took(took, spent_s, every), times, errors, memory, running)


class Took(NamedTuple):
    """Seconds of the clock, processor seconds of the server, seconds of one AAR's round."""

    seconds: float
    cpu_s: float
    every: float | None


def cpu_s(pid: int) -> float:
    """User and system time of the server, its database's not included where that is PostgreSQL."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def watch(pid: int, pending) -> list[float]:
    """Resident memory of the server in MiB, once a second."""
    process, seen = psutil.Process(pid), []
    while not pending.ready():
        seen.append(process.memory_info().rss / 2**20)
        pending.wait(1.0)
    return seen


def simulate(body: dict, tokens: list[str], seconds: float, every: float | None):
    return asyncio.run(_simulate(body, tokens, seconds, every))


async def _simulate(body: dict, tokens: list[str], seconds: float, every: float | None):
    times: Times = defaultdict(list)
    errors: Counter[str] = Counter()
    begun = time.monotonic()
    ending = begun + seconds
    await asyncio.gather(*(life(body, token, ending, every, times, errors) for token in tokens))
    return dict(times), errors, begun, time.monotonic()  # the last answers come after `seconds`


async def life(body, token: str, end: float, every, times: Times, errors: Counter[str]):
    """One AAR, with a connection of its own as its process has; a shared pool slows itself down."""
    rng, cursor = np.random.default_rng(abs(hash(token)) % 2**32), 0
    if every is not None:
        await asyncio.sleep(random.uniform(0, every))
    transport = httpx.AsyncHTTPTransport(uds=body["socket"], verify=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://p", timeout=120) as http:
        while time.monotonic() < end:
            begun = time.monotonic()
            path = f"/v1/findings?after={cursor}&limit=20"
            page = await send(http, "GET", path, token, times, errors)
            cursor = page["findings"][-1]["seq"] if page and page["findings"] else cursor
            post = {"kind": "insight", "title": "what I saw", "text": "words " * 40}
            await send(http, "POST", "/v1/findings", token, times, errors, post)
            submission = {
                "task": body["task"],
                "method": "m",
                "ids": body["ids"],
                "runs": [{"seed": 0, "probs": np.round(rng.random(ROWS), 4).tolist()}],
            }
            await send(http, "POST", "/v1/submissions", token, times, errors, submission)
            if every is not None:
                await asyncio.sleep(max(every - (time.monotonic() - begun), 0))


async def send(http, method: str, path: str, token: str, times: Times, errors, body=None):
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": uuid.uuid4().hex}
    headers["Content-Type"] = "application/json"
    content = None if body is None else json.dumps(body)
    begun = time.perf_counter()
    try:
        answer = await http.request(method, path, headers=headers, content=content)
    except httpx.HTTPError as error:
        errors[type(error).__name__] += 1
        return None
    times[f"{method} {path.partition('?')[0]}"].append(time.perf_counter() - begun)
    if answer.status_code != 200:
        errors[str(answer.status_code)] += 1
        return None
    return answer.json()


def head(scoring_us: float) -> str:
    now = datetime.now(UTC).date().isoformat()
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("fastapi", "uvicorn", "sqlalchemy"))
    return (
        f"# Load\n\n{now}, {os.cpu_count()} cores {machine.machine()}, Python "
        f"{machine.python_version()}, {versions}; SQLite, one server process on a unix socket, "
        f"{CLIENTS} client processes on the same cores. A submission has {ROWS:,} rows. Made by "
        f"`benchmarks/load.py`.\n\nScoring alone, join by id and ladder included: "
        f"{scoring_us:.2f} µs a row.\n\n"
    )


def block(n_aars: int, took: Took, times: Times, errors, memory, running: Running) -> str:
    seconds, every, where = took.seconds, took.every, "PostgreSQL"
    how = "each at once again" if every is None else f"a round every {every:.0f} s each"
    if running.database is None:
        where = f"SQLite, {running.run.database.stat().st_size / 2**20:.0f} MiB at the end"
    made = len(times["POST /v1/submissions"])
    total = sum(map(len, times.values()))
    lines = [
        f"## {n_aars:,} AARs, {how}, {seconds:.0f} s\n",
        f"{made / seconds:.1f} submissions a second ({made:,}), {total / seconds:.0f} requests a "
        f"second; {took.cpu_s / made * 1000:.1f} ms of the server's processor a round; {where}; "
        f"server memory {memory[0]:.0f} MiB at first, {np.mean(memory[-5:]):.0f} at the end, "
        f"{max(memory):.0f} at most; errors: {dict(errors) or 'none'}.\n",
        "| route | requests | p50, ms | p99, ms |",
        "|---|---|---|---|",
    ]
    for route, values in sorted(times.items()):
        p50, p99 = np.percentile(values, [50, 99]) * 1000
        lines.append(f"| {route} | {len(values):,} | {p50:.0f} | {p99:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
