"""Predictions of single seeds on disk, so that an interrupted table continues with the next seed.

Covered: another task version, rows, float type, method or release of this package has other files.
Not covered: a change of training code within a release, which `--fresh` is for.
"""

import shutil
from dataclasses import dataclass
from inspect import getsourcefile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aarlab import __version__
from aarlab.core.hashing import content_hash, sha256_hex
from aarlab.core.wire import Run
from aarlab.testbed.methods import METHODS, Method
from aarlab.testbed.students.features import load_arrays
from aarlab.testbed.tasks.task import write_arrays


class KeptRun(NamedTuple):
    run: Run
    seconds: float


@dataclass(frozen=True, slots=True)
class KeptRuns:
    """Runs on the same rows in one closed folder."""

    folder: Path

    @classmethod
    def of(cls, folder: Path, what: list[str]) -> "KeptRuns":
        """Return those of a task's version and whatever else changes predictions, by name."""
        return cls(folder / content_hash([__version__, *what])[:16])

    def find(self, method: Method, seed: int, permuted: bool) -> KeptRun | None:
        path = self._path(method, seed, permuted)
        if path is None or not path.is_file():
            return None
        arrays = load_arrays(path)
        run = Run(seed=seed, probs=arrays["probs_N"].astype(np.float64).tolist())
        return KeptRun(run, float(arrays["seconds"].item()))

    def keep(self, method: Method, permuted: bool, one: KeptRun) -> None:
        if (path := self._path(method, one.run.seed, permuted)) is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            arrays = {"probs_N": np.array(one.run.probs), "seconds": np.array(one.seconds)}
            write_arrays(path, arrays, 0o600)

    def forget(self) -> None:
        """Remove all of them, so that every seed is run again."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, method: Method, seed: int, permuted: bool) -> Path | None:
        """Return a seed's file; None for a method whose code may change under its name."""
        if method.recipe is not None:
            mark = sha256_hex(method.recipe.model_dump_json().encode())
        elif METHODS.get(method.name) == method:
            mark = sha256_hex(Path(getsourcefile(method.fit) or "").read_bytes())
        else:
            return None
        kind = "-permuted" if permuted else ""
        return self.folder / f"{method.name}-{mark[:12]}-{seed}{kind}.npz"
