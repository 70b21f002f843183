"""Methods verified with texts: a table of their own, until a person accepts them."""

import pytest
from test_standings import ROLES, run, said

from aarlab.core.delivery import (
    BEFORE_BLIND,
    EQUALITY_ASKED,
    TRAIN_ROWS_PUBLIC,
    given,
    one_table_note,
    probes,
    stamps,
    why_apart,
    why_open,
)
from aarlab.core.ranking import leaderboard, n_tried, placed
from aarlab.core.wire import Evidence, StyleShift, Verification

SEEN = Evidence(
    programs=[], reached=[], compiled=0, row_texts=0, examples=[], truncated=False, forwarded=0.0,
    answer_equality=True,
)  # fmt: skip


def blind(snapshot: str, aar: str, value: float, **changes: object) -> Verification:
    return run(snapshot, aar, value, delivery="blind", train_rows="hidden", **changes)


def texts(snapshot: str, aar: str, value: float, **changes: object) -> Verification:
    because = "the method says READS_TEXT = True"
    return run(snapshot, aar, value, open_because=because, train_rows="hidden", **changes)


RUNS = [
    texts("o", "rowan", 1.4), blind("a", "rowan", 0.3), texts("g", "guards", 0.5),
    blind("b", "edda", 0.6), texts("q", "edda", 0.2), texts("m", "human", 0.9),
    blind("h", "human", 0.1), texts("x", "edda", 1.9),
]  # fmt: skip


def lines(*accepted: str, kept_out: tuple[str, ...] = ()) -> list[tuple[str, int | None, bool]]:
    board = placed(RUNS, "t", kept_out, ROLES, accepted)
    return [(line.run.snapshot, line.rank, line.apart) for line in board]


def test_open_methods_follow_the_others_without_a_rank_and_guards_keep_their_place() -> None:
    assert lines(kept_out=("x",)) == [
        ("b", 1, False), ("g", None, False), ("a", 2, False), ("h", None, False),
        ("o", None, True), ("m", None, True), ("q", None, True), ("x", None, True)]  # fmt: skip


def test_what_a_person_accepted_ranks_with_the_blind_ones() -> None:
    assert lines("o", "m", kept_out=("x",)) == [
        ("o", 1, False), ("m", None, False), ("b", 2, False), ("g", None, False), ("a", 3, False),
        ("h", None, False), ("q", None, True), ("x", None, True)]  # fmt: skip
    assert n_tried(placed(RUNS, "t", ("x",), ROLES)) == 5, "open ones were tried too"


def test_entries_say_which_table_and_why() -> None:
    entries = leaderboard(RUNS, ["t"], ("x",), ROLES)
    assert [(e.snapshot, e.apart) for e in entries][-3:] == [("o", True), ("m", True), ("q", True)]
    top = {e.snapshot: e for e in entries}
    assert (top["b"].delivery, top["b"].open_because, top["b"].stamps) == ("blind", "", [])
    assert top["o"].open_because == top["g"].open_because == "the method says READS_TEXT = True"
    assert not any(e.rank for e in entries if e.apart)


SHIPS = "more than logic needs of numbers (a head has 576): 9,000 numbers"


def test_what_ships_data_stands_apart_though_blind_until_a_person_accepts_it() -> None:
    runs = [
        blind("s", "rowan", 0.9, ships=SHIPS), blind("a", "edda", 0.3),
        blind("g", "guards", 0.5, ships=SHIPS),
    ]  # fmt: skip
    board = placed(runs, "t", (), ROLES)
    assert [(p.run.snapshot, p.rank, p.apart) for p in board] == [
        ("g", None, False), ("a", 1, False), ("s", None, True)]  # fmt: skip
    assert n_tried(board) == 2, "it was tried"
    last = leaderboard(runs, ["t"], (), ROLES)[-1]
    assert (last.apart, last.apart_because) == (True, f"ships data: {SHIPS}")
    assert last.delivery == "blind" and last.open_because == ""
    (first, *_) = leaderboard(runs, ["t"], (), ROLES, accepted=["s"])
    assert (first.snapshot, first.rank, first.apart) == ("s", 1, False)
    assert first.apart_because == f"ships data: {SHIPS}", "why stays visible"


def test_own_code_that_asked_beyond_states_stands_apart_until_a_person_accepts_it() -> None:
    runs = [blind("s", "rowan", 0.9, asked="log-likelihoods"), blind("a", "edda", 0.3)]
    first, last = placed(runs, "t", (), ROLES)
    assert (first.run.snapshot, first.rank) == ("a", 1)
    assert (last.rank, last.apart) == (None, True)
    assert last.apart_because == "its own code asked for log-likelihoods"
    assert placed(runs, "t", (), ROLES, ("s",))[0].rank == 1


