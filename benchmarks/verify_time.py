"""What `aarlab method verify` takes in two versions of aarlab, in turn on the same machine.

    python benchmarks/verify_time.py --before OLD/.venv/bin/aarlab OLD_HOME \\
        --now .venv/bin/aarlab HOME --out benchmarks/verify_time.md

Each version has a data root of its own with the embedded math task (`aarlab task build math --seed
16`). Methods are made by `aarlab method new` of the version itself. A command does the whole of it:
the method on the hidden rows, the same with permuted labels, vanilla, and the guards.
"""

import argparse
import os
import platform
import resource
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

METHODS = {"own_first": "", "own_vanilla": "vanilla", "own_em_posterior": "em_posterior"}


def timed(command: Path, home: Path, words: list[str]) -> tuple[float, float]:
    """Return wall and processor seconds of a command and its children."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    variables = {**os.environ, "AARLAB_HOME": str(home)}
    argv = [str(command), *words]
    done = subprocess.run(argv, env=variables, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise SystemExit(f"{command} {' '.join(words)}: {done.stdout}{done.stderr}")
    after, wall_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begun
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", nargs=2, type=Path, required=True, metavar=("AARLAB", "HOME"))
    parser.add_argument("--now", nargs=2, type=Path, required=True, metavar=("AARLAB", "HOME"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    load = [os.getloadavg()[0]]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        sides = {"before": given.before, "now": given.now}
        for side, (command, home) in sides.items():
            for name, like in METHODS.items():
                words = ["method", "new", f"{folder}/{side}/{name}"]
                timed(command, home, [*words, *(["--like", like] if like else [])])
        for name in METHODS:
            found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
            for _ in range(given.repeats):
                for side, (command, home) in sides.items():
                    words = ["method", "verify", f"{folder}/{side}/{name}", "--task", "math"]
                    found[side].append(timed(command, home, [*words, "--seed-base", "700"]))
                    load.append(os.getloadavg()[0])
            (wall, cpu), (wall_now, cpu_now) = (
                tuple(median(run[at] for run in found[side]) for at in (0, 1)) for side in sides
            )
            cells = (name, wall, wall_now, wall_now / wall, cpu, cpu_now, cpu_now / cpu)
            lines.append(
                "| {} | {:.1f} | {:.1f} | {:.2f} | {:.1f} | {:.1f} | {:.2f} |".format(*cells)
            )
    made = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores {platform.machine()}"
    text = f"""# Time of `aarlab method verify`

{made}, load {min(load):.1f} to {max(load):.1f}, 8 seeds, medians of {given.repeats} runs in turn.
Made by `benchmarks/verify_time.py`.

| method | before, wall s | now | ratio | before, CPU s | now | ratio |
|---|---|---|---|---|---|---|
"""
    given.out.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
