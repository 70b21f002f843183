"""`aarlab testbed run --preset`: a published setting on a folder, and how it compares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from aarlab.cli.settings import data_root
from aarlab.cli.steps import Steps
from aarlab.cli.terminal import Console
from aarlab.core.errors import BadInput

if TYPE_CHECKING:
    from aarlab.testbed.methods import Method
    from aarlab.testbed.running.panel import Bench, PanelRow
    from aarlab.testbed.tasks.published import Published, Setting


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of a published setting on the command line."""

    preset: str
    data: Path | None
    pair: str = ""
    weak: Path | None = None
    strong: Path | None = None
    baseline_seeds: int = 16
    epochs: int = 0
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class PresetRun:
    """A published setting whose task is built. `figures` are the published ones, if there are."""

    made: "Setting"
    plain: "Setting"
    task: str
    pair: str
    data: Path
    asked: Asked
    figures: "Published | None"

    def bench(self, tell: Callable[[str], None]) -> "Bench":
        """Return the whole test file as the rows to predict; seeds that were run are kept."""
        from aarlab.cli.operator import whole_test_bench
        from aarlab.testbed.running.kept_runs import KeptRuns
        from aarlab.testbed.tasks.making import Workshop
        from aarlab.testbed.tasks.task import open_public

        root = data_root().pin(self.task)
        public, shop = open_public(root.public_task(self.task)), Workshop(root, tell)
        strong = shop.strong_model(public)
        bench = whole_test_bench(root, public, strong)
        what = [root.folder_of(self.task), bench.shown, _computed()]
        kept = KeptRuns.of(root.path / "private" / "runs", what)
        if self.asked.fresh:
            kept.forget()
        return replace(bench, first_seed=self.made.first_seed, kept=kept)

    def methods(self, chosen: "Sequence[Method]") -> "list[Method]":
        """Return the methods, as published where the setting says so."""
        from aarlab.testbed.methods import method_of_recipe

        own = self.made.recipes
        return [method_of_recipe(m.name, own[m.name]) if m.name in own else m for m in chosen]

    def compare(self, bench: "Bench", rows: "Sequence[PanelRow]", seeds: int) -> dict[str, Any]:
        """Return the comparison with what was published, as JSON; {} where there are no figures."""
        from aarlab.testbed.models.catalogue import catalogue_of
        from aarlab.testbed.running.against_published import Ran, compared, differences

        if self.figures is None:
            return {}
        info, known = bench.task.info, catalogue_of(data_root())
        by_path = ", by path: not compared with the hub's commits" if self.asked.weak else ""
        ran = Ran(
            pair=f"{known.pair(self.pair).title}{by_path}",
            epochs=self.made.training.epochs,
            seeds=seeds,
            baseline_seeds=self.asked.baseline_seeds,
            train_rows=info.n_train,
            test_rows=len(bench.rows),
            computed=_computed(),
        )
        gap = bench.judge.gap(info.name, bench.split)
        return {
            "data": self.figures.name,
            "source": self.figures.source,
            "figures": [
                {"figure": one.figure}
                | {k: getattr(one, k).model_dump() for k in ("ours", "published", "difference")}
                for one in compared(self.figures, gap, rows)
            ],
            "settings_differ": differences(self.made, self.plain, self.figures, ran),
            "left_out": dict(self.figures.left_out),
            "ran": ran._asdict(),
        }

    def show(self, found: dict[str, Any], console: Console) -> None:
        """Print the comparison, and in words how the settings differ."""
        from aarlab.testbed.running.against_published import NOT_PUBLISHED

        if self.figures is None:
            text = f"no published figures for {self.data.name}: there are some for chat, math, code"
            console.print(text, highlight=False, soft_wrap=True)
            return
        table = Table(title=f"against the published figures of {found['data']}")
        for head in ("figure", "ours", "published", "difference"):
            table.add_column(head, justify="left" if head == "figure" else "right")
        for one in found["figures"]:
            cells = [_span(one["ours"]), _span(one["published"]), _span(one["difference"], "+")]
            table.add_row(one["figure"], *cells)
        console.print(table)
        lines = [
            "95 % intervals: ours cover rows and seeds, published ones their seeds, differences "
            "both.",
            *(f"settings differ: {said}" for said in found["settings_differ"]),
            *([] if found["settings_differ"] else ["settings: as published, as far as known"]),
            NOT_PUBLISHED,
            *(f"no published figure of {name}: {why}" for name, why in found["left_out"].items()),
        ]
        for line in lines:
            console.print(line, highlight=False, soft_wrap=True)


def _span(one: dict[str, Any], sign: str = "") -> str:
    low, high = f"{one['low']:{sign}.3f}", f"{one['high']:{sign}.3f}"
    return f"{one['value']:{sign}.3f} [{low}, {high}]"


def _computed() -> str:
    from aarlab.testbed.models.compute import choose
    from aarlab.testbed.settings import load_settings

    settings = load_settings()
    compute = choose(settings.device, settings.dtype)
    return f"{compute.dtype} on {compute.device}"


def prepared(asked: Asked, console: Console) -> PresetRun:
    """Build the task of a published setting, or find it; everything is checked before that.

    Seeds of teachers and ceilings that an interrupted build trained are kept.
    """
    from aarlab.testbed.models.by_path import pair_of_folders
    from aarlab.testbed.models.catalogue import catalogue_of
    from aarlab.testbed.tasks.making import Workshop
    from aarlab.testbed.tasks.published import published, setting, task_name

    if asked.data is None:
        raise BadInput(
            f"--preset {asked.preset} needs --data FOLDER (train_label, train_unlabel, test)"
        )
    plain, made = setting(asked.preset), setting(asked.preset, asked.epochs or None)
    computed, root = _computed(), data_root()
    if (asked.weak is None) != (asked.strong is None):
        raise BadInput("give --weak and --strong together: the folders of both models")
    if asked.weak is not None and asked.strong is not None:
        if asked.pair:
            raise BadInput("give --pair, or --weak and --strong, not both")
        like = catalogue_of(root).pair(made.pair)
        pair = pair_of_folders(root, asked.weak, asked.strong, like)
    else:
        pair = asked.pair or made.pair
    data = asked.data.resolve()
    name = task_name(data, made, pair)
    console.print(f"{made.title}; {name}, {computed}", highlight=False, soft_wrap=True)
    with Steps(console) as steps:
        shop = Workshop(root, steps.tell, steps.advance)
        built = shop.build_published(data, name, made, pair, asked.baseline_seeds)
    figures = published(data.name.lower())
    return PresetRun(made, plain, built.info.name, pair, data, asked, figures)
