"""Coverage-guided fuzzing of what parses foreign bytes, with atheris (pip install atheris).

    python benchmarks/fuzz.py --seconds 60 --out benchmarks/fuzz.md

Each target runs in a process of its own for the given time. A finding is any exception but the
documented ones; atheris then writes the input to a file and the table names it.
"""

import argparse
import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

if "--target" in sys.argv:
    import atheris

    with atheris.instrument_imports(include=["aarlab"]):
        import aarlab.server.markdown
        import aarlab.store.predictions
        import aarlab.store.snapshots
        import aarlab.verify.evidence
        import aarlab.verify.static  # noqa: F401

from pydantic import ValidationError

from aarlab.core.errors import AarlabError
from aarlab.core.types import Example
from aarlab.core.wire import NewFinding, NewSnapshot, SnapshotFile, Submission
from aarlab.server.markdown import render_markdown
from aarlab.store.predictions import unpack
from aarlab.store.snapshots import decode
from aarlab.verify import static
from aarlab.verify.evidence import read_evidence
from aarlab.verify.record import MARK

ROWS = [Example("a", "g", "What is 3 + 4?", ("7",))]
HOSTILE = re.compile(r"<script|<iframe|\son\w+=|javascript:|<img", re.IGNORECASE)


def wire(data: bytes) -> None:
    for model in (Submission, NewFinding, NewSnapshot):
        try:
            model.model_validate_json(data)
        except ValidationError:
            continue


def snapshot(data: bytes) -> None:
    path, _, content = data.partition(b"\0")
    try:
        file = SnapshotFile(
            path=path.decode("utf-8", "surrogateescape"),
            content_b64=base64.b64encode(content).decode(),
        )
        found = decode(
            NewSnapshot(name="m", files=[SnapshotFile(path="method.py", content_b64=""), file])
        )
    except (ValidationError, AarlabError):
        return
    for name in found:
        assert ".." not in name.split("/") and not name.startswith("/"), name


def predictions(data: bytes) -> None:
    try:
        unpack(data)
    except AarlabError:
        return


def markdown(data: bytes) -> None:
    page = render_markdown(data.decode("utf-8", "replace"))
    tags = "".join(re.findall(r"<[^>]*>", page))
    assert not HOSTILE.search(tags), page


def code(data: bytes) -> None:
    static.review({"method.py": data, "notes.txt": data})


def record(data: bytes) -> None:
    read_evidence(MARK.encode() + data, False, ROWS, None)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "wire": wire,
    "snapshot": snapshot,
    "predictions": predictions,
    "markdown": markdown,
    "code": code,
    "record": record,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--target", choices=TARGETS, help="run one in this process")
    given = parser.parse_args()
    if given.target:
        _fuzz(TARGETS[given.target], given.seconds)
        return
    rows = [_row(name, given.seconds) for name in TARGETS]
    now, version = datetime.now(UTC).date().isoformat(), metadata.version("atheris")
    given.out.write_text(
        f"# Fuzzing\n\n{now}, atheris {version}, {given.seconds} s a target, coverage of `aarlab` "
        "alone. Made by `benchmarks/fuzz.py`.\n\n| target | inputs tried | findings |\n"
        "|---|---|---|\n" + "".join(rows)
    )
    print(given.out.read_text())


def _fuzz(target: Callable[[bytes], None], seconds: int) -> None:
    arguments = [sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=4096"]
    atheris.Setup(arguments, atheris.instrument_func(target))
    atheris.Fuzz()


def _row(name: str, seconds: int) -> str:
    words = [sys.executable, __file__, "--target", name, "--seconds", str(seconds)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    tried = re.findall(r"Done (\d+) runs", done.stderr)
    last = [line for line in done.stderr.splitlines() if line.strip()][-6:]
    found = "none" if tried else json.dumps(" ".join(last))[:300]
    return f"| {name} | {int(tried[0]):,} | {found} |\n" if tried else f"| {name} | | {found} |\n"


if __name__ == "__main__":
    main()
