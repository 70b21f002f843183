"""Every built-in method verified without texts, beside the same method with them.

    python benchmarks/blind_model.py --out benchmarks/blind_model.md

Small tasks on a tiny random model, built here (`tests/kit/tiny_task.py`): students of one are
heads, and methods may ask the model; students of the others train blocks of it. The real verifier
runs each method in its sandboxes: blind, in the basis in which states are stored and with exact
log-likelihoods, and open, on the same seeds and teachers. What is compared are all predictions. The
model knows nothing: the page shows that both ways give the same, not what a method is worth.
Results are kept in `--kept`; a second call goes on where it stopped.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kit"))
# Open runs compute on one thread of the CPU; bits depend on both.
os.environ |= {"AARLAB_TORCH_THREADS": "1", "AARLAB_DEVICE": "cpu"}

import numpy as np
import tiny_task
import verified_run

from aarlab.core.layout import DataRoot
from aarlab.core.types import Example
from aarlab.core.wire import VerificationResult
from aarlab.testbed.methods import METHODS
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.models.lm import source_at_hand
from aarlab.testbed.settings import TestbedSettings
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.making import Workshop
from aarlab.testbed.tasks.twins import with_twins
from aarlab.verify.basis import Basis, halved, rounded

READS = "READS_TEXT = True\n"
SEEDS = [3]
WAYS: dict[str, Basis] = {"plain": "plain", "open": "secret"}
Facts = dict[str, Any]


def build(home: Path) -> DataRoot:
    """Build the tasks, once."""
    root = DataRoot(home)
    if (home / "built").is_file():
        return root
    tiny_task.SIZES |= {"train": 64, "train_hidden": 64, "selection": 40, "search": 40}
    tiny_task.tiny_pair(root, home / "hf")
    options = tiny_task.tiny_options().model_copy(update={"require_gap": False})
    shop = Workshop(root, print, settings=TestbedSettings(device="cpu", torch_threads=1))
    plain = options.model_copy(update={"adapter": None, "model": "tiny"})
    trained = {name: tiny_task.tiny_options(name) for name in ("lora", "full")}
    trained = {name: one.model_copy(update={"require_gap": False}) for name, one in trained.items()}
    for name, chosen in {"heads": plain, "blocks": options, **trained}.items():
        shop.build(with_twins(tiny_task.tiny_data(name)), chosen)
    (home / "built").touch()
    return root


def verified(root: DataRoot, task: str, name: str, way: str) -> VerificationResult:
    source = named_files(name)["method.py"].replace(READS, "")
    files = {"method.py": (READS if way == "open" else "") + source}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        os.chmod(place, 0o711)
        wanted = verified_run.wanted(task, SEEDS, method=name)
        return verified_run.verified(root, Path(place), files, wanted, WAYS[way])


def compared(root: DataRoot, task: str, name: str) -> Facts:
    """Say whether a method gives the same blind and open."""
    found: Facts = {}
    results = {}
    for way in WAYS:
        begun = time.monotonic()
        results[way] = verified(root, task, name, way)
        found[way] = {
            "seconds": round(time.monotonic() - begun, 1),
            "error": results[way].error.partition("\n")[0][:160],
        }
    evidence = results["plain"].evidence
    found["templates"] = [] if evidence is None else evidence.templates
    if not results["plain"].error and not results["open"].error:
        plain, texts = (
            np.array([run.probs for run in results[way].runs])[:, np.argsort(results[way].ids)]
            for way in ("plain", "open")
        )
        found["same"] = bool(np.array_equal(plain, texts))
        found["most"] = float(np.abs(plain - texts).max())
    print(f"{task} {name}: {found}", flush=True)
    return found


ECHO_ROWS = 200
ECHOES = {
    "a digit": ("Note: the code is {}.", "{prompt} I repeat: the code is", range(10)),
    "one of 24 words": (
        "Note: my pet is a {}.",
        "{prompt} I repeat: my pet is a",
        [
            *("dog", "cat", "cow", "pig", "hen", "fox", "owl", "bat", "rat", "ant", "bee", "fly"),
            *("crab", "frog", "toad", "swan", "duck", "wolf", "bear", "deer", "lion", "goat"),
            *("lamb", "fish"),
        ],
    ),
}


GUESSES: dict[str, Callable[..., Any]] = {
    "exact": lambda logp_NA3, *_: logp_NA3,
    "rounded": rounded,
    "two levels": halved,
}


def _standing_out(parts: list[Any]) -> Any:
    logp_NW = np.concatenate(parts, axis=1).astype(np.float64)
    return ((logp_NW - logp_NW.mean(axis=0)) / logp_NW.std(axis=0)).argmax(axis=1)


def echo(model: Path) -> Facts:
    """Have a model repeat what it read, and guess that by log-likelihoods, exact and rounded.

    Guesses are words after a template, two with each. Read is the word that stands out most among
    all rows, in standard deviations of its log-likelihood.
    """
    student, found = StudentFactory(source_at_hand(StoredFeatures([]), model, []), 1), Facts()
    rng = np.random.default_rng(0)
    for what, (text, template, values) in ECHOES.items():
        words = [f" {value}" for value in values]
        said_N = rng.integers(len(words), size=ECHO_ROWS)
        rows = [Example(str(i), "", text.format(words[n].strip()), ("x",))
                for i, n in enumerate(said_N)]  # fmt: skip
        guesses: dict[str, list[Any]] = {way: [] for way in GUESSES}
        for at in range(0, len(words), 2):
            logp = student.zero_shot(student.ask(rows, template, words[at : at + 2]))
            exact_NA3 = np.stack(logp, axis=-1).astype(np.float32)
            for way, coarse in GUESSES.items():
                given_NA3 = coarse(exact_NA3, np.arange(len(rows)), rng)
                guesses[way].append(given_NA3[..., 0])
        found[what] = {"templates": len(words) // 2, "chance": 1 / len(words)} | {
            way: float((_standing_out(parts) == said_N).mean()) for way, parts in guesses.items()
        }
        print(what, found[what], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kept", type=Path, default=Path("/var/tmp/aarlab-blind-model"))
    parser.add_argument("--tasks", default="heads,blocks")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--echo", type=Path, help="folder of a model that can repeat")
    parser.add_argument("--out", type=Path, default=HERE / "blind_model.md")
    given = parser.parse_args()
    given.kept.mkdir(parents=True, exist_ok=True)
    root, out = build(given.kept / "home"), given.out.with_suffix(".json")
    kept = given.kept / out.name
    found: Facts = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if given.echo is not None:
        found["echo"] = echo(given.echo) | {"model": given.echo.name}
        kept.write_text(json.dumps(found), encoding="utf-8")
    for task in filter(None, given.tasks.split(",")):
        for name in given.methods.split(","):
            cells = found.setdefault(task, {})
            if name not in cells:
                cells[name] = compared(root, task, name)
                kept.write_text(json.dumps(found), encoding="utf-8")
    found["made"] = (
        f"{datetime.now(UTC).date().isoformat()}, {os.cpu_count()} cores {platform.machine()}, "
        f"{len(SEEDS)} seed"
    )
    out.write_text(json.dumps(found) + "\n", encoding="utf-8")
    given.out.write_text(page(found), encoding="utf-8")


# ---------------------------------------------------------------- the page
TITLES = {
    "heads": "heads",
    "blocks": "top block trained",
    "lora": "LoRA on all blocks",
    "full": "all weights",
}


def page(found: Facts) -> str:
    tasks = [task for task in TITLES if task in found]
    names = [name for name in METHODS if any(name in found[task] for task in tasks)]
    lines = [
        "# Blind runs that use the strong model\n",
        f"{found['made']}. Small tasks on a tiny random model; the real verifier in its "
        "sandboxes. *Same* compares all predictions of a blind run, in the basis in which states "
        "are stored, with those of an open one, to the bit. The second column says *open* where a "
        "built-in method says READS_TEXT = True; that line is left out for the blind run. A blank "
        "cell was not run. Both ways ask the model in the same batches: what it computes for a row "
        "depends in its last bits on the rows beside it. Both ways compute by the same "
        "instructions: where an environment chose others (`OPENBLAS_CORETYPE`) and sandboxes did "
        "not get it, `debate` differed by 1e-7 and `critic`, which has the model write, by .06. "
        "Run after both were so: `ccs`, `vinc`, `critic`, `debate` and all of LoRA and of all "
        "weights. "
        "Seconds are those of a whole verified run, blind and open, on a machine under heavy load: "
        "they compare little. Made by `benchmarks/blind_model.py`.\n",
    ]
    for task in tasks:
        cells = found[task]
        both = [name for name, cell in cells.items() if "same" in cell]
        same = [name for name in both if cells[name]["same"]]
        lines.append(
            f"With {TITLES[task]}: {len(same)} of the {len(both)} methods that run both ways give "
            f"the same to the bit; {len(cells) - len(both)} of {len(cells)} fail one way or both.\n"
        )
    heads = [f"{TITLES[task]} | seconds" for task in tasks]
    lines += [
        f"| method | ships as | {' | '.join(heads)} | templates |",
        "|" + "---|" * (3 + 2 * len(tasks)),
    ]
    for name in names:
        ships = "open" if METHODS[name].reads_texts else ""
        cells = [_cell(found[task].get(name)) for task in tasks]
        asked = max(
            (len(found[t][name]["templates"]) for t in tasks if name in found[t]), default=0
        )
        lines.append(f"| {name} | {ships} | {' | '.join(cells)} | {asked or ''} |")
    return "\n".join(lines + _echo(found)) + "\n"


def _echo(found: Facts) -> list[str]:
    if "echo" not in found:
        return []
    lines = [
        "\n## What an echo is worth\n",
        f"`{found['echo']['model']}` repeats what a text said, and guesses of it are compared by "
        f"their log-likelihoods, two with each template; {ECHO_ROWS} texts. Rounded are those of a "
        "task's own answers; a verified run gives words after a template two levels, and answers "
        "12 templates.\n",
        "| read | templates | right by exact log-likelihoods | rounded | two levels | by chance |",
        "|---|---|---|---|---|---|",
    ]
    for what, cell in found["echo"].items():
        if isinstance(cell, dict):
            shares = [f"{cell[way]:.0%}" for way in (*GUESSES, "chance")]
            lines.append(f"| {what} | {cell['templates']} | {' | '.join(shares)} |")
    return lines


def _cell(cell: Facts | None) -> str:
    if cell is None:
        return " | "
    seconds = f"{cell['plain']['seconds']:.0f}, {cell['open']['seconds']:.0f}"
    if "same" in cell:
        said = "same" if cell["same"] else f"differ by up to {cell['most']:.1g}"
        return f"{said} | {seconds}"
    blind, texts = cell["plain"]["error"], cell["open"]["error"]
    said = f"both: {blind}" if blind == texts else f"blind: {blind}"
    if blind != texts and texts:
        said += f" open: {texts}"
    return f"{said} | {seconds}"


if __name__ == "__main__":
    main()
