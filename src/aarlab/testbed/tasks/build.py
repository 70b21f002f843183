"""Build a task: write two roots in a temporary folder and move both into place, or neither.

Covered: new content under a known name becomes a new version and leaves the other versions as they
are. An interrupted build leaves the task unchanged, or absent if it is new. An intact version with
the same rows and options is reused. Changed or missing files are built again.
Not covered: two machines that build into one folder without a shared lock.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aarlab.core.errors import BadInput
from aarlab.core.hashing import content_hash, sha256_hex
from aarlab.core.ids import checked_name
from aarlab.core.layout import DataRoot
from aarlab.core.problem import WEAK_TO_STRONG
from aarlab.core.types import ALL_SPLITS, NEEDED_SPLITS, Example, Split
from aarlab.core.wire import TaskInfo
from aarlab.testbed.models.answers import student_items
from aarlab.testbed.models.cache import item_key
from aarlab.testbed.models.token_states import lower_arrays
from aarlab.testbed.students.baselines import (
    Kept,
    Progress,
    Sources,
    Trained,
    check_gap,
    gaps,
    train_baselines,
    without_teachers,
)
from aarlab.testbed.students.features import Arrays, feature_arrays
from aarlab.testbed.tasks.data import HIDDEN_LEAST, LabelledSplit, TaskData, check_disjoint
from aarlab.testbed.tasks.datasets.card import data_card
from aarlab.testbed.tasks.options import BuildOptions
from aarlab.testbed.tasks.readers import reference
from aarlab.testbed.tasks.removing import task_locked
from aarlab.testbed.tasks.task import HIDDEN_TRAIN, WeakLabels, input_row, load_info
from aarlab.testbed.tasks.task_files import (
    COLUMNS,
    SplitArrays,
    VaultWriter,
    column_lines,
    files_under,
    task_info,
    without_seeds,
    write_public,
    write_twins,
    write_vault,
)
from aarlab.testbed.tasks.twins import TwinReference, draw_twins

FORMAT = 1  # raise it when built files change their meaning
RECORD = "build.json"
SEALS = "seals.json"
MAX_LOWER_BYTES = 400 * 2**20  # of a split: what a sandbox takes as one file


class Built(NamedTuple):
    """A built version of a task. `from_cache` is true where it already existed, unchanged.

    `before` is the previous default version of the task's name. It is None where that was this
    version, or where there was none.
    """

    info: TaskInfo
    from_cache: bool
    version: str
    before: str | None = None


class _Training(NamedTuple):
    """What trains a task's baselines; `kept` holds those that an interrupted build trained."""

    sources: Sources
    progress: Progress
    kept: Kept | None
    threads: int


def build_task(
    data: TaskData,
    options: BuildOptions,
    root: DataRoot,
    sources: Sources,
    progress: Progress = lambda step: None,
    threads: int = 1,
) -> Built:
    """Write the public and vault sides of a version of the task, or reuse an intact version.

    The version becomes the default of the task's name. Heads of `threads` seeds are trained at a
    time.

    Raises BadInput on rows that break the rules, GapNotPositive before anything is published,
    Conflict while another process builds the task, OSError (disk full) leaving nothing behind.
    """
    checked_name(data.name, "task")
    _check(data)
    data = draw_twins(data, options.twins, options.seed)
    settings_hash = _settings_hash(data, options)
    root = replace(root, pinned=None)
    root.path.mkdir(parents=True, exist_ok=True)
    with task_locked(root, data.name):
        before = [one.version for one in root.versions(data.name) if one.is_default]
        place = _intact(root, data, options)
        if from_cache := place is not None:
            progress("served from the cache: same rows, same options, files intact")
        else:
            kept = Kept(root.path / "private" / "builds" / settings_hash[:16])
            with _building(root, data.name) as folder:
                # A head takes 0.1 s per seed: not worth keeping.
                adapted = options.adapter or options.teacher.adapter
                training = _Training(sources, progress, kept if adapted else None, threads)
                rows = _shuffled(data, options.seed)
                version = _write(folder, rows, options, settings_hash, training)
                place = _repaired(root, data, options) or f"{data.name}@{version}"
                _publish(folder, root, place)
            shutil.rmtree(kept.folder, ignore_errors=True)
        (made,) = (one for one in root.versions(data.name) if one.folder == place)
        if not made.is_default or ("@" in place and not root.default_file(data.name).exists()):
            root.set_default(data.name, made.version)
    other = before[0] if before and before[0] != made.version else None
    return Built(load_info(root.public / made.folder), from_cache, made.version, other)


