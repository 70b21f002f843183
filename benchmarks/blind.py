"""What the blind run takes from cheats, and what it leaves honest methods.

    AARLAB_HOME=... python benchmarks/blind.py --out benchmarks/blind.md

The cheats (`tests/kit/new_cheats.py`) and every built-in method that needs no model at hand go
through the real verifier and its sandboxes on the embedded math task, each in the blind and in the
open class, with the same seeds and fresh teachers. What a cheat ships is made here from the public
rows and their true labels, which stand for what a researcher can tell by reading. Predictions are
kept in `--kept`; a second call goes on where it stopped. Parts: cheats, honest_parts,
feedback, honest, same, basis. Without log-likelihoods, as on `oversight`, the only part is attacks:
cheats and attackers of `state_attacks.py` beside honest methods. `--only` names the methods of a
part. blind.md is put together by hand from what this writes, and from the tables of `rounding.py`
and `noise.py`.
"""

import argparse
import base64
import json
import os
import platform
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kit"))

import numpy as np
from new_cheats import CHEATS, HONEST_PARTS, HONESTLY, OPEN, TRIES, files_of, notes_of

import state_attacks
from aarlab.cli.operator import open_scorer
from aarlab.cli.settings import data_root
from aarlab.core import ids
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import (
    Ablation,
    Interval,
    Predictions,
    Snapshot,
    SnapshotContent,
    SnapshotFile,
    Verification,
    VerificationResult,
)
from aarlab.testbed.methods import METHODS
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.running.frozen_method import FrozenMethod
from aarlab.testbed.tasks.task import load_info
from aarlab.testbed.tasks.train_task import student_settings
from aarlab.vault.scorer import Scorer
from aarlab.verify import own
from aarlab.verify.basis import Basis, whitening
from aarlab.verify.evidence import disagreement
from aarlab.verify.hidden import held_for
from aarlab.verify.rerun import Verifier
from aarlab.verify.static import contents

FIRST_SEED = 700
MATH = "math"
VANILLA = "vanilla"
TOLD = "climbed_told"  # the climber, told its scores on the selection split as it went
SAME_SEEDS = 2
PARTS = "cheats,honest_parts,feedback,honest,same,basis"
Way = str  # blind; blind in the stored basis; open
BASES: dict[Way, Basis] = {"blind": "secret", "plain": "plain", "open": "secret"}
Facts = dict[str, Any]


