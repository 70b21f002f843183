"""Keep of a campaign what a reader needs to check it: in `docs/recorded-ENGINE`.

Books, log, transcripts and report, without the database and without the page, whose figures and
tables are kept. Paths and names of the machine are replaced. Raises where one is left, where a
secret of the campaign is found, or where ledger and transcripts differ.
"""

import gzip
import json
import re
import shutil
import socket
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples" / "nine_scripted"))

from fake_models import KEY
from record import write_ledger

from aarlab.core.hashing import LogEntry, LogHead, verify_chain
from aarlab.core.layout import RunDir
from aarlab.core.wire import CampaignExport
from aarlab.report.write import write_report

COLUMNS = ("seq", "kind", "at", "body", "hash")


def keep(run: RunDir, figures: Mapping[str, Any], out: Path, hide: Mapping[str, str]) -> None:
    """Write the folder anew; `hide` maps paths of this machine to what stands for them."""
    hide = {**hide, str(ROOT): "~/aarlab", str(Path.home()): "~", socket.gethostname(): "host"}
    export = CampaignExport.model_validate_json(run.export.read_bytes())
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    texts = {
        "course.json": json.dumps(figures, indent=1) + "\n",
        "export.json": json.dumps(export.model_dump(mode="json")) + "\n",
        "events.jsonl": run.events.read_text(encoding="utf-8"),
        "spec.json": run.spec.read_text(encoding="utf-8"),
        "log.jsonl.gz": log_of(run, export),
    }
    for pod in sorted(run.path.glob("pods/*/pod.log")):
        texts[f"pods/{pod.parent.name}.log"] = pod.read_text(encoding="utf-8")
    for spend in export.model_spend:
        told = run.aar(spend.aar) / "transcript.jsonl"
        texts[f"transcripts/{spend.aar}.jsonl.gz"] = told.read_text(encoding="utf-8")
    for name, text in texts.items():
        write(out / name, hidden(text, hide) if name != "log.jsonl.gz" else text)
    write_ledger(run.path, export, out / "ledger.csv")
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        export = CampaignExport.model_validate_json((out / "export.json").read_bytes())
        write_report(export, report)
        for path in (report / "index.html", *report.glob("*.svg")):  # the figures are there as PNG
            path.unlink()
        shutil.copytree(report, out / "report")
    check(out, [*hide, *secrets_of(run)])


def log_of(run: RunDir, export: CampaignExport) -> str:
    """Return the campaign's log, a line an entry; it passes through the export's head."""
    query = f"select {', '.join(COLUMNS)} from log order by seq"
    with sqlite3.connect(f"file:{run.database}?mode=ro", uri=True) as database:
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in database.execute(query)]
    entries = [row | {"body": json.loads(row["body"])} for row in rows]
    verify_chain((LogEntry(**e) for e in entries), LogHead(export.head.seq, export.head.hash))
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def hidden(text: str, hide: Mapping[str, str]) -> str:
    for name in sorted(hide, key=len, reverse=True):
        text = whole(name).sub(hide[name], text)
    return text


def whole(name: str) -> re.Pattern[str]:
    """Return a pattern of the name that is not part of a longer word."""
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def secrets_of(run: RunDir) -> list[str]:
    """Return tokens and keys of the campaign: of AARs, the operator, pods, and of the models."""
    files = [p for folder in (run.tokens, run.platform / "pods") for p in folder.iterdir()]
    found = [p.read_text(encoding="utf-8").strip() for p in files if not p.name.endswith(".pub")]
    assert len(found) > 9, "the tokens of nine AARs"
    return [*found, KEY]


def check(out: Path, words: list[str]) -> None:
    for path in (p for p in out.rglob("*") if p.is_file() and p.suffix != ".png"):
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode(errors="replace")
        for word in words:
            assert not whole(word).search(text), f"{path.name}: {word}"
