"""What of a finished campaign is kept in docs/recorded: export, report, transcripts, ledger.

    python examples/nine_scripted/record.py RUN OUT

Transcripts are packed with gzip; the ledger has one line a model call, then the sums as the
platform has them. Raises SystemExit where the two differ.
"""

import csv
import gzip
import json
import shutil
import sys
from pathlib import Path

from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.transcript import read_transcript
from aarlab.core.wire import CampaignExport
from aarlab.report.write import write_report

HEADER = ["aar", "model", "at", "session", "turn", *TOKEN_KINDS, "dollars"]


def main(run: Path, out: Path) -> None:
    export = CampaignExport.model_validate_json((run / "export.json").read_bytes())
    shutil.rmtree(out, ignore_errors=True)
    (out / "transcripts").mkdir(parents=True)
    told = json.dumps(export.model_dump(mode="json")).replace(str(Path.home()), "~")
    export = CampaignExport.model_validate_json(told)
    (out / "export.json").write_text(told + "\n", encoding="utf-8")
    for name in ("events.jsonl", "spec.json"):
        (out / name).write_text(
            (run / name).read_text(encoding="utf-8").replace(str(Path.home()), "~"),
            encoding="utf-8",
        )
    for spend in export.model_spend:
        text = (run / "aars" / spend.aar / "transcript.jsonl").read_bytes()
        packed = gzip.compress(text, mtime=0)
        (out / "transcripts" / f"{spend.aar}.jsonl.gz").write_bytes(packed)
    write_ledger(run, export, out / "ledger.csv")
    write_report(export, out / "report")


def write_ledger(run: Path, export: CampaignExport, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(HEADER)
        for spend in export.model_spend:
            sums = dict.fromkeys((*TOKEN_KINDS, "dollars"), 0.0)
            for entry in read_transcript(run / "aars" / spend.aar / "transcript.jsonl"):
                if entry.kind != "assistant":
                    continue
                used = [entry.tokens.get(kind, 0) for kind in TOKEN_KINDS] + [entry.dollars or 0.0]
                place = [entry.at[:19], entry.session, entry.turn]
                out.writerow([spend.aar, spend.model, *place, *used[:-1], round(used[-1], 6)])
                sums = {kind: sums[kind] + n for kind, n in zip(sums, used, strict=True)}
            booked = {kind: float(getattr(spend, kind)) for kind in sums}
            if any(abs(booked[kind] - sums[kind]) > 1e-9 * max(1, booked[kind]) for kind in sums):
                raise SystemExit(f"{spend.aar}: told {sums}, booked {booked}")
            totals = [getattr(spend, kind) for kind in TOKEN_KINDS]
            out.writerow([spend.aar, "all", "", "", "", *totals, round(spend.dollars, 6)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