@dataclass
class Arena:
    """The task, where verified runs are kept, and who scores them."""

    root: DataRoot
    task: str
    seeds: int
    kept: Path
    only: Sequence[str] = ()  # methods; all where it is empty
    ways: Sequence[Way] = ("blind", "open")  # audits need both
    scorer: Scorer = field(init=False)
    notes: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.kept.mkdir(parents=True, exist_ok=True)
        self.scorer = open_scorer(self.root)
        make = state_attacks.notes_of if self.states_alone else notes_of
        self.notes = make(self.root, self.task, public_labels(self.root, self.task))

    @property
    def states_alone(self) -> bool:
        settings = load_info(self.root.public_task(self.task)).settings
        return not settings.get("log_likelihoods", True)

    def wants(self, name: str) -> bool:
        return not self.only or name in self.only

    def files(self, name: str, way: Way) -> dict[str, str]:
        if self.states_alone:
            return state_attacks.files_of(name, self.notes, texts=way == "open")
        if name == TOLD:
            flips = self.told_flips(way)
            return files_of("climbed", {"flips": {"text": flips, "norm": flips}}, way == "open")
        if name in CHEATS or name.endswith(HONESTLY):
            return files_of(name, self.notes, texts=way == "open")
        files = named_files(name)
        source = files["method.py"].replace(OPEN, "")
        return files | {"method.py": (OPEN if way == "open" else "") + source}

    def told_flips(self, way: Way) -> list[int]:
        """What TRIES requests would find if each were answered with the exact selection score.

        They are taken to meet the same seeds as the runs here, which makes this an upper bound.
        """
        vanilla, told = self.run(VANILLA, way), labels_of(self.root, self.task, "selection")
        held = held_for(self.root, self.task, "selection", "secret")[0]
        place = {name: at for at, name in enumerate(vanilla.ids)}
        order = [place[row.id] for row in held.rows]
        answers_SN = np.array([run.probs for run in vanilla.runs])[:, order] > 0.5
        labels_N = np.array([told[row.id] for row in held.rows])
        if way == "open":
            buckets = [zlib.crc32((r.prompt + r.answers[0]).encode()) % TRIES for r in held.rows]
        else:
            layer = student_settings(held.info).layer
            states_ND, train_ND = (
                held.features.states(rows, layer)[:, 0] for rows in (held.rows, held.train)
            )
            centre_D, white_DK = whitening(train_ND)
            norms_N = np.linalg.norm((states_ND - centre_D) @ white_DK, axis=1)
            buckets = ((norms_N * 100).astype(int) % TRIES).tolist()
        gain_N = (answers_SN != labels_N).mean(axis=0) - (answers_SN == labels_N).mean(axis=0)
        return [int(gain > 0) for gain in np.bincount(buckets, gain_N, TRIES)]

    def run(self, name: str, way: Way, ablation: Ablation = "none") -> VerificationResult:
        """The verifier's result, from an earlier call where there is one."""
        path = self.kept / f"{self.task}-{name}-{way}-{ablation}-{self.seeds}.json"
        if path.is_file():
            kept = VerificationResult.model_validate_json(path.read_bytes())
            if kept.evidence is None or kept.error:
                return kept
            differ = disagreement([run.probs for run in kept.runs])
            evidence = kept.evidence.model_copy(update={"disagreement": differ})
            return kept.model_copy(update={"evidence": evidence})
        result = self.fresh(name, way, ablation)
        path.write_text(result.model_dump_json(), encoding="utf-8")
        print(f"{name} {way} {ablation}: {result.seconds:.0f} s {result.error[:100]}", flush=True)
        return result

    def fresh(self, name: str, way: Way, ablation: Ablation = "none") -> VerificationResult:
        wanted = self.wanted(name, ablation)
        with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
            os.chmod(place, 0o711)
            verifier = Verifier(
                RunDir(Path(place)), self.root, "bubblewrap", 0, at_once=2, basis=BASES[way]
            )
            return verifier.rerun(wanted, content(self.files(name, way)))

    def wanted(self, name: str, ablation: Ablation) -> Verification:
        return Verification(
            id=ids.new_id("ver"),
            snapshot=name,
            aar="bench",
            method=name,
            task=self.task,
            split="selection",
            ablation=ablation,
            run_seeds=list(range(FIRST_SEED, FIRST_SEED + self.seeds)),
            state="queued",
        )

    def estimate(self, result: VerificationResult) -> Interval | None:
        if result.error:
            return None
        return self.scorer.estimate(self.task, "selection", predicted(result))

    def difference(self, new: VerificationResult, old: VerificationResult) -> Interval | None:
        if new.error or old.error:
            return None
        return self.scorer.difference(self.task, "selection", predicted(new), predicted(old))

    def flags(self, name: str, way: Way) -> tuple[str, ...]:
        """Findings that are suspect."""
        plain = self.run(name, way)
        # On math, blind, honest methods are not ablated.
        ablated = way == "open" or name in CHEATS or self.states_alone
        permuted = self.run(name, way, "permuted") if ablated else None
        files = {path: text.encode() for path, text in self.files(name, way).items()}
        tried = own._Tried(
            FrozenMethod(name, files),
            self.settled(name, plain, "none"),
            permuted=permuted and self.settled(name, permuted, "permuted"),
        )
        lines = own._judged(tried)[1]
        return tuple(line for line in lines if ", suspect" in line)

    def settled(self, name: str, result: VerificationResult, kind: Ablation) -> Verification:
        known: Facts = {
            "seconds": result.seconds,
            "evidence": result.evidence,
            "delivery": result.delivery,
            "train_rows": result.train_rows,
            "error": result.error,
            "state": "failed" if result.error else "done",
            "estimate": self.estimate(result),
        }
        return self.wanted(name, kind).model_copy(update=known)


def public_labels(root: DataRoot, task: str) -> dict[str, int]:
    """Labels of the public rows: what an AAR could tell by reading them."""
    return labels_of(root, task, "train") | labels_of(root, task, "search")


def labels_of(root: DataRoot, task: str, split: str) -> dict[str, int]:
    path = root.vault_task(task) / "truth" / f"{split}.jsonl"
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {row["id"]: row["label"] for row in rows if "label" in row}


def content(files: dict[str, str]) -> SnapshotContent:
    made = [
        SnapshotFile(path=path, content_b64=base64.b64encode(text.encode()).decode())
        for path, text in files.items()
    ]
    size = sum(map(len, files.values()))
    about = {"id": "bench", "aar": "bench", "name": "bench", "message": "", "parent": None}
    snapshot = Snapshot(**about, at="", n_files=len(made), n_bytes=size)
    return SnapshotContent(snapshot=snapshot, files=made)


