"""From a name or a folder to a built task: rows, frozen features of the pair, baselines, files."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from threadpoolctl import threadpool_limits

from aarlab.core.files import write_atomic
from aarlab.core.layout import DataRoot
from aarlab.core.types import Split
from aarlab.testbed.baselines import Sources
from aarlab.testbed.build import Built, build_task
from aarlab.testbed.build_options import BuildOptions
from aarlab.testbed.data import TaskData
from aarlab.testbed.folder import FolderOptions, read_folder
from aarlab.testbed.generators.glossary import fetch_glossary
from aarlab.testbed.generators.presets import TaskPreset
from aarlab.testbed.generators.registry import generate
from aarlab.testbed.models.cache import FeatureCache
from aarlab.testbed.models.catalogue import ModelRef, model_pair
from aarlab.testbed.models.compute import choose
from aarlab.testbed.models.lm import loader
from aarlab.testbed.models.pull import pull
from aarlab.testbed.models.record import read_record
from aarlab.testbed.settings import TestbedSettings, load_settings
from aarlab.testbed.stored_features import StoredFeatures, WithModel
from aarlab.testbed.task import PublicTask

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where tasks are made. Features of hidden rows lie in the data root's closed cache."""

    root: DataRoot
    tell: Tell
    settings: TestbedSettings = field(default_factory=load_settings)
    n_threads: int | None = None

    def build_preset(self, preset: TaskPreset, certify: bool = False) -> Built:
        """An embedded task: generated rows, the preset's layers, teacher and student.

        `certify` makes that split's baselines and features too, which a campaign does not need.
        """
        self.tell(f"generating {preset.name}")
        glossary = fetch_glossary(self.root) if preset.name == "chat" else None
        options = BuildOptions(
            pair=preset.pair,
            weak_layer=preset.weak_layer,
            strong_layer=preset.strong_layer,
            more_layers=preset.more_layers,
            teacher=preset.teacher,
            student=preset.student,
            certify=certify,
            teacher_row_ceiling=False,
        )
        return self.build(generate(preset.name, preset.settings, glossary), options)

    def import_folder(
        self, path: Path, name: str, pair: str, require_gap: bool = True, certify: bool = False
    ) -> Built:
        """A folder in the study's format, on the pair's own layers."""
        self.tell(f"reading {path}")
        found = model_pair(pair)
        options = BuildOptions(
            pair=pair,
            weak_layer=found.weak_for(name).layer,
            strong_layer=found.strong_for(name).layer,
            more_layers=found.more_layers,
            require_gap=require_gap,
            certify=certify,
            teacher_row_ceiling=False,
        )
        return self.build(read_folder(path, name, FolderOptions()), options)

    def build(self, data: TaskData, options: BuildOptions) -> Built:
        pair = model_pair(options.pair)
        weak = ModelRef(pair.weak.model, options.weak_layer)
        strong = ModelRef(pair.strong.model, options.strong_layer)
        strong_cache = self._cache(strong.model)
        same = weak.model == strong.model
        caches = (strong_cache if same else self._cache(weak.model), strong_cache)
        for split in ("train", *options.eval_splits):
            self._precompute(data, split, options, caches)
        teacher = data.splits["teacher"].examples
        caches[0].precompute(
            teacher, (weak.layer,), logp=False, progress=self._told(data, "teacher")
        )
        # Heads are small: a library that takes a thread a core for each is ten times slower.
        with threadpool_limits(1):
            return build_task(data, options, self.root, Sources(*caches), self.tell)

    def _precompute(
        self,
        data: TaskData,
        split: Split,
        options: BuildOptions,
        caches: tuple[FeatureCache, FeatureCache],
    ) -> None:
        """One pass a split where weak and strong are cuts of one model, else one each."""
        weak, strong = caches
        examples, progress = data.splits[split].examples, self._told(data, split)
        layers = options.student_layers
        if weak is strong:
            layers = (options.weak_layer, *layers)
        else:
            weak.precompute(examples, (options.weak_layer,), logp=False, progress=progress)
        strong.precompute(examples, layers, logp=True, progress=progress)

    def _told(self, data: TaskData, split: str) -> Callable[[int, int], None]:
        return lambda done, total: self.tell(
            f"features of {data.name} {split}: {done} of {total} answers"
        )

    def strong_features(self, task: PublicTask) -> WithModel:
        """The task's stored features, backed by the strong model itself for anything else."""
        stored = StoredFeatures.open(sorted((task.folder / "features").glob("*.npz")))
        return WithModel(stored, self._cache(model_pair(task.info.pair).strong.model))

    def _cache(self, name: str) -> FeatureCache:
        folder = pull(name, self.root, self.tell)
        store = self.root.path / "features"
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        compute = choose(self.settings.device, self.settings.dtype, self.settings.batch_tokens)
        model = compute.model_id(read_record(folder))
        load = loader(folder, self.n_threads or self.settings.torch_threads, compute)
        return FeatureCache([], model, store, load, self.settings.cache_bytes)


def private_seed(root: DataRoot, task: str) -> int:
    """A seed of this data root's own, drawn once and kept closed.

    The generators are public code: with a known seed an AAR could make the labels anew.
    """
    path = root.path / "private" / f"{task}.seed"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, f"{secrets.randbits(48)}\n", 0o600)
    return int(path.read_text())
