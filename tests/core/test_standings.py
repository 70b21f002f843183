"""The one ranking rule, short names, what joins search scores to code, and the verdict in words."""

from aarlab.core.headline import Standings, verdict
from aarlab.core.joining import Frozen, Sent, snapshots_of
from aarlab.core.ranking import Made, Role, leaderboard, n_tried, placed, short_names
from aarlab.core.showing import HUES, looks_of
from aarlab.core.wire import Interval, Verification

ROLES: dict[str, Role] = {"rowan": "aar", "edda": "aar", "human": "human", "guards": "guard"}


def run(
    snapshot: str, aar: str, value: float, half: float = 0.05, **changes: object
) -> Verification:
    estimate = Interval(
        value=value, stderr=half / 2, low=value - half, high=value + half, n_rows=9, n_seeds=2,
        covers=["rows"],
    )  # fmt: skip
    known = {
        "id": f"ver_{snapshot}",
        "snapshot": snapshot,
        "aar": aar,
        "method": f"name {snapshot}",
    }
    known |= {"task": "t", "split": "selection", "ablation": "none", "run_seeds": [1, 2]}
    return Verification.model_validate({**known, "state": "done", "estimate": estimate, **changes})


def said(
    *runs: Verification, kept_out: tuple[str, ...] = (), suspected: tuple[str, ...] = ()
) -> str:
    return verdict(Standings(placed(runs, "t", kept_out, ROLES), {"r": "rowan-7"}, suspected))


def test_baselines_stand_in_their_place_without_a_rank_and_what_is_out_stands_last() -> None:
    runs = [run("a", "rowan", 0.3), run("g", "guards", 0.5), run("b", "edda", 0.6),
            run("x", "edda", 0.9), run("h", "human", 0.1)]  # fmt: skip
    board = placed(runs, "t", {"x"}, ROLES)
    assert [(line.run.snapshot, line.rank) for line in board] == [
        ("b", 1), ("g", None), ("a", 2), ("h", None), ("x", None)]  # fmt: skip
    entries = leaderboard(runs, ["t"], {"x"}, ROLES, {"b": "edda-1"})
    assert [(e.snapshot, e.rank, e.short) for e in entries] == [
        ("b", 1, "edda-1"), ("g", None, ""), ("a", 2, ""), ("h", None, "")]  # fmt: skip
    assert {e.n_tried for e in entries} == {3}, "AARs' methods, also those that are out"


def test_what_is_not_clearly_above_the_teacher_is_listed_by_time_without_a_rank() -> None:
    """The higher figure of two that may both be 0 says nothing about which method is better."""
    runs = [
        run("late", "rowan", 0.3, 0.4, at="2026-11-28T10:00:00+00:00"),
        run("early", "edda", -0.2, 0.1, at="2026-11-28T09:00:00+00:00"),
        run("above", "edda", 0.1, at="2026-11-28T11:00:00+00:00"),
        run("g", "guards", 0.02, at="2026-11-28T08:00:00+00:00"),
    ]
    board = placed(runs, "t", (), ROLES)
    assert [(line.run.snapshot, line.rank) for line in board] == [
        ("above", 1), ("g", None), ("early", None), ("late", None)]  # fmt: skip
    assert n_tried(board) == 3
    assert said(runs[0], runs[1]) == (
        "No method is clearly above the weak teacher: the one with the highest figure, name late, "
        "has PGR 0.30 [−0.10, 0.70] against 0."
    )


def test_rounding_for_aars_does_not_change_the_order() -> None:
    runs = [run("a", "rowan", 0.3049), run("b", "edda", 0.3051), run("c", "edda", 0.3051)]
    assert [e.snapshot for e in leaderboard(runs, ["t"])] == ["b", "c", "a"]


def test_short_names_are_stable_and_differ() -> None:
    made = [Made("1", "rowan", "x" * 200), Made("2", "human", "vanilla"), Made("3", "rowan", "y"),
            Made("4", "guards", "vanilla"), Made("5", "guards", "rowan-1"), Made("6", "rowan", "z"),
            Made("7", "human", "\x1b[31m"), Made("8", "human", "w" * 90)]  # fmt: skip
    names = short_names(made, ROLES)
    assert names == {"1": "rowan-1", "2": "vanilla", "3": "rowan-2", "4": "guards-1",
                     "5": "guards-2", "6": "rowan-3", "7": "human-2", "8": "human-3"}  # fmt: skip
    assert short_names(made[:3], ROLES).items() <= names.items(), "later methods rename none"
    more = [Made("u", "human", "vanilla", saved=False), Made("v", "rowan", "q", saved=False), *made]
    found = short_names(more, ROLES)
    assert found.items() >= names.items()
    assert (found["u"], found["v"]) == ("human-u1", "rowan-u1")