def predicted(result: VerificationResult) -> Predictions:
    return Predictions(result.ids, result.runs)


def main() -> None:
    given = _arguments()
    only = given.only.split(",") if given.only else ()
    ways = ("blind",) if given.blind_alone else ("blind", "open")
    arena = Arena(data_root(), given.task, given.seeds, given.kept, only, ways)
    out = given.out.with_suffix(".json")
    found: Facts = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    parts: dict[str, Callable[[Arena, Facts], None]] = {
        "cheats": cheats,
        "honest_parts": honest_parts,
        "feedback": feedback,
        "honest": honest,
        "same": same,
        "basis": basis,
        "attacks": attacks,
    }
    chosen = given.parts or ("attacks" if arena.states_alone else PARTS)
    for part in chosen.split(","):
        try:
            parts[part](arena, found)
        finally:  # Ctrl-C keeps what is there
            found["made"] = _made(given)
            out.write_text(json.dumps(found) + "\n", encoding="utf-8")
            text = attacks_page(found) if "attacks" in found else page(found)
            given.out.write_text(text, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default=MATH, help="a built task")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--parts", help=f"default: {PARTS}; without log-likelihoods: attacks")
    parser.add_argument("--kept", type=Path, default=Path("/var/tmp/aarlab-blind"))
    parser.add_argument("--only", help="methods, with commas; default: all of a part")
    parser.add_argument("--blind-alone", action="store_true", help="no open runs, no audits")
    parser.add_argument("--out", type=Path, help="default: blind_TASK.md beside this file")
    given = parser.parse_args()
    given.out = given.out or HERE / f"blind_{given.task}.md"
    return given


def _made(given: argparse.Namespace) -> str:
    now = datetime.now(UTC).date().isoformat()
    return f"{now}, {os.cpu_count()} cores {platform.machine()}, {given.seeds} seeds"


# ---------------------------------------------------------------- what is measured
def cheats(arena: Arena, found: Facts) -> None:
    for name in filter(arena.wants, CHEATS):
        cell: Facts = {"kind": CHEATS[name][0]}
        cell |= _of_ways(arena, name)
        found.setdefault("cheats", {})[name] = cell


def _of_ways(arena: Arena, name: str) -> Facts:
    cells: Facts = {}
    for way in arena.ways:
        result = arena.run(name, way)
        cells[way] = _scored(arena, result, arena.run(VANILLA, way))
        if not result.error and "open" in arena.ways:
            cells[way]["flags"] = [flag[:200] for flag in arena.flags(name, way)]
    return cells


def honest_parts(arena: Arena, found: Facts) -> None:
    """Run what is left of cheats without what they ship or read, and cheats against it, blind."""
    for name in filter(arena.wants, HONEST_PARTS):
        cheat, left = arena.run(name, "blind"), arena.run(name + HONESTLY, "blind")
        found.setdefault("honest_parts", {})[name] = {
            "cheat": _scored(arena, cheat, left, "less_honest_part"),
            "honest_part": _scored(arena, left, arena.run(VANILLA, "blind")),
        }


def feedback(arena: Arena, found: Facts) -> None:
    """The climber again, as if each of its requests had been answered with the exact score."""
    cell: Facts = {}
    for way in ("blind", "open"):
        cell[way] = _scored(arena, arena.run(TOLD, way), arena.run(VANILLA, way))
    found["feedback"] = cell


def honest(arena: Arena, found: Facts) -> None:
    for name in filter(arena.wants, _names()):
        found.setdefault("honest", {})[name] = _of_ways(arena, name)


def same(arena: Arena, found: Facts) -> None:
    """Blind in the basis in which states are stored, against open: the same to the bit?"""
    arena = replace(arena, seeds=SAME_SEEDS)
    for name in filter(arena.wants, _names()):
        plain, texts = arena.run(name, "plain"), arena.run(name, "open")
        cell: Facts = {"error": plain.error[:300] or texts.error[:300]}
        if not cell["error"]:
            probs = [
                np.array([run.probs for run in result.runs])[:, np.argsort(result.ids)]
                for result in (plain, texts)
            ]
            cell["same"] = bool(np.array_equal(*probs))
            cell["most"] = float(np.abs(probs[0] - probs[1]).max())
            cell["answers"] = float(((probs[0] > 0.5) != (probs[1] > 0.5)).mean())
        found.setdefault("same", {})[name] = cell


