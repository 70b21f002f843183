"""The large store that benchmarks/dashboard.py looks at: direct SQL, the log's hash chain too."""

import argparse
import asyncio
import base64
import json
import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from platform_kit import TinyTask

from aarlab.core.hashing import GENESIS, canonical_json, next_hash
from aarlab.core.layout import RunDir
from aarlab.core.wire import Interval, NewSnapshot, Predictions, Run, Verification
from aarlab.server.app import open_store
from aarlab.server.settings import ServerSettings
from aarlab.store.repository import Author
from aarlab.store.submissions import pack_predictions

ROWS, SNAPSHOTS, RERUN, DISTINCT = 1263, 1500, 1200, 40
AARS = [f"aar-{n}" for n in range(9)]
ROLES = {"human": "human", "guards": "guard", "rowan": "random"}
START = datetime(2026, 11, 1, tzinfo=UTC)
WORDS = "teacher student labels posterior margin layer probe density seeds noise clear rows"


def fill(task: TinyTask, run: RunDir, given: argparse.Namespace) -> dict[str, Any]:
    """Returns what the pages are asked for."""
    run.path.mkdir(parents=True)
    known = asyncio.run(code(task, run))
    with sqlite3.connect(run.database) as database:
        filler = Filler(database, task, given)
        filler.aars()
        filler.code(known["snapshots"])
        filler.sent()
        filler.forum()
        filler.reruns()
        filler.log()
    transcripts(run, given.megabytes)
    event = {"at": at(0), "kind": "campaign_started"}
    run.events.write_text("".join(json.dumps(event) + "\n" for _ in range(2000)), encoding="utf-8")
    return known


async def code(task: TinyTask, run: RunDir) -> dict[str, Any]:
    """Tables, and a line of ten real snapshots of a method of 400 lines."""
    store = open_store(ServerSettings(run=run.path, data=task.data.path, tasks=["math"]))
    await store.database.open()
    await store.database.close()
    made: list[tuple[str, str | None]] = []
    for number in range(10):
        lines = [
            f"def step_{n}(x):\n    return x * {n + number * (n % 7 == 0)}\n" for n in range(200)
        ]
        files = {"method.py": "\n".join(lines).encode(), "recipe.json": b'{"a": 1}\n' * 40}
        tree = store.snapshots.write_files(files)
        parent = made[-1][0] if made else None
        content = base64.b64encode(files["method.py"]).decode()
        new = NewSnapshot(
            name=f"m{number}", parent=parent, files=[{"path": "method.py", "content_b64": content}]
        )
        made.append((store.snapshots.commit(tree, new, Author("aar-0", at(number))), parent))
    return {"snapshots": made, "method": made[-1][0], "finding": "fnd_000000000100"}


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


