"""Coverage-guided fuzzing of what parses foreign bytes, with atheris (pip install atheris).

    python benchmarks/fuzz.py --seconds 60 --jobs 2 --out benchmarks/fuzz.md

Each target (benchmarks/fuzz_targets.py) runs in a process of its own for the given time. A finding
is any exception but the documented ones; the table then holds its last words.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path

if "--target" in sys.argv:
    import atheris

    with atheris.instrument_imports(include=["aarlab"]):
        from fuzz_targets import SEEDS, TARGETS
else:
    from fuzz_targets import SEEDS, TARGETS

SHOWN = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=1, help="targets at once")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--only", nargs="*", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--target", choices=TARGETS, help="run one in this process")
    given = parser.parse_args()
    if given.target:
        _fuzz(given.target, given.seconds)
        return
    with ThreadPoolExecutor(given.jobs) as pool:
        rows = list(pool.map(partial(_row, seconds=given.seconds), given.only))
    now, version = datetime.now(UTC).date().isoformat(), metadata.version("atheris")
    given.out.write_text(
        f"# Fuzzing\n\n{now}, atheris {version}, Python {platform.python_version()}, "
        f"{given.seconds} s a target, {given.jobs} at once on {os.cpu_count()} cores, coverage of "
        "`aarlab` alone. Made by `benchmarks/fuzz.py`.\n\n"
        "| target | inputs tried | findings |\n|---|---|---|\n" + "".join(rows),
        encoding="utf-8",
    )
    print(given.out.read_text(encoding="utf-8"))


def _fuzz(target: str, seconds: int) -> None:
    arguments = [sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=4096"]
    corpus = Path(tempfile.mkdtemp())
    for number, seed in enumerate(SEEDS.get(target, [])):
        (corpus / str(number)).write_bytes(seed)
    arguments.append(str(corpus))
    atheris.Setup(arguments, atheris.instrument_func(TARGETS[target]))
    atheris.Fuzz()


def _row(name: str, seconds: int) -> str:
    words = [sys.executable, __file__, "--target", name, "--seconds", str(seconds)]
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=scratch,
            env={**os.environ, "TMPDIR": scratch},
            encoding="utf-8",
        )
    tried = re.findall(r"Done (\d+) runs", done.stderr)
    if tried:
        return f"| {name} | {int(tried[0]):,} | none |\n"
    last = done.stderr.partition("Uncaught Python exception")[2] or done.stderr
    said = " ".join(line for line in last.splitlines()[1:] if line.strip())
    return f"| {name} | | {json.dumps(said)[:SHOWN]} |\n"


if __name__ == "__main__":
    main()
