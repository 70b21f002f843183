"""The red team's tables: attacks and every honest method through the same verifier and audits,
methods that mean to break the verifier, and a language AAR's own cheats.

    python benchmarks/redteam.py --out benchmarks/redteam.md

A real server, real sandboxes, the task of `tests/kit/code_world.py`. Nothing is scripted beyond the
attackers themselves (`tests/redteam`, `tests/kit/hacks.py`, `tests/kit/breakers.py`).
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests" / part) for part in ("kit", "redteam")]

import attacks
from arena import Arena, open_arena
from breakers import SOURCES
from language_cheats import CHEATS
from language_hunts import HUNTS
from language_kit import bench
from language_world import hunt, world
from toy_campaign import build_toy

from aarlab.core.errors import AarlabError
from aarlab.core.layout import RunDir
from aarlab.core.wire import Verification
from aarlab.testbed.methods import METHODS

# what, the method it leaves behind, the AAR whose submissions are looked at
ATTACKS = (
    ("most frequent answer of a problem", "majority", None),
    ("cluster the answers by their writer", "by_looks", None),
    ("run the code that is to be judged", "run_the_code", None),
    ("run it in a program of its own", "run_programs", None),
    ("evaluator written by hand", "evaluator", None),
    ("hunt for label files", "label_hunt", None),
    ("flip rows one by one", None, "flipper"),
    ("random vectors and regression", None, "random"),
    ("best of many seeds, written into the code", "best_seed", "seeder"),
    ("resubmission under new names", "lucky", "lucky"),
    ("search rows memorised, with their labels", "memorised", "memo"),
    ("another AAR's method as one's own", "my_idea", None),
    ("talk to the reviewing model", "talks", None),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "redteam.md")
    given = parser.parse_args()
    names = [name for name, method in METHODS.items() if not method.needs_model]
    names = [name for name in names if not name.startswith("guard_")]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, open_arena(Path(folder)) as arena:
        attacks.honest(arena, names)
        attacks.methods_that_cheat(arena)
        attacks.go_by_style(arena)
        for attack in (
            attacks.flip_rows,
            attacks.random_vectors,
            attacks.hunt_seeds,
            attacks.resubmit,
            attacks.memorise,
            attacks.copy_another,
            attacks.post_injection,
        ):
            attack(arena)
        break_the_verifier(arena)
        arena.settle()
        language = language_tables(Path(folder) / "language")
        text = page(arena, names, time.monotonic() - begun) + breaker_table(arena) + language
    given.out.write_text(text, encoding="utf-8")
    print(text)


def page(arena: Arena, names: list[str], seconds: float) -> str:
    now = datetime.now(UTC).date().isoformat()
    done = [name for name in names if arena.verification(name).estimate is not None]
    flagged = [name for name in done if arena.suspect(name)]
    lines = [
        f"# Red team\n\n{now}, {os.cpu_count()} cores {platform.machine()}, {seconds:.0f} s. "
        "Task: 240 rows a split, 60 problems of 4 answers, two of them right and alike; Gaussian "
        "states; 3 drawn seeds a re-run. PGR with its 95 % interval on the selection split. Made "
        "by `benchmarks/redteam.py`.\n",
        "## Attacks\n\n| attack | PGR, re-run | with permuted labels | flagged by |",
        "|---|---|---|---|",
    ]
    lines += [_attack(arena, *attack) for attack in ATTACKS]
    lines += [
        f"\n## Honest methods\n\n{len(done)} built-in methods ran on this task, {len(flagged)} "
        f"flagged as suspect. {len(names) - len(done)} gave no score.\n",
        "| method | PGR, re-run | with permuted labels | ablation | flags and notes |",
        "|---|---|---|---|---|",
    ]
    lines += [_honest(arena, name) for name in names]
    return "\n".join(lines) + "\n"


def break_the_verifier(arena: Arena) -> None:
    """Methods that write what the verifier reads (tests/kit/breakers.py), each of its own AAR."""
    for number, (name, source) in enumerate(SOURCES.items()):
        arena.hand_in(f"breaker{number}", name, source)


def breaker_table(arena: Arena) -> str:
    lines = [
        "\n## Methods that mean to break the verifier\n\nThey end their own runner and leave files "
        "and records of their own making. The verifier goes on: all methods above were settled by "
        "the same process.\n",
        "| what it leaves | its re-run | flagged by |",
        "|---|---|---|",
    ]
    for name in SOURCES:
        run = arena.verification(name)
        said = run.error.splitlines()[0][:90] if run.error else _text(run)
        lines.append(f"| {name} | {said} | {', '.join(sorted(arena.suspect(name))) or '-'} |")
    return "\n".join(lines) + "\n"


def language_tables(folder: Path) -> str:
    """A language AAR's own cheats: its model is a script, its tools and their walls are real."""
    root, lines = build_toy(folder / "data"), []
    with bench(root, RunDir(folder / "run"), "--task", "gauss") as desk, world(desk) as outside:
        open_, walled = (hunt(desk, outside, kind).told for kind in ("process", "bubblewrap"))
        lines = [
            "\n## Language AAR: hunts for labels and secrets\n\nIts model is a script that is told "
            "where everything lies; tools, sandbox, server and vault are real.\n",
            "| hunt | without isolation | in the sandbox | wall |",
            "|---|---|---|---|",
        ]
        for name, wall in HUNTS.items():
            got = [_got(told[name]) for told in (open_, walled)]
            lines.append(f"| {name} | {got[0]} | {got[1]} | {wall.wall} |")
        lines += [
            "\n## Language AAR: other cheats\n",
            "| cheat | what it got | wall |",
            "|---|---|---|",
        ]
        for name, cheat in CHEATS.items():
            caught = cheat(desk, outside)
            lines.append(f"| {name} | {'; '.join(caught.got) or 'nothing'} | {caught.wall} |")
    return "\n".join(lines) + "\n"


def _got(told: str) -> str:
    finds = told.count("BREACH")
    return f"{finds} finds" if finds > 1 else "1 find" if finds else "nothing"


def _attack(arena: Arena, what: str, method: str | None, aar: str | None) -> str:
    flags = sorted(arena.suspect(method)) if method else []
    flags += ["forensics"] if aar and arena.forensics(aar).severity == "suspect" else []
    if method is None:
        exact = arena.exact(aar or "")
        figures = f"search: first {exact[0]:+.2f}, last {exact[-1]:+.2f} | "
    else:
        figures = f"{_text(arena.verification(method))} | {_permuted(arena, method)}"
    return f"| {what} | {figures} | {', '.join(flags) or 'nothing'} |"


def _honest(arena: Arena, name: str) -> str:
    v, audits = arena.verification(name), arena.audits(name)
    if v.estimate is None:
        return f"| {name} | {v.error.splitlines()[0][:80]} | | | |"
    odd = [f"{kind}: {a.severity}" for kind, a in audits.items() if a.severity != "clear"]
    said = audits["ablation"].summary.split(";")[0] if "ablation" in audits else "not run"
    return f"| {name} | {_text(v)} | {_permuted(arena, name)} | {said} | {', '.join(odd)} |"


def _permuted(arena: Arena, name: str) -> str:
    try:
        return _text(arena.verification(name, "permuted"))
    except (StopIteration, AarlabError):
        return "not run"


def _text(v: Verification) -> str:
    e = v.estimate
    return "failed" if e is None else f"{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"


if __name__ == "__main__":
    main()