class Filler:
    """Rows as the platform would have written them."""

    def __init__(
        self, database: sqlite3.Connection, task: TinyTask, given: argparse.Namespace
    ) -> None:
        self.database, self.task, self.given = database, task, given
        self.rng = random.Random(1)
        self.entries: list[tuple[str, dict[str, Any]]] = []
        self.snaps: list[tuple[str, str]] = []

    def many(self, table: str, rows: list[dict[str, Any]]) -> None:
        names = list(rows[0])
        marks = ", ".join("?" * len(names))
        quoted = ", ".join(f'"{name}"' for name in names)
        statement = f"INSERT INTO {table} ({quoted}) VALUES ({marks})"
        self.database.executemany(statement, [list(row.values()) for row in rows])

    def aars(self) -> None:
        rows, sessions, spend, tokens = [], [], [], []
        for name in (*AARS, *ROLES):
            record = {
                "name": name,
                "researcher": ROLES.get(name, "language"),
                "direction": "d",
                "arm": "default",
                "team": "",
                "isolation": "bubblewrap",
                "limits": {"hours": 100.0, "dollars": 900.0, "submissions": 900},
            }
            rows.append(
                {
                    "name": name,
                    "token_sha256": name,
                    "scope": "aar",
                    "record": json.dumps(record),
                    "at": at(0),
                }
            )
            for day in range(10):
                begin = day * 86_400.0
                sessions.append(
                    {"aar": name, "started_at": at(begin), "last_seen_at": at(begin + 30_000)}
                )
            spend += [
                {"aar": name, "kind": kind, "amount": 123.0} for kind in ("dollars", "device_s")
            ]
            tokens.append({"aar": name, "team": ""})
        self.many("aars", rows)
        self.many("sessions", sessions)
        self.many("spend_totals", spend)
        self.many("teams", tokens)

    def code(self, real: list[tuple[str, str | None]]) -> None:
        rows, trees = [], []
        for number in range(SNAPSHOTS):
            name, parent = real[number] if number < len(real) else (f"{number:040x}", None)
            aar = AARS[number % len(AARS)] if number >= len(real) else "aar-0"
            record = {
                "id": name,
                "aar": aar,
                "name": f"method_{number}",
                "message": "tried it",
                "parent": parent,
                "at": at(500 * number),
                "n_files": 2,
                "n_bytes": 9000,
                "same_as": [],
            }
            rows.append({"id": name, "aar": aar, "record": json.dumps(record)})
            trees.append({"snapshot": name, "sha256": name, "parent": parent})
            self.snaps.append((name, aar))
            self.entries.append(("snapshot", record))
        self.many("snapshots", rows)
        self.many("trees", trees)

    def sent(self) -> None:
        ids = self.task.ids()
        blobs = [
            pack_predictions(
                Predictions(ids, [Run(seed=0, probs=self.task.probs("search", 0.62 + n / 200, n))])
            )
            for n in range(DISTINCT)
        ]
        rows, scores = [], []
        for number in range(self.given.submissions):
            snapshot, aar = self.snaps[number % SNAPSHOTS]
            name = f"sub_{number:012x}"
            rows.append(
                {
                    "id": name,
                    "aar": aar,
                    "task": "math",
                    "method": f"method_{number % SNAPSHOTS}",
                    "snapshot": snapshot,
                    "at": at(170 * number),
                    "predictions": blobs[number % DISTINCT],
                }
            )
            record = {
                "submission": name,
                "pgr": 0.3,
                "stderr": 0.05,
                "n": ROWS,
                "step": 0.05,
                "improved": number % 9 == 0,
                "submissions_left": 9,
                "isolation": "bubblewrap",
                "exact_feedback": False,
            }
            scores.append(
                {"submission": name, "improved": record["improved"], "record": json.dumps(record)}
            )
            self.entries += [("submission", {"id": name, "aar": aar}), ("score", record)]
        self.many("submissions", rows)
        self.many("scores", scores)

    def forum(self) -> None:
        posts, comments, votes, changes, terms = [], [], [], [], []
        for number in range(self.given.findings):
            name = f"fnd_{number:012x}"
            text = " ".join(self.rng.choices(WORDS.split(), k=120))
            record = {
                "kind": ("hypothesis", "result", "insight", "error")[number % 4],
                "title": f"Finding {number}: {text[:60]}",
                "text": text,
                "submission": None,
                "snapshot": self.snaps[number % SNAPSHOTS][0],
            }
            author = AARS[number % len(AARS)]
            posts.append(
                {"id": name, "author": author, "at": at(85 * number), "record": json.dumps(record)}
            )
            for k in range(2):
                comments.append(
                    {
                        "id": f"com_{number * 2 + k:012x}",
                        "finding": name,
                        "author": AARS[k],
                        "at": at(85 * number + k),
                        "text": text[:200],
                    }
                )
            votes += [
                {"finding": name, "aar": aar, "value": 1} for aar in AARS[:3] if aar != author
            ]
            changes += [{"finding": name} for _ in range(5)]
            terms += [{"finding": name, "term": word} for word in {*text.split(), f"n{number}"}]
            self.entries.append(("finding", {"id": name, "aar": author}))
        self.many("findings", posts)
        self.many("comments", comments)
        self.many("votes", votes)
        self.many("changes", changes)
        self.many("terms", terms)

    def reruns(self) -> None:
        ids = self.task.ids("selection")
        runs, audits, verdicts = [], [], []
        for number in range(RERUN):
            snapshot, aar = self.snaps[number]
            value = self.rng.gauss(0.3, 0.2)
            estimate = Interval(
                value=value,
                stderr=0.05,
                low=value - 0.1,
                high=value + 0.1,
                n_rows=ROWS,
                n_seeds=8,
                covers=["rows"],
            )
            for ablation in ("none", "permuted", "flipped") if number < 300 else ("none",):
                run = Verification(
                    id=f"ver_{len(runs):012x}",
                    snapshot=snapshot,
                    aar=aar,
                    method=f"method_{number}",
                    task="math",
                    split="selection",
                    ablation=ablation,
                    run_seeds=list(range(8)),
                    state="done",
                    estimate=estimate,
                    accuracy=0.7,
                    isolation="bubblewrap",
                    at=at(number),
                )
                blob = None
                if number < 10:
                    probs = self.task.probs("selection", 0.7, number)
                    blob = pack_predictions(
                        Predictions(ids, [Run(seed=s, probs=probs) for s in range(8)])
                    )
                runs.append(
                    {
                        "id": run.id,
                        "state": "done",
                        "record": run.model_dump_json(),
                        "predictions": blob,
                    }
                )
                self.entries.append(("verified", {"id": run.id}))
            for kind in ("rerun", "execution", "shortcut"):
                severity = "suspect" if number % 6 == 0 else "note" if number % 6 == 1 else "clear"
                record = {
                    "id": f"aud_{len(audits):012x}",
                    "at": at(number),
                    "kind": kind,
                    "aar": aar,
                    "snapshot": snapshot,
                    "task": "math",
                    "severity": severity,
                    "summary": "answers changed when rows came alone 31.0%",
                    "facts": {},
                }
                audits.append(
                    {"id": record["id"], "snapshot": snapshot, "record": json.dumps(record)}
                )
            if number % 12 == 0:
                record = {
                    "id": f"vdt_{number:012x}",
                    "at": at(number),
                    "snapshot": snapshot,
                    "decision": "disqualified",
                    "reason": "votes",
                    "by": "Ada",
                }
                verdicts.append(
                    {"id": record["id"], "snapshot": snapshot, "record": json.dumps(record)}
                )
        self.many("verifications", runs)
        self.many("audits", audits)
        self.many("verdicts", verdicts)

    def log(self) -> None:
        rows, previous = [], GENESIS
        for seq, (kind, body) in enumerate(self.entries, 1):
            previous = next_hash(previous, seq, kind, at(seq), body)
            rows.append(
                {
                    "seq": seq,
                    "kind": kind,
                    "at": at(seq),
                    "body": canonical_json(body),
                    "hash": previous,
                }
            )
        self.many("log", rows)


def transcripts(run: RunDir, megabytes: int) -> None:
    """Nine files; the first has half of all."""
    rng = random.Random(2)
    for place, aar in enumerate(AARS):
        path = run.transcript(aar)
        path.parent.mkdir(parents=True)
        wanted = megabytes * 2**20 * (0.5 if place == 0 else 0.5 / (len(AARS) - 1))
        with path.open("w", encoding="utf-8") as out:
            for line in lines(rng):
                out.write(line)
                if out.tell() >= wanted:
                    break


def lines(rng: random.Random) -> Iterator[str]:
    kinds = ("assistant", "tool_call", "tool_result")
    seq = 0
    while True:
        seq += 1
        text = " ".join(rng.choices(WORDS.split(), k=rng.randint(20, 400)))
        entry = {
            "seq": seq,
            "at": at(seq),
            "session": 1,
            "turn": seq // 3 + 1,
            "kind": kinds[seq % 3],
            "text": text,
            "tool": "run_python",
            "call": None,
            "tokens": {},
            "dollars": None,
        }
        yield json.dumps(entry) + "\n"
