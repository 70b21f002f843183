"""Files appear whole or not at all; names are safe in paths."""

import os
from pathlib import Path

import pytest

from aarlab.core.errors import BadInput
from aarlab.core.files import end_of, write_atomic, write_json, write_new
from aarlab.core.hashing import canonical_json, content_hash
from aarlab.core.ids import checked_name, new_id


def test_write_atomic_sets_the_mode_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "truth.jsonl"
    write_atomic(target, "a", 0o600)
    write_json(target, {"b": 1}, 0o600)
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.read_text() == '{\n "b": 1\n}\n'


def test_a_failed_write_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x"
    write_atomic(target, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(target, "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_the_first_of_two_writers_makes_the_file(tmp_path: Path) -> None:
    target = tmp_path / "token"
    assert write_new(target, "first", 0o600) and not write_new(target, "second", 0o644)
    assert target.read_text() == "first" and target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["token"]


@pytest.mark.parametrize("bad", ["", "../x", "a/b", "A", "-a", "a..b", "x" * 65, "a\n"])
def test_names_that_are_unsafe_in_paths_are_refused(bad: str) -> None:
    with pytest.raises(BadInput, match="task name"):
        checked_name(bad, "task")


def test_ids_and_hashes() -> None:
    assert checked_name(new_id("sub"), "submission").startswith("sub_")
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_the_end_of_a_file_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert end_of(path, 10) == ""
    path.write_bytes(b"eins\nzwei\ndrei\n" + b"\xff\n")
    assert end_of(path, 100) == "eins\nzwei\ndrei\n\ufffd\n"
    assert end_of(path, 9) == "drei\n\ufffd\n" == end_of(path, 11)
    assert end_of(path, 0) == ""
    path.write_text("a line without an end")
    assert end_of(path, 3) == "end"
