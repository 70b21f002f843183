"""How often the intervals hold the truth, on private tasks drawn from a population model.

    python benchmarks/coverage.py --out benchmarks/coverage.md

Each task has rows, problems, weak teachers, seeds and baselines of its own, and methods whose true
PGR is known, because the model says what their accuracy is over all problems, teachers and seeds.
The figures go through `core/pgr.py` and `core/ranking.py`, as a campaign's do. "Before" leaves out
what was added on 2026-11-28: the seed part's floor, eight public teachers instead of five,
corrected bounds with t quantiles, and the shrunk figure of the best method.

Legend: G problems, N rows, S seeds, T teachers, M methods.
"""

import argparse
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from aarlab.core.headline import Both, Drop
from aarlab.core.pgr import Outcomes, SeedSpread, pgr, seed_spread, shrunk_best
from aarlab.core.ranking import widening
from aarlab.core.wire import Interval

HERE = Path(__file__).resolve().parent
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Counts = dict[str, list[float]]
SEEDS, METHODS = (1, 3, 5, 8), (1, 5, 20, 50)
N_TEACHERS, N_CEILINGS, FRESH = 16, 16, 8
PUBLIC_BEFORE, PUBLIC_NOW = 5, 8
WEAK, CEILING = 0.62, 0.87


@dataclass(frozen=True, slots=True)
class Population:
    """Standard deviations on the probit scale; the noise of a single answer has 1.

    Problem effects are strong: rows of one problem correlate by about .4. `teacher` moves the
    accuracy of a student by about .023 from one weak teacher to another; measured on two builds of
    the embedded math task, 13 plain students each, it was .014 to .022. Their teachers' own
    accuracy differed by .000 to .012 there (`weak`), without correlation to their students'.
    """

    problems: int = 100
    rows_each: int = 4
    problem: float = 0.9
    row: float = 0.6
    own_problem: float = 0.4
    teacher: float = 0.1
    teacher_problem: float = 0.3
    weak: float = 0.03
    seed: float = 0.05
    true_mean: float = 0.3
    true_sd: float = 0.12

    @property
    def groups_N(self) -> tuple[str, ...]:
        return tuple(f"g{i}" for i in np.arange(self.problems).repeat(self.rows_each))

    def latent_sd(self, taught: Sequence[float]) -> float:
        """Standard deviation of everything that decides an answer, given that of the teachers."""
        parts = (1.0, self.problem, self.row, self.own_problem, self.seed, *taught)
        return float(np.sqrt(sum(part**2 for part in parts)))


class Split(NamedTuple):
    """Right or wrong of all arms on the rows of one split; plain students have a teacher each."""

    transfer_MSN: Bools
    weak_TN: Bools
    ceiling_SN: Bools
    plain_TN: Bools


class Teachers(NamedTuple):
    """What a teacher does to the accuracy of its students, and its own, on every split."""

    student_T: Floats
    own_T: Floats


def draw_teachers(rng: np.random.Generator, of: Population) -> Teachers:
    student_T, own_T = rng.standard_normal((2, N_TEACHERS), dtype=np.float32)
    return Teachers(of.teacher * student_T, of.weak * own_T)


def draw_split(
    rng: np.random.Generator, of: Population, true_M: Floats, used_S: Sequence[int], t: Teachers
) -> Split:
    """Draw a split's rows and answers; `used_S` are the teachers that the methods' seeds met.

    True PGRs (M,) belong to accuracies over all problems, teachers and seeds of the population.
    """
    n_rows = of.problems * of.rows_each

    def normal(*shape: int) -> Floats:
        return rng.standard_normal(shape, dtype=np.float32)

    def by_problem(sd: float, *shape: int) -> Floats:
        return sd * normal(*shape, of.problems).repeat(of.rows_each, axis=-1)

    shared_N = by_problem(of.problem) + of.row * normal(n_rows)
    errors_TN = by_problem(of.teacher_problem, N_TEACHERS)

    def answers(accuracy_M: Floats, taught_SN: Floats, taught: Sequence[float]) -> Bools:
        """Return right or wrong (M, S, N) of methods with these accuracies in the population."""
        at_M = (ndtri(accuracy_M) * of.latent_sd(taught)).astype(np.float32)
        own_MN = by_problem(of.own_problem, len(at_M)) + shared_N
        seed_MS = of.seed * normal(len(at_M), len(taught_SN)) + at_M[:, None]
        latent = own_MN[:, None] + taught_SN + seed_MS[:, :, None]
        return np.asarray(latent + normal(*latent.shape) > 0)

    by_student, by_own = ((sd, of.teacher_problem) for sd in (of.teacher, of.weak))
    taught_TN = t.student_T[:, None] + errors_TN
    accuracy_M = WEAK + true_M * (CEILING - WEAK)
    plain = np.array([WEAK + 0.15 * (CEILING - WEAK)])
    untaught_SN = np.zeros((N_CEILINGS, n_rows), np.float32)
    return Split(
        answers(accuracy_M, taught_TN[list(used_S)], by_student),
        answers(np.array([WEAK]), t.own_T[:, None] + errors_TN, by_own)[0],
        answers(np.array([CEILING]), untaught_SN, ())[0],
        answers(plain, taught_TN, by_student)[0],
    )


