"""The files under the vault root: the only reader of hidden labels.

Legend: S seeds, N rows (in the order of the truth file).

Covered: loose file modes, symbolic links, foreign owners, truth and baselines that do not fit each
other; labels in a repr, a pickle or an exception (messages name files, lines and row ids).
Not covered: a reader of this process's memory; the operating system's superuser.
"""

import json
import os
import stat
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from aarlab.core.errors import BadInput, BaselineMissing, Damaged, Forbidden, NotFound
from aarlab.core.layout import DataRoot
from aarlab.core.pgr import SeedSpread
from aarlab.core.problem import ProblemFacts
from aarlab.core.types import EVAL_SPLITS, Split
from aarlab.core.wire import TaskInfo
from aarlab.problems.base import Bools, Sealed
from aarlab.problems.weak_to_strong.scoring import Baselines, LabelFree, answers


@dataclass(repr=False, eq=False)
class Truth(Sealed):
    """Hidden targets of one split with each row's id and group (problem)."""

    ids_N: tuple[str, ...]
    groups_N: tuple[str, ...]
    targets_N: Bools
    row_of: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.row_of = {row_id: row for row, row_id in enumerate(self.ids_N)}


class Vault(Sealed):
    """Reads splits on first use and keeps them. Refuses a vault that others could read."""

    def __init__(self, data: DataRoot) -> None:
        check_closed(data.vault)
        self._data = data
        self._truth: dict[tuple[str, Split], Truth] = {}
        self._baselines: dict[tuple[str, Split], Baselines] = {}
        self._problems: dict[str, ProblemFacts] = {}

    def tasks(self) -> list[str]:
        """List the names of tasks; for a campaign's data root, only those of the campaign."""
        folders = (path.name for path in self._data.vault.iterdir() if path.is_dir())
        names = sorted({name.partition("@")[0] for name in folders})
        pinned = self._data.pinned
        return [name for name in names if name in pinned] if pinned else names

    def truth(self, task: str, split: Split) -> Truth:
        """Return the truth of a split.

        Raises NotFound for an unknown task or split, Damaged for files that cannot be used.
        """
        known = self._truth.get((task, split))
        if known is None:
            known = self._truth[task, split] = self._load_truth(task, split)
        return known

    def problem(self, task: str) -> ProblemFacts:
        """Return the research problem that the task was built for, from its public description.

        Raises NotFound for an unknown task, Damaged for a description that cannot be read.
        """
        if task not in self._problems:
            self._folder(task)
            path = self._data.public_task(task) / "task.json"
            try:
                info = TaskInfo.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                raise Damaged(f"{path} cannot be read; {_rebuild(task)}") from None
            self._problems[task] = info.problem
        return self._problems[task]

    def baselines(self, task: str, split: Split) -> Baselines:
        """Return how weak teacher and ceiling did on a split.

        Raises BaselineMissing for a task whose problem has neither.
        """
        if not (facts := self.problem(task)).weak_labels:
            raise BaselineMissing(f"{task}: {facts.title} has no weak teacher and no ceiling")
        known = self._baselines.get((task, split))
        if known is None:
            known = self._baselines[task, split] = self._load_baselines(task, split)
        return known

    def _folder(self, task: str) -> Path:
        if task not in self.tasks():
            raise NotFound(f"task {task!r} is not in the vault; it has: {', '.join(self.tasks())}")
        folder = self._data.vault_task(task)
        if not folder.is_dir():
            raise NotFound(self._data.missing(task))
        return folder

    def _load_truth(self, task: str, split: Split) -> Truth:
        folder = self._folder(task)
        if split not in EVAL_SPLITS:
            raise BadInput(f"split {split!r} is not scored; use one of {', '.join(EVAL_SPLITS)}")
        path = _closed(folder / "truth" / f"{split}.jsonl")
        targets: dict[str, bool] = {}
        for number, row in _json_lines(path):
            label, row_id = row.get("label"), row.get("id")
            if type(label) is not int or label not in (0, 1) or not isinstance(row_id, str):
                raise Damaged(
                    f"{path}: line {number}: expected an id and a label; {_rebuild(task)}"
                )
            if row_id in targets:
                raise Damaged(f"{path}: line {number}: id {row_id!r} twice; {_rebuild(task)}")
            targets[row_id] = bool(label)
        if not targets:
            raise Damaged(f"{path}: no rows; {_rebuild(task)}")
        groups = self._groups(task, split)
        if groups.keys() != targets.keys():
            raise Damaged(f"{path}: its ids differ from the inputs of {split}; {_rebuild(task)}")
        ids_N = tuple(targets)
        return Truth(
            ids_N, tuple(groups[i] for i in ids_N), np.fromiter(targets.values(), np.bool_)
        )

    def _groups(self, task: str, split: Split) -> dict[str, str]:
        if split == "search":
            path = self._data.public_task(task) / "inputs" / "search.jsonl"
        else:
            path = _closed(self._folder(task) / "inputs" / f"{split}.jsonl")
        groups: dict[str, str] = {}
        for number, row in _json_lines(path):
            row_id, group = row.get("id"), row.get("group")
            if not (isinstance(row_id, str) and isinstance(group, str)):
                raise Damaged(f"{path}: line {number}: no id or no group; {_rebuild(task)}")
            groups[row_id] = group
        return groups

    def _load_baselines(self, task: str, split: Split) -> Baselines:
        truth, path = self.truth(task, split), self._folder(task) / "baselines.npz"
        try:
            with (
                _closed(path, missing=BaselineMissing).open("rb") as raw,
                np.load(raw, allow_pickle=False) as arrays,
            ):
                found = {name: arrays[name] for name in arrays.files if name.endswith(f"_{split}")}
        except (OSError, ValueError, zipfile.BadZipFile, EOFError):
            raise Damaged(f"{path}: not a readable .npz file; {_rebuild(task)}") from None
        missing = [
            n for n in (f"ids_{split}", f"weak_{split}", f"ceiling_{split}") if n not in found
        ]
        if missing:
            raise BaselineMissing(f"{path}: no {', '.join(missing)}; {_rebuild(task)}")
        ids = [str(row_id) for row_id in found[f"ids_{split}"].tolist()]
        if len(set(ids)) != len(ids) or set(ids) != set(truth.ids_N):
            raise Damaged(f"{path}: ids_{split} differ from the truth of {split}; {_rebuild(task)}")
        position = {row_id: at for at, row_id in enumerate(ids)}
        order_N = np.array([position[row_id] for row_id in truth.ids_N])
        arms = []
        for name in ("weak", "ceiling"):
            probs_SN = found[f"{name}_{split}"]
            if (
                probs_SN.ndim != 2
                or probs_SN.shape[1] != len(ids)
                or not np.isfinite(probs_SN).all()
            ):
                raise Damaged(f"{path}: {name}_{split} is not a finite (S, {len(ids)}) array")
            arms.append(answers(probs_SN[:, order_N]) == truth.targets_N)
        return Baselines(
            weak_SN=arms[0],
            ceiling_SN=arms[1],
            spread=_spread(found, split, path),
            label_free=_label_free(found, split, truth, path),
        )