def basis(arena: Arena, found: Facts) -> None:
    """What states in a secret basis cost an honest method: all else is the same blind and open."""
    for name in filter(arena.wants, _names()):
        blind, texts = arena.run(name, "blind"), arena.run(name, "open")
        found.setdefault("basis", {})[name] = _span(arena.difference(blind, texts))


def attacks(arena: Arena, found: Facts) -> None:
    """Run attacks on states alone, and honest methods; all but slow ones also ablated and open."""
    names = {name: "honest" for name in state_attacks.HONEST}
    names |= {name: "attack" for name in state_attacks.ATTACKS if name not in state_attacks.SLOW}
    names |= {name: "older cheat" for name in state_attacks.OLDER}
    names |= {name: "attack" for name in state_attacks.SLOW}
    for name, kind in names.items():
        if not arena.wants(name):
            continue
        beside = state_attacks.honest_part(name) if kind == "attack" else VANILLA
        cell: Facts = {"kind": kind}
        slow = name in state_attacks.SLOW
        for way in ("blind",) if slow else ("blind", "open"):
            result = arena.run(name, way)
            cell[way] = _scored(arena, result, arena.run(beside, way), "less_honest_part")
        if not slow and "failed" not in cell["blind"]:
            cell["permuted"] = _span(arena.estimate(arena.run(name, "blind", "permuted")))
            cell["flags"] = [flag[:200] for flag in arena.flags(name, "blind")]
        files = arena.files(name, "blind")
        carried = contents({path: text.encode() for path, text in files.items()})
        cell["ships"] = carried._asdict()
        found.setdefault("attacks", {})[name] = cell


def _names() -> Iterator[str]:
    """Built-in methods that need no model at hand, without guards."""
    for name, method in METHODS.items():
        if not method.needs_model and not method.guard:
            yield name


def _scored(
    arena: Arena,
    result: VerificationResult,
    beside: VerificationResult,
    called: str = "less_vanilla",
) -> Facts:
    if result.error:
        return {"failed": result.error.splitlines()[0][:120]}
    return {
        "pgr": _span(arena.estimate(result)),
        called: _span(arena.difference(result, beside)),
        "apart": why_apart(result),
    }


def _span(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.value, interval.low, interval.high]


# ---------------------------------------------------------------- the page
def page(found: Facts) -> str:
    head = (
        f"# Blind runs\n\n{found['made']}. The embedded math task, hidden train rows, selection "
        "split; the real verifier in its sandboxes. PGR with its 95 % interval; the difference to "
        "the plain student is paired (same rows, seeds, teachers). Cheats: "
        "`tests/kit/new_cheats.py`. Made by `benchmarks/blind.py`.\n"
    )
    parts = [
        ("cheats", _cheats),
        ("honest_parts", _honest_parts),
        ("honest", _honest),
        ("same", _same),
    ]
    made = [make(found) for name, make in parts if name in found]
    return "\n".join([head, *made])


