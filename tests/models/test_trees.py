"""Token trees: an answer sees its prompt and itself at the right positions, and is there once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aarlab.testbed.models.answers import Branch, Layout, batches, grow_trees

TOKENS = st.lists(st.integers(1, 50), min_size=1, max_size=12).map(tuple)
ROWS = st.lists(st.tuples(st.sampled_from([(1,), (2, 3), (4, 5, 6, 7)]), TOKENS), max_size=25)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 30), st.integers(1, 80))
def test_each_answer_reads_as_if_it_stood_alone(
    rows: list[tuple[tuple[int, ...], tuple[int, ...]]], n_branches: int, n_batch: int
) -> None:
    layout = Layout(n_branches, n_batch)
    answers = [(trunk, Branch(i, tokens)) for i, (trunk, tokens) in enumerate(rows)]
    seen = []
    for batch in batches(grow_trees(answers, layout), layout):
        for item in np.unique(batch.items_M):
            trunk, tokens = rows[item]
            (places,) = np.nonzero(batch.items_M == item)
            row = batch.rows_M[places[0]]
            columns = batch.columns_M[places]
            assert tuple(batch.tokens_BT[row, columns]) == tokens
            for order, column in enumerate(columns):
                sees = np.flatnonzero(batch.visible_BTT[row, column])
                assert tuple(batch.tokens_BT[row, sees]) == trunk + tokens[: order + 1]
                assert list(batch.positions_BT[row, sees]) == list(range(len(sees)))
                assert batch.before_M[places[order]] == sees[-2]
            seen.append(int(item))
        assert batch.visible_BTT.any(axis=2).all(), "a token that sees nothing makes NaN"
    assert sorted(seen) == list(range(len(rows)))


def test_sizes_are_kept_and_prompts_shared() -> None:
    answers = [((1, 2, 3), Branch(i, (4,) * 10)) for i in range(12)]
    trees = grow_trees(answers, Layout(branches=40))
    assert [len(tree.branches) for tree in trees] == [4, 4, 4]
    packed = list(batches(trees, Layout(branches=40, batch=90)))
    assert [batch.tokens_BT.shape for batch in packed] == [(2, 43), (1, 43)]
    long = [((1,) * 100, Branch(i, (4,) * 45)) for i in range(2)]
    assert len(grow_trees(long, Layout(branches=10))) == 1, "a long prompt is worth sharing"
