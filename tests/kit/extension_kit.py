"""Packages that are installed by a folder on the path and a `.dist-info` in it, without pip."""

import importlib
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aarlab.executors import known
from aarlab.problems.known import PROBLEMS
from aarlab.testbed.methods import REGISTRY
from aarlab.testbed.students.adapters.adaptation import ADAPTATIONS
from aarlab.testbed.tasks.generators.registry import TASKS
from aarlab.verify.audits import AUDITS

EXAMPLES = Path(__file__).parents[2] / "examples" / "extensions"
REGISTRIES = (TASKS, REGISTRY, AUDITS, ADAPTATIONS, PROBLEMS)
Entries = Mapping[str, Mapping[str, str]]  # value by name by group


def distribution(site: Path, name: str, entries: Entries, version: str = "1.0") -> None:
    """Write the metadata of a distribution; the modules are the caller's."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in some.items())
        for group, some in entries.items()
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))


def distribution_of(site: Path, package: Path) -> None:
    """Write the metadata of an example package as its own pyproject.toml says."""
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    distribution(site, project["name"], project["entry-points"], project["version"])


def examples(site: Path) -> Path:
    """Install the example package of the four kinds."""
    distribution_of(site, EXAMPLES)
    shutil.copytree(
        EXAMPLES / "aarlab_examples",
        site / "aarlab_examples",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return site


@contextmanager
def installed(*sites: Path) -> Iterator[None]:
    """See the packages of some folders in this process; nothing of them is left afterwards."""
    modules, places = set(sys.modules), [str(site) for site in sites]
    sys.path[:0] = places
    _look_again()
    try:
        yield
    finally:
        for place in places:
            sys.path.remove(place)
        for name in set(sys.modules) - modules:
            file = str(getattr(sys.modules[name], "__file__", ""))
            if any(place in file for place in places):
                del sys.modules[name]
        _look_again()


def _look_again() -> None:
    importlib.invalidate_caches()
    for registry in (*REGISTRIES, known.EXECUTORS):  # a test may have its own executors
        registry.refresh()
