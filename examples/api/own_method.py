"""Score a method of your own next to built-in ones, on the search split of a built task.

    aarlab task build math
    python examples/api/own_method.py math

The labels of the split stay in the vault; only figures over the whole split come back.
"""

import argparse

import numpy as np

import aarlab


def agreeing_teachers(
    task: aarlab.TrainTask, student: aarlab.StudentFactory, seed: int
) -> aarlab.Predictor:
    """Train on the mean label of all weak teachers, on the half where they are most confident."""
    mean_N = task.teacher_labels_SN.mean(axis=0)
    confidence_N = np.abs(mean_N - 0.5)
    kept = np.flatnonzero(confidence_N >= np.median(confidence_N))
    options = student.options.model_copy(update={"seed": seed})
    return student.new(options).fit([task.inputs[row] for row in kept], mean_N[kept])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", help="a built task, see `aarlab task list`")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()

    task = aarlab.open_task(given.task)
    print(f"{task.info.title}: {len(task.train)} train rows, {len(task.search)} search rows")
    print(task.gap().said())

    methods: list[aarlab.MethodLike] = [agreeing_teachers, "vanilla", "guard_majority"]
    for score in aarlab.score_methods(methods, task, seeds=given.seeds, permuted=True):
        if score.failed:
            print(f"{score.method}: {score.failed}")
        elif score.pgr is None or score.permuted is None:
            print(f"{score.method:20} accuracy {score.transfer:.3f}")
        else:
            low, high = score.pgr.low, score.pgr.high
            print(
                f"{score.method:20} PGR {score.pgr.value:+.2f} [{low:+.2f}, {high:+.2f}], "
                f"on permuted weak labels {score.permuted.value:+.2f}"
            )


if __name__ == "__main__":
    main()