def _spread(found: dict[str, Any], split: Split, path: Path) -> SeedSpread | None:
    """Return how much plain students differ; raises Damaged if the file cannot mean that."""
    names = (f"plain_variance_{split}", f"plain_seeds_{split}")
    arrays = [found[name] for name in names if name in found]
    if not arrays:
        return None
    if len(arrays) == 2 and arrays[0].shape == arrays[1].shape == ():
        spread = SeedSpread(float(arrays[0]), int(arrays[1]))
        if 0 <= spread.variance <= 0.25 and spread.n_seeds >= 2:  # of a share, at most
            return spread
    raise Damaged(f"{path}: {names[0]} and {names[1]} are not a spread of seeds")


def _label_free(found: dict[str, Any], split: Split, truth: Truth, path: Path) -> LabelFree | None:
    """Return how the strong model judges without labels; Damaged for rows not of the split."""
    ids, probs_M = found.get(f"label_free_ids_{split}"), found.get(f"label_free_{split}")
    if ids is None or probs_M is None:
        return None
    rows = [truth.row_of.get(str(row_id)) for row_id in ids.tolist()]
    if None in rows or probs_M.shape != (len(rows),) or not np.isfinite(probs_M).all() or not rows:
        raise Damaged(f"{path}: label_free_{split} is not of rows of {split}")
    rows_M = np.array(rows, dtype=np.intp)
    return LabelFree(rows_M, answers(probs_M) == truth.targets_N[rows_M])


def check_closed(root: Path) -> None:
    """Raise Forbidden, naming the first path under `root` that someone else could open."""
    if not root.is_dir():
        raise NotFound(f"no vault at {root}; build a task first: aarlab task build")
    for folder, names, files in os.walk(root):
        for path in [Path(folder), *(Path(folder) / name for name in names + files)]:
            _check_mode(path)


def _check_mode(path: Path) -> None:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise Forbidden(f"{path} is a symbolic link; the vault holds plain files only: remove it")
    if status.st_uid != os.geteuid():
        raise Forbidden(f"{path} belongs to uid {status.st_uid}, not to this process: chown it")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise Forbidden(
            f"{path} has mode {mode:o}, so others could read hidden labels; "
            "folders need 700 and files 600: chmod -R go-rwx on the vault"
        )


def _closed(path: Path, missing: type[NotFound] | type[BaselineMissing] = NotFound) -> Path:
    if not path.exists():
        raise missing(f"{path} does not exist; build the task again: aarlab task build")
    _check_mode(path)
    return path


def _json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return numbered rows without the canary line.

    No message holds the text of a bad line.
    """
    rows = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError
                if "canary" not in row:
                    rows.append((number, row))
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist; build the task again: aarlab task build") from None
    except ValueError:
        raise Damaged(
            f"{path}: a line is not a JSON object; build the task again: aarlab task build"
        ) from None
    return rows


def _rebuild(task: str) -> str:
    return f"build it again: aarlab task build {task}"