@dataclass(frozen=True, slots=True)
class World:
    """A private task: methods with their true PGR, scored with `seeds` seeds on both splits."""

    groups_N: tuple[str, ...]
    true_M: Floats
    search: Split
    selection: Split

    def outcomes(self, split: Split, method: int, floor: bool) -> Outcomes:
        spread: SeedSpread | None = seed_spread(split.plain_TN) if floor else None
        return Outcomes(
            split.transfer_MSN[method], split.weak_TN, split.ceiling_SN, self.groups_N, spread
        )

    def figures(self, split: Split, floor: bool) -> list[Interval]:
        return [pgr(self.outcomes(split, m, floor)) for m in range(len(self.true_M))]


def draw_world(
    rng: np.random.Generator, of: Population, n_methods: int, n_seeds: int, n_public: int
) -> World:
    """Draw a task. Seed i meets the i-th public teacher on search, the i-th fresh on selection."""
    true_M = (of.true_mean + of.true_sd * rng.standard_normal(n_methods)).astype(np.float32)
    teachers = draw_teachers(rng, of)
    public = [i % n_public for i in range(n_seeds)]
    fresh = [N_TEACHERS - FRESH + i % FRESH for i in range(n_seeds)]
    return World(
        of.groups_N,
        true_M,
        draw_split(rng, of, true_M, public, teachers),
        draw_split(rng, of, true_M, fresh, teachers),
    )


def holds(figure: Interval, true: float) -> float:
    return float(figure.low <= true <= figure.high)


def lower(figure: Interval, tried: int, before: bool) -> float:
    """Return the lower bound for `tried` methods together, as it was and as it is."""
    if before:
        return figure.value - float(ndtri(1 - 0.025 / tried)) * figure.stderr
    return figure.value - widening(figure, tried) * (figure.value - figure.low)


def plain_coverage(of: Population, n_tasks: int, n_seeds: int) -> Counts:
    """Coverage of every method's interval, before and after, and where the seed part was 0."""
    rng, found = np.random.default_rng([1, n_seeds]), Counts()
    for _ in range(n_tasks):
        for before, n_public in ((True, PUBLIC_BEFORE), (False, PUBLIC_NOW)):
            world, when = draw_world(rng, of, 5, n_seeds, n_public), "before" if before else "after"
            for name in ("search", "selection"):
                split: Split = getattr(world, name)
                figures = world.figures(split, floor=not before)
                for method, (figure, true) in enumerate(zip(figures, world.true_M, strict=True)):
                    held = holds(figure, true)
                    found.setdefault(f"{name} {when}", []).append(held)
                    found.setdefault(f"{name} half {when}", []).append(
                        (figure.high - figure.low) / 2
                    )
                    if n_seeds > 1 and seed_spread(split.transfer_MSN[method]).variance == 0:
                        found.setdefault(f"{name} zero {when}", []).append(held)
    return found


def chosen_coverage(of: Population, n_tasks: int, n_seeds: int, n_methods: int) -> Counts:
    """What is said of the best of M on selection, and of all M together."""
    rng, found = np.random.default_rng([2, n_seeds, n_methods]), Counts()

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for _ in range(n_tasks):
        world = draw_world(rng, of, n_methods, n_seeds, PUBLIC_NOW)
        split = world.selection
        sets = {floor: world.figures(split, floor) for floor in (False, True)}
        for when, figures in (("before", sets[False]), ("after", sets[True])):
            best = int(np.argmax([figure.value for figure in figures]))
            true = float(world.true_M[best])
            figure = figures[best]
            if when == "after":
                note("plain held", holds(figure, true))
                others = [m for m in range(n_methods) if m != best]
                figure = shrunk_best(
                    [split.transfer_MSN[m] for m in (best, *others)],
                    world.outcomes(split, best, floor=True),
                )
            note(f"held {when}", holds(figure, true))
            note(f"bias {when}", figure.value - true)
            bounds = [lower(one, n_methods, when == "before") for one in figures]
            note(f"joint {when}", float((np.array(bounds) <= world.true_M).all()))
    return found


