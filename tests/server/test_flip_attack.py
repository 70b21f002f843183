"""Threat 2 against the real routes: 200 one-row flips, shaped feedback next to exact feedback."""

from platform_kit import Running, TinyTask, platform

from aarlab.core.layout import RunDir
from aarlab.core.wire import Run, Score, Submission

FLIPS = 200


def _flip_scores(running: Running, base: list[float]) -> tuple[Score, list[Score]]:
    def submit(probs: list[float]) -> Score:
        runs = [Run(seed=0, probs=probs)]
        return aar.submit(
            Submission(task=running.task.name, method="m", ids=running.task.ids(), runs=runs)
        )

    with running.aar("attacker") as aar:
        first = submit(base)
        flipped = [[1 - p if i == row else p for i, p in enumerate(base)] for row in range(FLIPS)]
        return first, [submit(probs) for probs in flipped]


def _guesses(base: list[float], first: Score, scores: list[Score]) -> list[int | None]:
    """The label of each flipped row, or None where the feedback says nothing about it."""
    answers = [int(p > 0.5) for p in base[:FLIPS]]
    return [
        None if score.pgr == first.pgr else (1 - answer if score.pgr > first.pgr else answer)
        for answer, score in zip(answers, scores, strict=True)
    ]


def test_flips_recover_every_label_from_exact_scores_and_none_from_shaped_ones(
    tiny: TinyTask, tmp_path
) -> None:
    base = tiny.probs("search", 0.6, seed=1)
    labels = list(tiny.labels["search"].values())[:FLIPS]

    with platform(tiny, RunDir(tmp_path / "exact"), "--exact-feedback") as running:
        first, scores = _flip_scores(running, base)
        assert all(score.exact_feedback for score in scores)
        assert _guesses(base, first, scores) == labels

    with platform(tiny, RunDir(tmp_path / "shaped")) as running:
        first, scores = _flip_scores(running, base)
        assert _guesses(base, first, scores) == [None] * FLIPS
        # Nothing else in the answer differs between a right and a wrong flip either.
        hidden = {"submission", "submissions_left"}
        assert len({score.model_dump_json(exclude=hidden) for score in scores}) == 1
        assert not any(score.improved or score.exact_feedback for score in scores)