def _write(
    folder: Path,
    data: TaskData,
    options: BuildOptions,
    settings_hash: str,
    training: _Training,
) -> str:
    """Write both sides below `folder` and return the version."""
    sources, progress, kept, threads = training
    if data.problem.weak_labels:
        trained = train_baselines(data, options, sources, progress, kept, threads)
    else:
        trained = without_teachers(data)
    found = gaps(data, trained.baselines)
    if options.require_gap:
        check_gap(data.name, found)
    progress("features")
    features = _features(data, options, sources)
    public, vault = folder / "public", VaultWriter(folder / "vault")
    lower = _lower_states(data, options, sources)
    info = task_info(data, options, trained, all(one.clear for one in found.values()))
    write_public(public, data, info, trained, features, lower)
    write_vault(vault, data, trained, features, lower)
    if trained.twins is not None:
        known = reference(data, info, trained, sources.strong, options.zero_shot)
        _write_twins(vault, data, options, sources, known)
    vault.lines("card.md", data_card(data))
    if data.columns:
        vault.lines(COLUMNS, column_lines(data.columns))
    twins = {"how": data.twins.how, "rows": len(data.twins.rows)}
    record = {"settings_hash": settings_hash, "facts": trained.facts, "task": data.settings}
    record |= {"twins": twins, "gap": {split: one.said() for split, one in found.items()}}
    record |= {"version": (version := _version(data, info, trained))}
    vault.json(RECORD, {**record, "options": options.model_dump(mode="json")})
    seals = {side: _seals(folder / side) for side in ("public", "vault")}
    vault.json(SEALS, {"files": seals})
    vault.close()
    return version


def _version(data: TaskData, info: TaskInfo, trained: Trained) -> str:
    """Return the hash of everything that a score on this task depends on.

    What `certify` adds later is not included. The hash is part of a public folder's name. It
    reveals no label, because it covers thousands of hidden rows, weak labels and baselines.
    """
    hidden = {
        name: [[input_row(e), int(t)] for e, t in zip(s.examples, s.targets_N, strict=True)]
        for name, s in sorted(data.splits.items())
    }
    baselines = {
        f"{split}-{name}": sha256_hex(np.ascontiguousarray(probs_SN, "<f8").tobytes())
        for split, one in sorted(trained.baselines.items())
        if split in ("search", "selection")
        for name, probs_SN in (("weak", one.weak_SN), ("ceiling", one.ceiling_SN))
    }
    spread: dict[str, Any] = {
        f"{split}-plain": [one.variance, one.n_seeds]
        for split, one in sorted(trained.spread.items())
        if split in ("search", "selection")
    }
    fresh = trained.fresh_labels
    labels: list[Any] = [list(fresh.seeds), _hashed(fresh)]
    twins = [input_row(twin) for twin in data.twins.rows]
    facts = info.model_dump(mode="json")
    if trained.hidden_labels is None:  # as in tasks that were built before there were any
        del facts["settings"][HIDDEN_TRAIN]
    else:
        labels.append(_hashed(trained.hidden_labels))
    return content_hash([FORMAT, facts, hidden, twins, labels, baselines | spread])[:12]


def _hashed(labels: WeakLabels) -> str:
    return sha256_hex(np.ascontiguousarray(labels.probs_SN, "<f4").tobytes())


def _write_twins(
    vault: VaultWriter,
    data: TaskData,
    options: BuildOptions,
    sources: Sources,
    known: TwinReference,
) -> None:
    """Write the twins, their features, and how far honest readers follow their style."""
    twins = data.twins.rows
    features = feature_arrays(sources.strong, twins, options.student_layers, options.zero_shot)
    write_twins(vault, twins, features, _lower_of(twins, options, sources), known)


def _lower_states(data: TaskData, options: BuildOptions, sources: Sources) -> SplitArrays:
    wanted = (*data.train_splits, *options.eval_splits)
    made = {s: _lower_of(data.splits[s].examples, options, sources) for s in wanted}
    return {split: arrays for split, arrays in made.items() if arrays is not None}


def _lower_of(
    examples: Sequence[Example], options: BuildOptions, sources: Sources
) -> Arrays | None:
    """Return lower states for students that train the blocks above them.

    Returns None where they are too large for a sandbox. The sandbox then computes them itself.
    """
    first = options.adapter.lowest(options.strong_layer) if options.adapter else 0
    if first == 0:
        return None
    assert options.adapter is not None
    items = student_items(examples, options.adapter)
    keys = [item_key(item).hex() for item in items]
    rows = sources.strong.lower_rows(items, first)  # type: ignore[attr-defined]
    unique = dict(zip(keys, rows, strict=True))
    if sum(row.bits_TD.nbytes for row in unique.values()) > MAX_LOWER_BYTES:
        return None
    return lower_arrays(unique, first)


def _features(data: TaskData, options: BuildOptions, sources: Sources) -> SplitArrays:
    wanted = (*data.train_splits, *options.eval_splits)
    return {
        split: feature_arrays(
            sources.strong, data.splits[split].examples, options.student_layers, options.zero_shot
        )
        for split in wanted
    }