def test_what_ships_data_stands_apart_where_all_were_given_texts() -> None:
    old = [run("a", "rowan", 0.3), run("s", "edda", 0.6, ships=SHIPS)]
    assert [(p.run.snapshot, p.rank, p.apart) for p in placed(old, "t", (), ROLES)] == [
        ("a", 1, False), ("s", None, True)]  # fmt: skip


def test_both_reasons_are_named_on_one_line() -> None:
    both = texts("o", "rowan", 1.4, ships="a\nb")
    said = why_apart(both, some_blind=True)
    assert said == r"the method says READS_TEXT = True; ships data: a\nb"
    assert why_apart(both, some_blind=False) == r"ships data: a\nb"
    assert why_apart(blind("a", "edda", 0.3), some_blind=True) == ""


def test_an_old_run_keeps_one_table_and_says_so_once() -> None:
    old = [run("a", "rowan", 0.3), run("b", "edda", 0.6), run("h", "human", 0.4)]
    assert [(p.run.snapshot, p.rank, p.apart) for p in placed(old, "t", (), ROLES)] == [
        ("b", 1, False), ("h", None, False), ("a", 2, False)]  # fmt: skip
    assert one_table_note(old, "t") == f"These methods were {BEFORE_BLIND}."
    assert stamps(old[0]) == (), "one sentence instead of a stamp at each figure"
    assert one_table_note([*old, blind("z", "edda", 0.1)], "t") == ""
    assert one_table_note([], "t") == one_table_note(old, "other") == ""


def test_a_task_that_cannot_be_blind_keeps_one_table_and_names_the_reason() -> None:
    runs = [
        run("a", "rowan", 0.3, open_because="students train blocks"),
        blind("z", "edda", 0.9, task="other"),
    ]
    assert [p.rank for p in placed(runs, "t", (), ROLES)] == [1]
    said = "All these methods were verified with texts: students train blocks."
    assert one_table_note(runs, "t") == said


def test_the_verdict_compares_only_what_stands_in_the_first_table() -> None:
    only_open = said(texts("o", "rowan", 1.4), blind("h", "human", 0.1))
    assert only_open.startswith("No method was verified without texts and without shipped data.")
    both = said(texts("o", "rowan", 1.4), blind("r", "rowan", 0.6), blind("h", "human", 0.1),
                texts("m", "human", 0.9), texts("g", "guards", -0.3))  # fmt: skip
    assert both.startswith("rowan-7 is clearly above the best hand-tuned baseline")
    assert "of name h" in both, "an open baseline is no bar, and an open method no candidate"
    alone = said(blind("r", "rowan", 0.6), texts("m", "human", 0.9), texts("g", "guards", -0.3))
    assert alone.endswith("; no hand-tuned baseline was verified.")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ()),
        ({"train_rows": "public"}, (TRAIN_ROWS_PUBLIC,)),
        ({"evidence": SEEN}, (EQUALITY_ASKED,)),
        ({"train_rows": "public", "evidence": SEEN}, (TRAIN_ROWS_PUBLIC, EQUALITY_ASKED)),
    ],
)
def test_stamps_stand_where_they_are_true(changes, expected) -> None:
    one = blind("a", "rowan", 0.3).model_copy(update=changes)
    assert stamps(one) == expected
    assert all(stamp in given(one) for stamp in expected)


def test_what_a_run_was_given_in_words() -> None:
    assert given(blind("a", "rowan", 0.3)) == "rows without texts, hidden train rows"
    wild = texts("a", "rowan", 0.3).model_copy(update={"open_because": "a\x1b[31m\nb"})
    assert why_open(wild) == "a\\x1b[31m\\nb", "no terminal is written to"
    assert given(wild) == "rows with their texts (a\\x1b[31m\\nb), hidden train rows"
    assert given(run("a", "rowan", 0.3)) == BEFORE_BLIND


def test_probes_in_words() -> None:
    style = StyleShift(how="x", rows=50, flipped=0.28, most=0.3, moved=0.1, readers={})
    seen = SEEN.model_copy(
        update={"changed": {"alone": 0.015}, "style": style, "disagreement": 0.12}
    )
    assert probes(seen) == (
        "answers changed: 1.5% when rows came alone, 28% in another style, "
        "12.0% between two runs with other teachers"
    )
    assert probes(None) == probes(SEEN) == ""
