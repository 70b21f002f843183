"""Tasks, scores and campaigns for scripts and notebooks: what `import aarlab` adds to the parts.

Covered: a score is that of `aarlab testbed run`, on the search split, by the same code. No label
leaves this module, only figures over a whole split.
Not covered: these functions are an operator's. They run as the user who owns the vault, and a
method runs in this process without a sandbox. Score only code that you trust, and call a figure
verified only if `aarlab method verify` or a campaign made it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from aarlab.campaign.spec import CampaignSpec
from aarlab.campaign.watch import Notify
from aarlab.cli.operator import open_scorer
from aarlab.cli.settings import data_root
from aarlab.core.errors import MethodFailed
from aarlab.core.extras import require
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.pgr import Gap
from aarlab.core.types import Example
from aarlab.core.wire import CampaignExport, TaskInfo
from aarlab.testbed.methods import Method, method_of_recipe
from aarlab.testbed.recipes.recipe import Recipe
from aarlab.testbed.running.contract import Fit
from aarlab.testbed.running.panel import Extras, PanelRow, method_at, run_panel, search_bench
from aarlab.testbed.students.features import FeatureSource, StoredFeatures
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.task import PublicTask, WeakLabels, model_at_hand, open_public
from aarlab.testbed.tasks.train_task import TrainTask

MethodLike: TypeAlias = Method | Recipe | Fit | str | Path
"""A method in any of the forms that `score_methods` takes."""


def _quiet(kind: str, facts: dict[str, object]) -> None:
    """Report no progress."""


@dataclass(frozen=True, slots=True)
class Task:
    """A built task on this machine: its public rows, weak labels and strong model's features.

    It has no field for a true label. `public` is the opened public folder, `root` the data root.
    """

    root: DataRoot
    public: PublicTask
    features: FeatureSource

    @property
    def info(self) -> TaskInfo:
        """Return name, kind, description, sizes and settings."""
        return self.public.info

    @property
    def train(self) -> tuple[Example, ...]:
        """Train inputs (N rows), in the order of the weak labels."""
        return self.public.train

    @property
    def search(self) -> tuple[Example, ...]:
        """Return inputs of the search split, on which `score_method` scores."""
        return self.public.search

    @property
    def weak_labels(self) -> WeakLabels:
        """Return P(label 1) by each public weak teacher for each train row, `probs_SN`."""
        return self.public.weak_labels

    def train_task(self, teacher_seed: int | None = None) -> TrainTask:
        """Return what a method is given, with the labels of one weak teacher first.

        The default is the first public teacher. Raises NotFound for a seed that has no labels.
        """
        seed = self.weak_labels.seeds[0] if teacher_seed is None else teacher_seed
        return self.public.train_task(seed)

    def students(self) -> StudentFactory:
        """Return a factory of the strong students for which this task was built."""
        return StudentFactory.of_task(self.features, self.info)

    def gap(self) -> Gap:
        """Return the accuracies of weak teacher and ceiling on the search split, with intervals.

        Raises Forbidden if the vault is open to other users, BaselineMissing without baselines.
        """
        return open_scorer(self.root).gap(self.info.name, "search")


def task_names(home: Path | None = None) -> list[str]:
    """Return the names of the tasks that are built in a data root, sorted.

    `home` is the data root; the default is AARLAB_HOME, else `~/.aarlab`.
    """
    return _root(home).task_names()


def open_task(name: str, *, home: Path | None = None, with_model: bool | None = None) -> Task:
    """Open a built task by `name` or `name@version`.

    Methods see the task's stored features. `with_model=True` also gives them the strong model,
    which is fetched and loaded when a feature is missing; the default does this only for tasks
    whose students train the model. Raises NotFound if the task was not built, Damaged if its
    files do not match their hash, MissingExtra without the extra `testbed`.
    """
    require("testbed")
    root = _root(home).pin(name)
    public = open_public(root.public_task(name))
    features: FeatureSource
    if model_at_hand(public.info) is not None if with_model is None else with_model:
        from aarlab.testbed.tasks.making import Workshop

        features = Workshop(root, lambda said: None).strong_features(public)
    else:
        stored = sorted((public.folder / "features").glob("*.npz"))
        features = StoredFeatures.open(stored)
    return Task(root, public, features)


def score_methods(
    methods: Sequence[MethodLike],
    task: Task,
    *,
    seeds: int = 5,
    permuted: bool = False,
    diagnostics: bool = False,
    progress: Callable[[str, int], None] = lambda method, seed: None,
) -> list[PanelRow]:
    """Run methods in this process and score them on the task's search split, side by side.

    A method is a function `fit(task, student, seed)`, a `Recipe`, the name of a built-in method, a
    method folder or a recipe file. Seed i uses weak teacher i; all methods get the same seeds and
    teachers. `permuted` also scores them on permuted weak labels. A method that breaks the contract
    gives a score that says so in `failed`; other errors of its code are raised. The scores are
    exact and unverified: a method chosen by them looks better than it is.
    """
    bench = search_bench(task.public, task.features, open_scorer(task.root))
    wanted = [_method(one) for one in methods]
    return list(run_panel(wanted, bench, seeds, progress, Extras(diagnostics, permuted)))


def score_method(
    method: MethodLike,
    task: Task,
    *,
    seeds: int = 5,
    permuted: bool = False,
    diagnostics: bool = False,
) -> PanelRow:
    """Score one method as `score_methods` does; raises MethodFailed if it breaks the contract.

    `score.pgr` is the PGR with its 95 % interval, or None where the task's gap is not clear;
    `score.accuracy` is always there.
    """
    (score,) = score_methods(
        [method], task, seeds=seeds, permuted=permuted, diagnostics=diagnostics
    )
    if score.failed:
        raise MethodFailed(f"{score.method}: {score.failed}")
    return score


def run_campaign(
    spec: CampaignSpec, out: Path, *, home: Path | None = None, notify: Notify = _quiet
) -> CampaignExport:
    """Run a campaign in the folder `out` to its end, or resume the one that is there.

    `notify(kind, facts)` is called for each event, as it is written to `events.jsonl`. Raises
    Faulty with every reason why the spec cannot run here, before anything is started; Conflict if
    `out` holds another campaign. The export is also written to `out/export.json`.
    """
    from aarlab.campaign.checking import faults
    from aarlab.campaign.reading import SpecText
    from aarlab.campaign.registration import run_settings
    from aarlab.campaign.runner import create
    from aarlab.campaign.runner import run_campaign as run_to_its_end
    from aarlab.core.errors import Faulty
    from aarlab.core.layout import embedded_names
    from aarlab.verify.audits import check_installed

    require("testbed", "server", "sandbox")
    check_installed()
    root, run = _root(home), RunDir(out.absolute())
    spec = spec.expanded()
    found = faults(spec, SpecText(None), root, embedded_names().__contains__)
    if found and not run.export.exists():  # one that ended once may have no more to do
        raise Faulty(f"campaign {spec.name} cannot run here; nothing was started:", found)
    create(run, spec, run_settings(root), root)
    return run_to_its_end(run, root, notify)


def _root(home: Path | None) -> DataRoot:
    return data_root() if home is None else DataRoot(home.expanduser().absolute())


def _method(given: MethodLike) -> Method:
    if isinstance(given, Method):
        return given
    if isinstance(given, Recipe):
        return method_of_recipe(f"recipe-{given.hash()}", given)
    if isinstance(given, str | Path):
        return method_at(str(given))
    return Method(getattr(given, "__name__", type(given).__name__), given, given.__doc__ or "")