def _check(data: TaskData) -> None:
    needed = [s for s in NEEDED_SPLITS if s != "teacher" or data.problem.weak_labels]
    missing = [split for split in needed if split not in data.splits]
    if missing:
        raise BadInput(f"task {data.name}: no rows for split {', '.join(missing)}")
    check_disjoint(data.splits)
    for name, split in data.splits.items():
        wrong = [e.id for e in split.examples if e.kind != data.kind]
        if wrong:
            raise BadInput(f"task {data.name}: row {wrong[0]!r} of {name} is not a {data.kind} row")
        if split.targets_N.shape != (len(split.examples),):
            raise BadInput(f"task {data.name}: {name} has not one target per row")
        if set(np.unique(split.targets_N).tolist()) != {0, 1}:
            raise BadInput(f"task {data.name}: {name} needs rows of both labels, 0 and 1")
    hidden = data.splits.get("train_hidden")
    if hidden is not None and len(hidden.examples) < HIDDEN_LEAST:
        raise BadInput(
            f"task {data.name}: {len(hidden.examples)} hidden train rows, {HIDDEN_LEAST} are "
            "needed: add rows, or import with --no-train-hidden"
        )


def _shuffled(data: TaskData, seed: int) -> TaskData:
    """Return the rows in random order: a generator may have put the right answer first."""
    splits: dict[Split, LabelledSplit] = {}
    for split in data.names:
        rows, number = data.splits[split], ALL_SPLITS.index(split)
        order = np.random.default_rng([seed, number]).permutation(len(rows.examples))
        splits[split] = LabelledSplit(
            tuple(rows.examples[i] for i in order), rows.targets_N[order].astype(np.int8)
        )
    return replace(data, splits=splits)


def _settings_hash(data: TaskData, options: BuildOptions) -> str:
    rows: dict[str, Any] = {
        name: [[input_row(e), int(t)] for e, t in zip(s.examples, s.targets_N, strict=True)]
        for name, s in sorted(data.splits.items())
    }
    if data.problem != WEAK_TO_STRONG:
        rows["problem"] = data.problem.model_dump(mode="json")
    if data.columns:
        rows["columns"] = data.columns
    if data.twins.rows:
        rows["twins"] = [data.twins.how, [input_row(twin) for twin in data.twins.rows]]
    facts = [data.name, data.kind, data.title, data.description, without_seeds(data.settings)]
    chosen = options.model_dump(mode="json", exclude={"twins"})  # which are among the rows
    if options.log_likelihoods == "all":  # as in tasks that were built before there was a choice
        del chosen["log_likelihoods"]
    if options.teacher.skim is None:
        del chosen["teacher"]["skim"]
    chosen["require_gap"] = True  # decides whether a task is built, not what is in it
    if options.log_likelihoods != "sample":
        del chosen["log_likelihood_rows"]
    if options.plain_seeds == BuildOptions.model_fields["plain_seeds"].default:
        del chosen["plain_seeds"]  # tasks that were built before are served without their spread
    return content_hash([FORMAT, facts, rows, chosen])


def _seals(folder: Path) -> dict[str, str]:
    skipped = {"canaries.json", SEALS}
    return {
        name: sha256_hex((folder / name).read_bytes())
        for name in files_under(folder)
        if name not in skipped
    }


def _intact(root: DataRoot, data: TaskData, options: BuildOptions) -> str | None:
    """Return the folder name of an intact version with these rows and options, or None.

    A version that was built with `certify` in addition also counts.
    """
    wanted = {_settings_hash(data, options), _settings_hash(data, _certified(options, True))}
    for one in root.versions(data.name):
        public, vault = root.public / one.folder, root.vault / one.folder
        try:
            seals = json.loads((vault / SEALS).read_text(encoding="utf-8"))["files"]
            if _recorded(vault) in wanted and seals == {
                "public": _seals(public),
                "vault": _seals(vault),
            }:
                return one.folder
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged or partly removed: build it again
    return None


def _repaired(root: DataRoot, data: TaskData, options: BuildOptions) -> str | None:
    """Return the folder without a version in its name, if it has the same rows and options.

    Options may differ in `certify`. The folder is then repaired, or gets what `certify` adds, and
    campaigns that use it continue with it. Returns None otherwise.
    """
    same = {_settings_hash(data, _certified(options, certify)) for certify in (True, False)}
    there = (root.public / data.name).is_dir()
    return data.name if there and _recorded(root.vault / data.name) in same else None


def _recorded(vault: Path) -> str | None:
    """Return the hash of the rows and options of a version, or None where it is damaged."""
    try:
        return str(json.loads((vault / RECORD).read_text(encoding="utf-8"))["settings_hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _certified(options: BuildOptions, certify: bool) -> BuildOptions:
    return options.model_copy(update={"certify": certify})


@contextmanager
def _building(root: DataRoot, name: str) -> Iterator[Path]:
    """Yield a closed folder on the same file system, and remove it at the end.

    Leftovers of a crash are removed first.
    """
    prefix = f".building-{name}-"
    for stale in root.path.glob(f"{prefix}*"):
        shutil.rmtree(stale)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root.path))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, root: DataRoot, place: str) -> None:
    """Move the old public side out first and the new one in last.

    A version with a public side is therefore always complete.
    """
    root.public.mkdir(exist_ok=True)
    root.vault.mkdir(mode=0o700, exist_ok=True)
    root.vault.chmod(0o700)
    for side, old in (("public", root.public / place), ("vault", root.vault / place)):
        if old.exists():
            old.rename(folder / f"old-{side}")
    (folder / "vault").rename(root.vault / place)
    (folder / "public").rename(root.public / place)