def test_search_scores_join_the_code_that_the_aar_names() -> None:
    frozen = [Frozen("A", "ada", "lines"), Frozen("B", "ada", "blend"), Frozen("C", "ada", "blend"),
              Frozen("D", "bea", "lines")]  # fmt: skip
    sent = [Sent("cites", "ada", "other name", "B"), Sent("posted", "ada", "x", None),
            Sent("named", "ada", "lines", None), Sent("unclear", "ada", "blend", None),
            Sent("theft", "eve", "lines", None), Sent("both", "ada", "lines", "B")]  # fmt: skip
    cited = [("ada", "posted", "C"), ("ada", "posted", "A"), ("eve", "theft", "A"),
             ("eve", "unclear", "B")]  # fmt: skip
    assert snapshots_of(sent, frozen, cited) == {
        "cites": "B", "posted": "C", "named": "A", "both": "B"}  # fmt: skip


def test_the_verdict_names_the_bar_that_no_method_clears() -> None:
    guard, human = run("g", "guards", 0.40), run("h", "human", 0.22, 0.03)
    best = run("r", "rowan", 0.46, 0.15)
    assert said(guard, human, best) == (
        "No method is clearly above the best guard: the best, rowan-7, has PGR 0.46 [0.31, 0.61] "
        "against 0.40 [0.35, 0.45] of name g."
    )
    low = run("g", "guards", -0.4)
    assert said(low, human, best) == (
        "rowan-7 is clearly above the best hand-tuned baseline: PGR 0.46 [0.31, 0.61] against 0.22 "
        "[0.19, 0.25] of name h."
    )
    assert said(low, run("h", "human", 0.4), best).startswith(
        "No method is clearly above the best hand-tuned baseline, though rowan-7 is clearly above "
        "the best guard and the weak teacher: PGR 0.46"
    )
    weak = said(low, human, run("r", "rowan", 0.05, 0.1))
    assert weak.startswith("No method is clearly above the weak teacher, though rowan-7 is clearly")
    assert weak.endswith("above the best guard: PGR 0.05 [−0.05, 0.15] against 0.")


def test_the_bar_is_the_highest_figure_of_a_guard_though_it_may_be_0() -> None:
    """Such a guard stands lower on the board, yet its figure is higher."""
    unsure, sure = run("g", "guards", 0.5, 0.6), run("f", "guards", 0.1)
    assert said(unsure, sure, run("r", "rowan", 0.46, 0.15)).endswith(
        "rowan-7, has PGR 0.46 [0.31, 0.61] against 0.50 [−0.10, 1.10] of name g."
    )


def test_the_verdict_claims_no_more_than_was_compared() -> None:
    best = run("r", "rowan", 0.46, 0.15)
    assert (
        said()
        == said(run("g", "guards", 0.2))
        == ("No method was verified, so nothing is known about any method on hidden rows.")
    )
    assert "no guard and no hand-tuned baseline was verified" in said(best)
    assert said(best, run("h", "human", 0.1)).endswith("; no guard was verified.")
    assert said(best, run("g", "guards", 0.1)).endswith("; no hand-tuned baseline was verified.")
    assert "rowan-7 (suspected by an audit, not decided yet)" in said(best, suspected=("r",))
    other = run("e", "edda", 0.2, 0.02)
    assert "name e" in said(best, other, run("g", "guards", -0.3), kept_out=("r",))
    search_only = run("g", "guards", 0.1, split="certify")
    assert "no guard" in said(best, search_only), "only figures of the selection split count"


def test_the_more_methods_were_tried_the_more_a_clear_one_needs() -> None:
    guard, best = run("g", "guards", 0.2), run("r", "rowan", 0.3)
    assert said(guard, best).startswith("rowan-7 is clearly above the best guard")
    many = [run(f"s{n}", "edda", 0.0) for n in range(60)]
    assert said(guard, best, *many).startswith("No method is clearly above the best guard")


def test_each_aar_has_one_look() -> None:
    names = [f"aar{n}" for n in range(16)]
    looks = looks_of(names)
    assert len(set(looks.values())) == 16 and looks_of(names[:5]).items() <= looks.items()
    assert (looks["aar7"].hue, looks["aar7"].turn) == (0, 1) and len(set(HUES)) == len(HUES)
