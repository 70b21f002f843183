"""Build a task from a name or a folder: rows, frozen features of the pair, baselines, files."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from aarlab.core.errors import BadInput
from aarlab.core.files import write_atomic
from aarlab.core.hashing import sha256_hex
from aarlab.core.ids import checked_name
from aarlab.core.layout import DataRoot, ending_of
from aarlab.core.types import Example
from aarlab.testbed.models.cache import FeatureCache
from aarlab.testbed.models.catalogue import ModelRef, catalogue_of
from aarlab.testbed.models.compute import choose_by
from aarlab.testbed.models.lm import loader
from aarlab.testbed.models.pull import pull
from aarlab.testbed.models.record import read_record
from aarlab.testbed.settings import TestbedSettings, cores, load_settings
from aarlab.testbed.students.baselines import Sources, label_free_rows
from aarlab.testbed.students.features import StoredFeatures, WithModel
from aarlab.testbed.students.options import ADAPTED_CEILINGS, AdapterOptions, HeadOptions
from aarlab.testbed.students.teacher import n_drawn
from aarlab.testbed.tasks.build import Built, build_task
from aarlab.testbed.tasks.data import EvalShares, TaskData
from aarlab.testbed.tasks.datasets.near_duplicates import Policy, without_near_duplicates
from aarlab.testbed.tasks.embedded import embedded_folder
from aarlab.testbed.tasks.folder import FolderOptions, read_folder
from aarlab.testbed.tasks.generators.presets import TaskPreset
from aarlab.testbed.tasks.generators.registry import TASKS, preset
from aarlab.testbed.tasks.options import BuildOptions
from aarlab.testbed.tasks.published import Setting
from aarlab.testbed.tasks.settings_file import TaskSettings, read_task_settings, settings_file
from aarlab.testbed.tasks.task import PublicTask
from aarlab.testbed.tasks.twins import draw_twins, with_twins

Tell = Callable[[str], None]
Advance = Callable[[str, int, int], None]  # a step's name, answers done, answers in all
Adapted = tuple[AdapterOptions, HeadOptions]
MOST_HEADS = 4  # trained at a time: each holds a copy of the states that it learns from
FOLDS = 5  # on which a teacher is calibrated, unless there are fewer problems


def _silent(step: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where tasks are made. Features of hidden rows lie in the data root's closed cache."""

    root: DataRoot
    tell: Tell
    advance: Advance = _silent
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
        """Build an embedded task from generated rows with the preset's layers, teacher and student.

        `certify` makes that split's baselines and features too, for the last score of a campaign.
        With `adapted` students train the model itself. Such a task has a name of its own. So has
        one `with_model`, whose methods get the strong model, and one without `zero_shot`, whose
        build takes about half the time.
        """
        name = f"{preset.name}-with-model" if with_model and adapted is None else preset.name
        student, extra = preset.student, dict[str, Any]()
        if with_model:
            extra = {"model": catalogue_of(self.root).pair(preset.pair).strong.model}
        if adapted is not None:
            name, student = f"{preset.name}{ending_of(adapted[0].kind)}", adapted[1]
            extra = {"adapter": adapted[0], "ceiling_seeds": ADAPTED_CEILINGS}
        if not zero_shot:
            name = f"{name}-states"
        self.tell(f"generating {preset.name}")
        task = TASKS.get(preset.name)
        data = task.generate(name, preset.settings, task.fetch(self.root))
        options = BuildOptions(
            pair=preset.pair,
            weak_layer=preset.weak_layer,
            strong_layer=preset.strong_layer,
            more_layers=preset.more_layers,
            teacher=preset.teacher,
            student=student,
            certify=certify,
            teacher_row_ceiling=False,
            log_likelihoods="all" if zero_shot else "none",
            **extra,
        )
        return self.build(data, options)

    def build_embedded(self, name: str, seed: int | None = None) -> Built:
        """Build a task that comes with this package.

        Without a seed, that of this data root is used, drawn once and kept closed. Raises NotFound
        naming the tasks there are.
        """
        folder = embedded_folder(name)
        if folder is None:
            return self.build_preset(preset(name, private_seed(self.root, name, seed)))
        changes = [] if seed is None else [f"splits.seed={seed}"]
        return self.build_folder(folder, name, read_task_settings(folder, changes))

    def build_folder(self, path: Path, name: str, settings: TaskSettings | None = None) -> Built:
        """Build a task from a folder in the study's format, by its `task.yaml` or these settings.

        All checks of rows and settings come before the features. A gap that is not clear is
        recorded with the task, unless the settings require one.
        """
        checked_name(name, "task")
        settings = settings or read_task_settings(path)
        self.tell(f"reading {path}")
        where = settings_file(path)
        layers = self._layers(settings, name, where)
        chosen = settings.splits.seed
        seed = private_seed(self.root, name) if chosen == "private" else chosen
        shares = EvalShares(
            settings.splits.search, settings.splits.selection, settings.splits.certify
        )
        repeated, hidden = settings.repeated_questions, settings.train_hidden
        data = read_folder(path, name, FolderOptions(seed, shares, hidden, repeated, self.tell))
        data = replace(
            data,
            title=settings.title or data.title,
            description=settings.description or data.description,
        )
        folds = self._folds(settings, data, where)
        strong = catalogue_of(self.root).pair(settings.pair).strong.model
        options = settings.build_options(layers, strong, folds, _apart(seed) if seed else 0)
        return self.build(with_twins(self._distinct(data, settings.near_duplicates)), options)

    def _layers(
        self, settings: TaskSettings, name: str, where: Path
    ) -> tuple[int, int, tuple[int, ...]]:
        """Return the layers of teacher and student; raises BadInput for one that is not there."""
        catalogue, teacher, student = catalogue_of(self.root), settings.teacher, settings.student
        pair = catalogue.pair(settings.pair)
        weak, strong = pair.weak_for(name), pair.strong_for(name)
        weak_layer = weak.layer if teacher.layer is None else teacher.layer
        strong_layer = strong.layer if student.layer is None else student.layer
        more = pair.more_layers if student.more_layers is None else student.more_layers
        asked = {
            "teacher.layer": (weak.model, (weak_layer,)),
            "student.layer": (strong.model, (strong_layer,)),
            "student.more_layers": (strong.model, more),
        }
        for key, (model, layers) in asked.items():
            n_blocks = catalogue.model(model).n_blocks
            if n_blocks is None:
                n_blocks = read_record(pull(model, self.root, self.tell)).n_blocks
            if wrong := [layer for layer in layers if layer > n_blocks]:
                raise BadInput(
                    f"{where}: {key}: {model} has {n_blocks} blocks, "
                    f"so there is no layer {wrong[0]}; use 0 to {n_blocks}"
                )
        return weak_layer, strong_layer, more

    def _folds(self, settings: TaskSettings, data: TaskData, where: Path) -> int:
        """Return the folds that a teacher calibrates on; raises BadInput for too few problems."""
        groups = {example.group for example in data.splits["teacher"].examples}
        most, wanted = n_drawn(len(groups), settings.teacher.share), settings.teacher.folds
        if not settings.teacher.calibrate:
            return 2
        if most < 2 or (wanted is not None and most < wanted):
            raise BadInput(
                f"{where}: teacher.folds: a teacher sees {most} problems of train_label "
                f"({len(groups)} groups, share {settings.teacher.share:g}), too few for "
                f"{wanted or 2} folds; lower teacher.folds, raise teacher.share, add rows of other "
                "groups, or set teacher.calibrate to false"
            )
        if wanted is None and most < FOLDS:
            self.tell(f"{most} problems for each teacher: calibrated on {most} folds, not {FOLDS}")
        return wanted or min(FOLDS, most)

    def build_published(
        self, path: Path, name: str, made: Setting, pair: str, baseline_seeds: int
    ) -> Built:
        """Build a task from a folder in the study's format, in a published setting.

        The setting gives the teachers and students. `pair` names the model pair. As in the study,
        all train rows are public.
        """
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
        weak_cache = strong_cache if same else self.feature_cache(weak.model)
        caches = (weak_cache, strong_cache)
        data = draw_twins(data, options.twins, options.seed)
        self._precompute(data, options, weak_cache, strong_cache)
        if cut := sum(cache.n_truncated for cache in set(caches)):
            self.tell(f"{cut} answers exceed the context: cut at the start of their prompt")
        # Heads are small: a library that takes a thread per core for each is ten times slower.
        with threadpool_limits(1):
            built = build_task(
                data,
                options,
                self.root,
                Sources(weak_cache, strong_cache),
                self.tell,
                min(MOST_HEADS, self.n_threads or self.settings.torch_threads or cores()),
            )
        if cut := sum(len(cache.cut_rows) for cache in {id(c): c for c in caches}.values()):
            self.tell(f"{cut} rows of trained students exceed the context: cut at their start")
        return built

    def _precompute(
        self, data: TaskData, options: BuildOptions, weak: FeatureCache, strong: FeatureCache
    ) -> None:
        """Compute all features in as few passes as there are models and kinds of rows."""
        rows = [
            example
            for split in (*data.train_splits, *options.eval_splits)
            for example in data.splits[split].examples
        ] + list(data.twins.rows)
        teachers = data.splits["teacher"].examples if data.problem.weak_labels else ()
        learned = list(teachers)
        # A teacher that skims needs no forward pass.
        of_weak = () if options.teacher.skim is not None else (options.weak_layer,)
        of_strong = options.student_layers
        if weak is strong:
            of_strong = (*of_weak, *of_strong)
        else:
            self._pass(data.name, weak, "weak model", rows + learned, of_weak)
        if options.zero_shot:
            self._pass(data.name, strong, "model", rows, of_strong, logp=True)
        else:
            judged = [row for some in label_free_rows(data, options).values() for row in some]
            if judged:  # first, as their states come with it
                what = "a sample's log-likelihoods by the model"
                self._pass(data.name, strong, what, judged, of_strong, logp=True)
            self._pass(data.name, strong, "model", rows, of_strong)
        if weak is strong:
            self._pass(data.name, weak, "model", learned, of_weak)

    def _pass(
        self,
        task: str,
        cache: FeatureCache,
        what: str,
        rows: Sequence[Example],
        layers: tuple[int, ...],
        logp: bool = False,
    ) -> None:
        step = f"{task}: {what}"
        cache.precompute(
            rows, layers, logp=logp, progress=lambda done, total: self.advance(step, done, total)
        )

    def strong_features(self, task: PublicTask) -> WithModel:
        """Return the task's stored features, with the strong model for anything else."""
        stored = StoredFeatures.open(sorted((task.folder / "features").glob("*.npz")))
        return WithModel(stored, self.strong_model(task))

    def strong_model(self, task: PublicTask) -> FeatureCache:
        """Return the features of the task's strong model, which is loaded when one is missing."""
        pair = catalogue_of(self.root).pair(task.info.pair)
        return self.feature_cache(pair.strong.model)

    def feature_cache(self, name: str) -> FeatureCache:
        """Return the data root's features of a model.

        The model is pulled and loaded when a feature is missing.
        """
        folder = pull(name, self.root, self.tell)
        store = self.root.path / "features"
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        compute = choose_by(self.settings)
        model = compute.model_id(read_record(folder))
        load = loader(folder, self.n_threads or self.settings.torch_threads, compute)
        return FeatureCache([], model, store, load, self.settings.cache_bytes)


def private_seed(root: DataRoot, task: str, given: int | None = None) -> int:
    """Return the given seed, or that of this data root, drawn once and kept closed.

    The generators and the shipped rows are public. Anyone who knows the seed can make the labels,
    or the deal of the splits, again.
    """
    if given is not None:
        return given
    path = root.path / "private" / f"{task}.seed"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, f"{secrets.randbits(48)}\n", 0o600)
    return int(path.read_text(encoding="utf-8"))


def _apart(seed: int) -> int:
    """Return a seed for teachers, whose seeds are public, that does not reveal the private one."""
    return int(sha256_hex(f"teachers:{seed}")[:7], 16)
