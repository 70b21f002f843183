"""Tasks that a campaign builds from a data folder, in a published setting, before it begins.

The spec that is frozen does not hold this part: it names versions of tasks, which say what they
were built from. Paths of this machine stay out of exports.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aarlab.campaign.spec import BuildSpec, CampaignSpec
from aarlab.core.errors import AarlabError
from aarlab.core.layout import DataRoot
from aarlab.testbed.models.by_path import n_blocks_of, pair_of_folders, weight_bytes
from aarlab.testbed.models.catalogue import FolderSource, ModelEntry, catalogue_of
from aarlab.testbed.tasks.published import Setting, setting, task_name

FILES = ("train_label", "train_unlabel", "test")
TYPICAL_BYTES = {  # weights in bf16, of models that are fetched
    "qwen1.5-0.5b-chat": 1_300_000_000,
    "qwen3-4b-base": 8_100_000_000,
}


@dataclass(frozen=True, slots=True)
class Build:
    """One task and the folder that it is built from."""

    task: str
    folder: Path


def builds(spec: CampaignSpec) -> list[Build]:
    """Return the tasks that the spec builds: those whose name ends with its setting.

    A task that was built, and whose folder is not here, is used as it is.
    """
    if spec.build is None:
        return []
    made, folder, found = setting(spec.build.setting), Path(spec.build.folder), list[Build]()
    for task in (*spec.tasks, *spec.held_out):
        ending = task_name(Path(), made)  # "-qwen-paper"
        if task.endswith(ending):
            found.append(Build(task, folder / task.removesuffix(ending)))
    return found


def build_tasks(
    spec: CampaignSpec,
    root: DataRoot,
    tell: Callable[[str], None],
    advance: Callable[[str, int, int], None],
) -> CampaignSpec:
    """Build the tasks, or find them as they are, and return the spec without that part.

    An interrupted build continues with the next seed of its teachers and ceilings.
    """
    if spec.build is None:
        return spec
    from aarlab.testbed.tasks.making import Workshop  # loads torch

    made = setting(spec.build.setting, spec.build.epochs)
    shop, pair = Workshop(root, tell, advance), _pair(spec.build, made, root)
    for one in builds(spec):
        if _is_used_as_built(one, root):
            tell(f"task {one.task}: used as it is, since there is no folder {one.folder}")
            continue
        tell(f"task {one.task}")
        shop.build_published(one.folder, one.task, made, pair, spec.build.baseline_seeds)
    return spec.model_copy(update={"build": None})


def _pair(build: BuildSpec, made: Setting, root: DataRoot) -> str:
    if build.weak is None or build.strong is None:
        return build.pair or made.pair
    like = catalogue_of(root).pair(made.pair)
    return pair_of_folders(root, Path(build.weak), Path(build.strong), like)


def lacking(spec: CampaignSpec, root: DataRoot) -> Iterator[str]:
    """Yield what is missing before the tasks can be built, with the remedy."""
    if spec.build is None:
        return
    needed = [one for one in builds(spec) if not _is_used_as_built(one, root)]
    for one in needed:
        missing = [stem for stem in FILES if not any(one.folder.glob(f"{stem}.*"))]
        if not one.folder.is_dir():
            yield f"task {one.task}: there is no folder {one.folder}: set build.folder, or --data"
        elif missing:
            yield f"task {one.task}: {one.folder} holds no {' or '.join(missing)}"
    if needed:
        yield from _models_lacking(spec.build, root)


def _is_used_as_built(one: Build, root: DataRoot) -> bool:
    return not one.folder.is_dir() and (root.public_task(one.task) / "task.json").exists()


def _models_lacking(build: BuildSpec, root: DataRoot) -> Iterator[str]:
    if build.weak is not None and build.strong is not None:
        for side, path in (("weak", build.weak), ("strong", build.strong)):
            try:
                n_blocks_of(side, Path(path).expanduser())
            except AarlabError as error:
                yield str(error)
        return
    try:
        entries = _entries(build, root)
    except AarlabError as error:
        yield str(error)
        return
    for entry in entries:
        if not (root.models / entry.name / "model.json").exists():
            n_bytes = _bytes(entry)
            size = f" (about {n_bytes / 1e9:.0f} GB)" if n_bytes else ""
            yield (
                f"model {entry.name} is not in {root.models}: aarlab models pull {entry.name}"
                f"{size}, or give folders: build.weak and build.strong"
            )


def _entries(build: BuildSpec, root: DataRoot) -> list[ModelEntry]:
    known = catalogue_of(root)
    pair = known.pair(build.pair or setting(build.setting).pair)
    return [known.model(name) for name in dict.fromkeys((pair.weak.model, pair.strong.model))]


def bytes_needed(spec: CampaignSpec, root: DataRoot) -> int:
    """Return the bytes of weights that are yet to be written into the data root, about."""
    build = spec.build
    if build is None:
        return 0
    if build.weak is not None and build.strong is not None:
        return sum(weight_bytes(Path(path).expanduser()) for path in (build.weak, build.strong))
    there = [e for e in _entries(build, root) if not (root.models / e.name / "model.json").exists()]
    return sum(_bytes(entry) for entry in there)


def _bytes(entry: ModelEntry) -> int:
    if isinstance(entry.source, FolderSource):
        return weight_bytes(entry.source.path)
    return TYPICAL_BYTES.get(entry.name, 0)