def drops(of: Population, n_tasks: int, n_seeds: int, n_public: int) -> Counts:
    """How far the best of 10 honest methods on search falls, and how sure that it fell looks."""
    rng, found = np.random.default_rng([3, n_seeds, n_public]), Counts()
    for _ in range(n_tasks):
        world = draw_world(rng, of, 11, n_seeds, n_public)
        both = [
            Both(a, b)
            for a, b in zip(
                world.figures(world.search, True), world.figures(world.selection, True), strict=True
            )
        ]
        claimed = max(both[1:], key=lambda one: one.search.value)
        drop = Drop(claimed, both[0])
        plain = np.hypot(claimed.search.stderr, claimed.selection.stderr)
        for name, value in (
            ("drop", claimed.drop), ("less vanilla", drop.value),
            ("z before", claimed.drop / plain), ("z after", drop.z),
        ):  # fmt: skip
            found.setdefault(name, []).append(value)
    return found


def share(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}" if values else "–"


def sections(n_tasks: int, of: Population) -> Iterator[str]:
    """Yield the Markdown of each table as soon as its figures are there."""
    yield (
        "## 95 % intervals of methods that were not chosen\n\nShare that holds the true PGR, five "
        'methods a task; "0": of those whose seed part came out as exactly 0, and how often it '
        "did; half: mean half-width.\n\n| seeds | split | before | after | 0 before | 0 after | "
        "how often 0 | half before | half after |\n|---:|---|---:|---:|---:|---:|---:|---:|---:|\n"
    )
    for n_seeds in SEEDS:
        found = plain_coverage(of, n_tasks, n_seeds)
        for name in ("search", "selection"):
            zero = found.get(f"{name} zero before", [])
            cells = [share(found.get(f"{name} {key}", [])) for key in
                     ("before", "after", "zero before", "zero after")]  # fmt: skip
            cells.append(f"{len(zero) / len(found[f'{name} before']):.2f}" if zero else "–")
            cells += [share(found[f"{name} half {when}"])[:-1] for when in ("before", "after")]
            yield f"| {n_seeds} | {name} | {' | '.join(cells)} |\n"
    for title, spread in (
        ("methods that differ (true PGR .3, SD .12)", of),
        ("methods that are all alike: the most that choosing flatters", replace(of, true_sd=0.0)),
    ):
        yield (
            f"\n## The best of M on selection, and bounds for all M: {title}\n\n"
            "Before: the plain interval and figure of the best. After: its shrunk figure, shown in "
            "the headline; plain after: its plain interval with the floor. Bias: mean of figure "
            "less true PGR. Joint: share of tasks in which the corrected lower bounds of all M "
            "hold (97.5 % wanted at least).\n\n| seeds | M | before | plain after | headline after "
            f"| bias before | bias after | joint before | joint after |\n|{'---:|' * 9}\n"
        )
        for n_seeds in SEEDS:
            for n_methods in METHODS:
                found = chosen_coverage(spread, n_tasks, n_seeds, n_methods)
                cells = [share(found[key]) for key in ("held before", "plain held", "held after")]
                cells += [f"{np.mean(found[f'bias {when}']):+.3f}" for when in ("before", "after")]
                cells += [share(found[f"joint {when}"]) for when in ("before", "after")]
                yield f"| {n_seeds} | {n_methods} | {' | '.join(cells)} |\n"
    yield (
        "\n## Search minus selection of honest methods\n\nThe best of 10 on search, and a plain "
        "one beside it. z: the drop in standard errors; a claim is flagged where z is above 3.\n\n"
        "| seeds | public teachers | drop, SD | less a plain one, SD | z before, SD | z after, SD "
        f"| flagged before | flagged after |\n|{'---:|' * 8}\n"
    )
    for n_seeds, n_public in ((2, 5), (5, 5), (5, 8), (8, 8)):
        found = drops(of, n_tasks, n_seeds, n_public)
        cells = [
            f"{np.mean(found[k]):+.3f}, {np.std(found[k]):.3f}" for k in ("drop", "less vanilla")
        ]
        cells += [f"{np.std(found[k]):.2f}" for k in ("z before", "z after")]
        cells += [share([float(z > 3) for z in found[k]]) for k in ("z before", "z after")]
        yield f"| {n_seeds} | {n_public} | {' | '.join(cells)} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200, help="private tasks for each figure")
    parser.add_argument("--out", type=Path, default=HERE / "coverage.md")
    given = parser.parse_args()
    machine = f"{cpu_count()} cores {platform.machine()}"
    error = np.sqrt(0.95 * 0.05 / given.tasks)
    head = (
        f"# Coverage\n\n{datetime.now(UTC):%Y-%m-%d}, {machine}; {given.tasks} private tasks for "
        "each figure, each with rows, problems, teachers, seeds and baselines of its own (a "
        f"coverage of .95 has a standard error of {error:.3f} where a task gives one figure). Made "
        "by `benchmarks/coverage.py`, whose docstrings describe the population.\n\n"
    )
    text = head
    for part in sections(given.tasks, Population()):
        text += part
        print(part, end="", flush=True)
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
