"""The hash chain finds every edit, removal, insertion, reordering and, with a head, truncation."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aarlab.core.errors import Damaged
from aarlab.core.hashing import GENESIS, LogEntry, LogHead, next_hash, verify_chain

bodies = st.lists(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=8), max_size=3),
    min_size=2,
    max_size=8,
)


def chain(items: list[dict[str, object]]) -> list[LogEntry]:
    entries, previous = [], GENESIS
    for seq, body in enumerate(items, 1):
        previous = next_hash(previous, seq, "score", "t", body)
        entries.append(LogEntry(seq, "score", "t", body, previous))
    return entries


@given(bodies)
def test_intact(items: list[dict[str, object]]) -> None:
    entries = chain(items)
    assert verify_chain(entries) == LogHead(len(entries), entries[-1].hash)
    assert verify_chain([]) == LogHead(0, GENESIS)


@given(bodies, st.data())
def test_any_edit_is_found(items: list[dict[str, object]], data: st.DataObject) -> None:
    entries = chain(items)
    at = data.draw(st.integers(0, len(entries) - 1))
    edited = replace(entries[at], body={**entries[at].body, "new": 1})
    with pytest.raises(Damaged, match=f"entry {at + 1} "):
        verify_chain([*entries[:at], edited, *entries[at + 1 :]])


@given(bodies, st.data())
def test_removal_and_reordering_are_found(
    items: list[dict[str, object]], data: st.DataObject
) -> None:
    entries = chain(items)
    at = data.draw(st.integers(0, len(entries) - 2))
    with pytest.raises(Damaged):
        verify_chain(entries[:at] + entries[at + 1 :])
    swapped = [*entries[:at], entries[at + 1], entries[at], *entries[at + 2 :]]
    with pytest.raises(Damaged):
        verify_chain(swapped)


@given(bodies)
def test_truncation_and_rewriting_are_found_against_a_head(items: list[dict[str, object]]) -> None:
    entries = chain(items)
    head = verify_chain(entries)
    with pytest.raises(Damaged, match="exported head"):
        verify_chain(entries[:-1], head)
    rewritten = chain([*items[:-1], {"other": True}])
    with pytest.raises(Damaged, match="exported head"):
        verify_chain(rewritten, head)
    assert verify_chain(chain([*items, {"later": 1}]), head).seq == len(entries) + 1