def attacks_page(found: Facts) -> str:
    """The table of attacks on states alone."""
    lines = [
        f"{found['made']}.\n",
        "| method | kind | blind | less its honest part | permuted | open | packed | compressed "
        "| ranks | flags |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, cell in found["attacks"].items():
        ships = cell["ships"]
        cells = (
            name,
            cell["kind"],
            _pgr(cell, "blind"),
            _text(cell["blind"].get("less_honest_part")),
            _text(cell.get("permuted")),
            _pgr(cell, "open"),
            f"{ships['packed']:,}",
            f"{ships['compressed']:,}",
            _ranks(cell["blind"]),
            _kinds(cell) if "flags" in cell else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _pgr(cell: Facts, way: Way) -> str:
    return cell.get(way, {}).get("failed") or _text(cell.get(way, {}).get("pgr"))


def _cheats(found: Facts) -> str:
    cells = found["cheats"]
    above = [n for n, c in cells.items() if (c["blind"].get("less_vanilla") or [0, 0])[1] > 0]
    flagged = [n for n, c in cells.items() if c.get("open", {}).get("flags")]
    blind = [n for n, c in cells.items() if c["blind"].get("flags")]
    clean = [n for n, c in found.get("honest", {}).items() if c.get("open", {}).get("pgr")]
    wrong = [n for n in clean if found["honest"][n]["open"].get("flags")]
    lines = [
        "## Cheats\n",
        f"Above the plain student by more than the interval when blind: "
        f"**{', '.join(above) or 'none'}**; of these without a person's verdict: "
        f"**{', '.join(n for n in above if not cells[n]['blind']['apart']) or 'none'}**.",
        f"Flagged as suspect: {len(flagged)} of {len(cells)} open, {len(blind)} blind; "
        f"{len(wrong)} of {len(clean)} honest methods open ({', '.join(wrong) or 'none'}).\n",
        "| cheat | kind | blind | less plain student | ranks | open | less plain student | "
        "flagged open by | blind by |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, cell in cells.items():
        blind, texts = (
            f"{_pgr(cell, way)} | {_text(cell.get(way, {}).get('less_vanilla'))}"
            for way in ("blind", "open")
        )
        figures = f"{blind} | {_ranks(cell['blind'])} | {texts}"
        flags = " | ".join(_kinds(cell.get(way, {})) for way in ("open", "blind"))
        lines.append(f"| {name} | {cell['kind']} | {figures} | {flags} |")
    if "feedback" in found:
        told = " and ".join(
            f"{_text(found['feedback'][way].get('less_vanilla'))} {way}"
            for way in ("blind", "open")
        )
        lines.append(
            "\nA climber told its exact scores on the selection split would differ from the "
            f"plain student by {told}: a row can be known again by the norm of its state, in any "
            "basis. Against this only silence helps: AARs learn no figure of a verified run.\n"
        )
    return "\n".join(lines) + "\n"


def _honest_parts(found: Facts) -> str:
    lines = [
        "## Cheats and their honest parts, blind\n",
        "| cheat | PGR | its honest part | honest part less plain student "
        "| cheat less honest part |",
        "|---|---|---|---|---|",
    ]
    for name, cell in found["honest_parts"].items():
        cheat, left = cell["cheat"], cell["honest_part"]
        figures = (cheat["pgr"], left["pgr"], left["less_vanilla"], cheat["less_honest_part"])
        lines.append(f"| {name} | {' | '.join(map(_text, figures))} |")
    return "\n".join(lines) + "\n"


def _honest(found: Facts) -> str:
    lines = [
        "## Built-in methods\n\nThe last column is what whitened states in a secret basis change. "
        "Blind, methods were not run with permuted labels here: the ablation flags none of them.\n",
        "| method | blind | less plain student | open | flagged blind | flagged open | "
        "blind less open |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cell in found["honest"].items():
        blind, texts = cell["blind"], cell.get("open", {})
        lines.append(
            f"| {name} | {blind.get('failed') or _text(blind.get('pgr'))} | "
            f"{_text(blind.get('less_vanilla'))} | {texts.get('failed') or _text(texts.get('pgr'))}"
            f" | {_kinds(blind)} | {_kinds(texts)} | {_text(found.get('basis', {}).get(name))} |"
        )
    return "\n".join(lines) + "\n"


def _same(found: Facts) -> str:
    cells = found["same"]
    same_ones = [name for name, cell in cells.items() if cell.get("same")]
    lines = [
        f"## Blind against open\n\n{len(same_ones)} of {len(cells)} built-in methods give the same "
        f"predictions to the bit with {SAME_SEEDS} seeds, blind (in the basis in which states are "
        "stored) and open. The others:\n",
        "| method | largest difference of P(label 1) | answers that differ | says |",
        "|---|---|---|---|",
    ]
    for name, cell in cells.items():
        if not cell.get("same"):
            said = cell["error"].splitlines()[0][:150] if cell["error"] else ""
            numbers = [f"{cell[k]:.1g}" if k in cell else "" for k in ("most", "answers")]
            lines.append(f"| {name} | {numbers[0]} | {numbers[1]} | {said} |")
    return "\n".join(lines) + "\n"


def _ranks(cell: Facts) -> str:
    return f"after a verdict: {cell['apart']}" if cell.get("apart") else "yes"


def why_apart(result: VerificationResult) -> str:
    """Say in a few words why a blind method has no rank before a person's verdict."""
    return ", ".join(filter(None, ("ships data" * bool(result.ships), result.asked)))


def _kinds(cell: Facts) -> str:
    return ", ".join(sorted({flag.split(",")[0] for flag in cell.get("flags", [])})) or "-"


def _text(span: list[float] | None) -> str:
    return "" if span is None else f"{span[0]:+.2f} [{span[1]:+.2f}, {span[2]:+.2f}]"


if __name__ == "__main__":
    main()
