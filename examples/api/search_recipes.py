"""Search recipes on the search split: draw some, then change the best one step by step.

    aarlab task build math
    python examples/api/search_recipes.py math --out best.json
    aarlab testbed run --task math --methods best.json

The figure printed last was chosen as the best of many, so it is too high. `aarlab method verify`
takes a fresh one on hidden rows; `aarlab testbed sweep` does both.
"""

import argparse
import random
from pathlib import Path

import aarlab


def pgr_of(recipe: aarlab.Recipe, task: aarlab.Task, seeds: int) -> float:
    """Return the search PGR, or minus infinity for a recipe that does not run on this task."""
    try:
        score = aarlab.score_method(recipe, task, seeds=seeds)
    except aarlab.MethodFailed:
        return float("-inf")
    if score.pgr is None:
        raise SystemExit(f"{task.info.name} has no clear gap, so there is no PGR to search by")
    return score.pgr.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", help="a built task, see `aarlab task list`")
    parser.add_argument("--draws", type=int, default=10, help="recipes drawn at random")
    parser.add_argument("--steps", type=int, default=10, help="changes tried on the best recipe")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each score")
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    parser.add_argument("--out", type=Path, help="write the best recipe here, as JSON")
    given = parser.parse_args()

    task, rng = aarlab.open_task(given.task), random.Random(given.seed)
    best = aarlab.Recipe()  # plain training on the weak labels
    best_pgr = pgr_of(best, task, given.seeds)
    print(f"{best_pgr:+.2f}  {best.describe()}")
    for number in range(given.draws + given.steps):
        draw = number < given.draws
        recipe = aarlab.sample_recipe(rng) if draw else aarlab.mutate_recipe(best, rng)
        found = pgr_of(recipe, task, given.seeds)
        if found > best_pgr:
            best, best_pgr = recipe, found
            print(f"{best_pgr:+.2f}  {best.describe()}")
    print(f"best of {given.draws + given.steps + 1}: {best_pgr:+.2f} on search (flattered)")
    if given.out is not None:
        given.out.write_text(best.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
