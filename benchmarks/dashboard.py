"""Every page of the dashboard over a large campaign: 10,000 findings, 5,000 submissions, 100 MB.

    python benchmarks/dashboard.py --out benchmarks/dashboard.md

The store is filled by direct SQL (log and hash chain too); code that is opened is really in the
repository. A page is asked for once right after the server's start, then `--rounds` times. Times
are those of a client on the same machine, whole body included.
"""

import argparse
import os
import platform as machine
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kit"))

import httpx
import psutil
from platform_kit import Running, platform, write_task

from aarlab.core.layout import RunDir
from dashboard_store import RERUN, ROWS, SNAPSHOTS, fill

LIMIT_MS = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--findings", type=int, default=10_000)
    parser.add_argument("--submissions", type=int, default=5_000)
    parser.add_argument("--megabytes", type=int, default=100, help="of transcripts")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=HERE / "dashboard.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        tasks = [
            write_task(Path(folder) / "data", name, ROWS, seed)
            for seed, name in enumerate(("math", "chat", "code"))
        ]
        run = RunDir(Path(folder) / "run")
        began = time.monotonic()
        known = fill(tasks[0], run, given)
        seeded_s = time.monotonic() - began
        options = ("--task", "math", "--task", "chat", "--host", "127.0.0.1", "--port", "8477")
        with platform(tasks[0], run, *options) as running:
            rows, memory = measure(running, paths(known), given.rounds)
    text = page(given, rows, memory, seeded_s)
    given.out.write_text(text, encoding="utf-8")
    print(text)


# ---------------------------------------------------------------- measuring
def paths(known: dict[str, Any]) -> dict[str, str]:
    return {
        "campaign": "/",
        "campaign, live part": "/live/campaign",
        "campaign, curve": "/live/curve",
        "an AAR": "/aars/aar-0",
        "leaderboard": "/leaderboard",
        "leaderboard, last page": "/leaderboard?page=23",
        "leaderboard, filtered": "/leaderboard?aar=aar-3&flagged=true",
        "method": f"/methods/{known['method']}",
        "method beside another": f"/methods/{known['method']}?against={known['snapshots'][0][0]}",
        "audit queue": "/audits",
        "audit queue, all": "/audits?state=all&page=9",
        "forum": "/forum",
        "forum, most votes": "/forum?sort=top",
        "forum, search": "/forum?q=density+post",
        "forum, rare word": "/forum?q=n9999",
        "thread": f"/forum/{known['finding']}",
        "transcripts": "/transcripts",
        "transcript, newest": "/transcripts/aar-0",
        "transcript, middle": "/transcripts/aar-0?first=20000",
        "transcript, search": "/transcripts/aar-0?q=density+posterior",
        "transcript, search in vain": "/transcripts/aar-0?q=nowhere",
        "log": "/log",
        "log, one kind": "/log?kind=verified",
        "log, a part of the check": "/log/check?again=true",
        "tasks": "/tasks",
        "shares": "/shares",
    }


def measure(
    running: Running, wanted: dict[str, str], rounds: int
) -> tuple[list[Any], dict[str, float]]:
    process = psutil.Process(running.process.pid)
    headers = {"Accept": "text/html"}
    rows = []
    with httpx.Client(base_url="http://127.0.0.1:8477", headers=headers, timeout=60) as client:
        client.post("/login", data={"token": running.operator_token, "name": "Ada"})
        memory = {"after the start": mib(process)}
        began = time.monotonic()
        first = {name: timed(client, path) for name, path in wanted.items()}
        while client.get("/live/curve").json()["waiting"]:
            time.sleep(0.5)
        scored_s = time.monotonic() - began
        memory["all scored"] = mib(process)
        for name, path in wanted.items():
            times = [timed(client, path) for _ in range(rounds)]
            rows.append((name, first[name], median(times), max(times)))
        memory["after all rounds"] = mib(process)
        tag = client.get("/live/campaign").headers["etag"]
        for _ in range(300):
            client.get("/live/campaign", headers={"If-None-Match": tag})
        memory["after 300 more looks"] = mib(process)
    memory["scored_s"] = scored_s
    return rows, memory


def mib(process: psutil.Process) -> float:
    return process.memory_info().rss / 2**20


def timed(client: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    answer = client.get(path)
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:200]}"
    return 1000 * (time.perf_counter() - began)


def page(
    given: argparse.Namespace, rows: list[Any], memory: dict[str, float], seeded_s: float
) -> str:
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    scored = memory.pop("scored_s")
    held = ", ".join(f"{what} {size:.0f}" for what, size in memory.items())
    over = [row[0] for row in rows if row[2] > LIMIT_MS]
    lines = [
        "# Dashboard",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores {machine.machine()}, Python "
        f"{machine.python_version()}; the machine is shared with other work (load average {load}), "
        f"so times are upper bounds. {given.findings:,} findings, "
        f"{given.submissions:,} submissions, {SNAPSHOTS:,} snapshots, {RERUN + 600:,} re-runs, "
        f"{given.megabytes} MB of transcripts (half in one file); SQLite. Made by "
        f"`benchmarks/dashboard.py`; the store was filled in {seeded_s:.0f} s.",
        "",
        f"Pages whose median is over {LIMIT_MS:.0f} ms: {', '.join(over) or 'none'}. Server memory "
        f"in MiB: {held}. The exact scores of the curve were there {scored:.0f} s after the first "
        "look; they are made once, in the background.",
        "",
        f"| page | first look, ms | median of {given.rounds}, ms | slowest, ms |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {a:.0f} | {b:.0f} | {c:.0f} |" for name, a, b, c in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
