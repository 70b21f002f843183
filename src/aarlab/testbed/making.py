"""From a name or a folder to a built task: rows, frozen features of the pair, baselines, files."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from aarlab.core.files import write_atomic
from aarlab.core.layout import DataRoot
from aarlab.core.types import Example
from aarlab.testbed.baselines import Sources
from aarlab.testbed.build import Built, build_task
from aarlab.testbed.build_options import BuildOptions
from aarlab.testbed.data import TaskData
from aarlab.testbed.datasets.near_duplicates import Policy, without_near_duplicates
from aarlab.testbed.datasets.restyled import with_twins
from aarlab.testbed.folder import FolderOptions, read_folder
from aarlab.testbed.generators.glossary import fetch_glossary
from aarlab.testbed.generators.presets import TaskPreset
from aarlab.testbed.generators.registry import generate
from aarlab.testbed.models.cache import FeatureCache
from aarlab.testbed.models.catalogue import ModelRef
from aarlab.testbed.models.compute import Training, choose
from aarlab.testbed.models.lm import loader
from aarlab.testbed.models.own import catalogue_of
from aarlab.testbed.models.pull import pull
from aarlab.testbed.models.record import read_record
from aarlab.testbed.options import AdapterOptions, HeadOptions
from aarlab.testbed.published import Setting
from aarlab.testbed.settings import TestbedSettings, load_settings
from aarlab.testbed.stored_features import StoredFeatures, WithModel
from aarlab.testbed.task import PublicTask
from aarlab.testbed.twins import draw_twins

Tell = Callable[[str], None]
FeatureProgress = Callable[[int, int], None]
Adapted = tuple[AdapterOptions, HeadOptions]
ADAPTED_CEILINGS = 4  # seeds of a ceiling that takes half a minute each


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where tasks are made. Features of hidden rows lie in the data root's closed cache."""

    root: DataRoot
    tell: Tell
    settings: TestbedSettings = field(default_factory=load_settings)
    n_threads: int | None = None

    def build_preset(
        self,
        preset: TaskPreset,
        certify: bool = True,
        adapted: Adapted | None = None,
        with_model: bool = False,
        zero_shot: bool = True,
    ) -> Built:
        """An embedded task: generated rows, the preset's layers, teacher and student.

        `certify` makes that split's baselines and features too, for the last score of a campaign.
        With `adapted` students train the model itself; such a task has a name of its own, and so
        has one `with_model`, whose methods get the strong model at hand, or one without
        `zero_shot`, whose build takes about half the time.
        """
        name = f"{preset.name}-with-model" if with_model and adapted is None else preset.name
        student, extra = preset.student, dict[str, Any]()
        if with_model:
            extra = {"model": catalogue_of(self.root).pair(preset.pair).strong.model}
        if adapted is not None:
            name, student = f"{preset.name}-{adapted[0].kind}".replace("_", "-"), adapted[1]
            extra = {"adapter": adapted[0], "ceiling_seeds": ADAPTED_CEILINGS}
        if not zero_shot:
            name = f"{name}-states"
        self.tell(f"generating {preset.name}")
        glossary = fetch_glossary(self.root) if preset.name == "chat" else None
        options = BuildOptions(
            pair=preset.pair,
            weak_layer=preset.weak_layer,
            strong_layer=preset.strong_layer,
            more_layers=preset.more_layers,
            teacher=preset.teacher,
            student=student,
            certify=certify,
            teacher_row_ceiling=False,
            zero_shot=zero_shot,
            **extra,
        )
        return self.build(generate(name, preset.settings, glossary), options)

    def import_folder(
        self,
        path: Path,
        name: str,
        pair: str,
        options: FolderOptions | None = None,
        near: Policy = "drop",
    ) -> Built:
        """Build a task from a folder in the study's format, on the layers of the model pair.

        `near` decides what happens to near-duplicates across splits. A gap that is not clear is
        recorded with the task.
        """
        self.tell(f"reading {path}")
        found = catalogue_of(self.root).pair(pair)
        build = BuildOptions(
            pair=pair,
            weak_layer=found.weak_for(name).layer,
            strong_layer=found.strong_for(name).layer,
            more_layers=found.more_layers,
            require_gap=False,
            certify=True,
            teacher_row_ceiling=False,
        )
        data = read_folder(path, name, options or FolderOptions())
        return self.build(with_twins(self._distinct(data, near)), build)

    def build_published(
        self, path: Path, name: str, made: Setting, wanted: tuple[str, int]
    ) -> Built:
        """Build a task from a folder in the study's format, in a published setting.

        The setting gives the teachers and students. `wanted` is the model pair and the number of
        baseline seeds. As in the study, all train rows are public.
        """
        pair, baseline_seeds = wanted
        options = made.build_options(catalogue_of(self.root).pair(pair), baseline_seeds)
        self.tell(f"reading {path}")
        reading = FolderOptions(hidden=False, tell=self.tell)
        data = self._distinct(read_folder(path, name, reading), "drop")
        return self.build(with_twins(data), options)

    def _distinct(self, data: TaskData, near: Policy) -> TaskData:
        """Return the task with the policy applied to near-duplicates across splits.

        Reports how many rows were dropped.
        """
        self.tell("looking for near-duplicates")
        made = without_near_duplicates(data, near)
        lost = {s: len(data.splits[s].examples) - len(made.splits[s].examples) for s in made.splits}
        if any(lost.values()):
            gone = ", ".join(f"{n:,} of {split}" for split, n in lost.items() if n)
            self.tell(f"dropped rows that nearly repeat one of another split: {gone}")
        return made

    def build(self, data: TaskData, options: BuildOptions) -> Built:
        pair = catalogue_of(self.root).pair(options.pair)
        if options.adapter is not None:  # such students cannot run on features alone
            options = options.model_copy(update={"model": pair.strong.model})
        weak = ModelRef(pair.weak.model, options.weak_layer)
        strong = ModelRef(pair.strong.model, options.strong_layer)
        strong_cache = self.feature_cache(strong.model)
        same = weak.model == strong.model
        caches = (strong_cache if same else self.feature_cache(weak.model), strong_cache)
        data = draw_twins(data, options.twins, options.seed)
        for part, rows in _to_precompute(data, options).items():
            self.tell(f"features of {data.name} {part}")
            self._precompute((rows, self._told(data, part)), options, caches)
        teacher = data.splits["teacher"].examples
        caches[0].precompute(
            teacher, (weak.layer,), logp=False, progress=self._told(data, "teacher")
        )
        if cut := sum(cache.n_truncated for cache in set(caches)):
            self.tell(f"{cut} answers exceed the context: cut at the start of their prompt")
        # Heads are small: a library that takes a thread a core for each is ten times slower.
        with threadpool_limits(1):
            built = build_task(data, options, self.root, Sources(*caches), self.tell)
        if cut := sum(len(cache.cut_rows) for cache in {id(c): c for c in caches}.values()):
            self.tell(f"{cut} rows of trained students exceed the context: cut at their start")
        return built

    def _precompute(
        self,
        wanted: tuple[Sequence[Example], FeatureProgress],
        options: BuildOptions,
        caches: tuple[FeatureCache, FeatureCache],
    ) -> None:
        """One pass where weak and strong are cuts of one model, else one each."""
        (weak, strong), (examples, progress) = caches, wanted
        layers = options.student_layers
        if weak is strong:
            layers = (options.weak_layer, *layers)
        else:
            weak.precompute(examples, (options.weak_layer,), logp=False, progress=progress)
        strong.precompute(examples, layers, logp=options.zero_shot, progress=progress)

    def _told(self, data: TaskData, split: str) -> FeatureProgress:
        return lambda done, total: self.tell(
            f"features of {data.name} {split}: {done} of {total} answers"
        )

    def strong_features(self, task: PublicTask) -> WithModel:
        """The task's stored features, backed by the strong model itself for anything else."""
        stored = StoredFeatures.open(sorted((task.folder / "features").glob("*.npz")))
        pair = catalogue_of(self.root).pair(task.info.pair)
        return WithModel(stored, self.feature_cache(pair.strong.model))

    def feature_cache(self, name: str) -> FeatureCache:
        """This data root's features of a model, which is pulled and loaded when one is missing."""
        folder = pull(name, self.root, self.tell)
        store = self.root.path / "features"
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        chosen = self.settings
        training = Training(chosen.train_tokens, chosen.checkpoint, chosen.compile)
        compute = choose(chosen.device, chosen.dtype, chosen.batch_tokens, training)
        model = compute.model_id(read_record(folder))
        load = loader(folder, self.n_threads or self.settings.torch_threads, compute)
        return FeatureCache([], model, store, load, self.settings.cache_bytes)


def _to_precompute(data: TaskData, options: BuildOptions) -> dict[str, tuple[Example, ...]]:
    """Rows that need features of both models; those of teachers need the weak one's alone."""
    wanted = (*data.train_splits, *options.eval_splits)
    rows: dict[str, tuple[Example, ...]] = {s: data.splits[s].examples for s in wanted}
    return {**rows, "twins": data.twins.rows} if data.twins.rows else rows


def private_seed(root: DataRoot, task: str) -> int:
    """A seed of this data root's own, drawn once and kept closed.

    The generators are public code: with a known seed an AAR could make the labels anew.
    """
    path = root.path / "private" / f"{task}.seed"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, f"{secrets.randbits(48)}\n", 0o600)
    return int(path.read_text(encoding="utf-8"))
