"""Lineage, differences, tar files and copies of snapshots."""

import io
import tarfile
import time

import pytest
from http_kit import http, problem_of, snapshot_of
from hypothesis import given
from hypothesis import strategies as st
from platform_kit import Running

from aarlab.core.errors import NotFound
from aarlab.store.snapshots import MAX_FILE_LINES, differences, tar_of, tree_sha256


def test_lineage_goes_back_to_the_first_and_on_to_the_children(running: Running, aar) -> None:
    first = aar.put_snapshot(snapshot_of({"method.py": "x = 1"}))
    second = aar.put_snapshot(snapshot_of({"method.py": "x = 2"}, parent=first.id))
    with running.aar("heir") as heir:
        third = heir.put_snapshot(snapshot_of({"method.py": "x = 3"}, parent=second.id))
        other = heir.put_snapshot(snapshot_of({"method.py": "x = 4"}, parent=second.id))
        assert heir.lineage(third.id).ancestors == [second, first]
    found = aar.lineage(second.id)
    assert (found.snapshot, found.ancestors, found.children) == (second, [first], [third, other])
    with pytest.raises(NotFound):
        aar.lineage("0" * 40)


def test_a_diff_is_against_the_parent_or_any_other(running: Running, aar) -> None:
    old = {"method.py": "a = 1\nb = 2\n", "gone.py": "x\n", "same.py": "s\n", "w.bin": b"\xff\0"}
    new = {"method.py": "a = 1\nb = 3\n", "new.py": "y\n", "same.py": "s\n", "w.bin": b"\xfe\0"}
    first = aar.put_snapshot(snapshot_of(old))
    second = aar.put_snapshot(snapshot_of(new, parent=first.id))
    third = aar.put_snapshot(snapshot_of(new | {"new.py": "z\n"}))
    made = aar.diff(second.id)
    assert (made.snapshot, made.against) == (second.id, first.id)
    by_path = {file.path: file for file in made.files}
    assert list(by_path) == ["gone.py", "method.py", "new.py", "w.bin"]
    lines = by_path["method.py"].diff.split("\n")
    assert lines[:2] == ["--- a/method.py", "+++ b/method.py"]
    assert "-b = 2" in lines and "+b = 3" in lines and " a = 1" in lines
    assert (by_path["new.py"].change, by_path["gone.py"].change) == ("added", "removed")
    assert by_path["new.py"].diff.startswith("--- /dev/null\n+++ b/new.py\n")
    assert (by_path["w.bin"].omitted, by_path["w.bin"].diff) == ("binary", "")
    assert [file.path for file in aar.diff(third.id, against=second.id).files] == ["new.py"]
    root = aar.diff(first.id)
    assert root.against is None and {file.change for file in root.files} == {"added"}
    assert aar.diff(second.id, against=second.id).files == []
    for bad in ("0" * 40, "HEAD", "../x"):
        with pytest.raises(NotFound):
            aar.diff(second.id, against=bad)


def test_a_tar_is_the_same_each_time_and_holds_the_files(running: Running, aar) -> None:
    files = {"method.py": "x", "data/é.txt": "ü", f"{'d' * 90}/{'f' * 90}.py": "long"}
    made = aar.put_snapshot(snapshot_of(files))
    again = aar.put_snapshot(snapshot_of(files, name="other"))
    packed = aar.snapshot_tar(made.id)
    assert packed == aar.snapshot_tar(again.id)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        entries = tar.getmembers()
        assert {entry.name: tar.extractfile(entry).read().decode() for entry in entries} == files
        assert {(e.mtime, e.uid, e.mode, e.uname) for e in entries} == {(0, 0, 0o644, "")}
    with http(running, running.token("tar-reader")) as client:
        answer = client.get(f"/v1/snapshots/{made.id}/tar")
        assert answer.headers["Content-Type"] == "application/x-tar"
        assert f"{made.id}.tar" in answer.headers["Content-Disposition"]
        for view in ("tar", "lineage", "diff"):
            code = problem_of(client.get(f"/v1/snapshots/x%00y/{view}")).code
            assert code in ("not_found", "bad_input")  # PostgreSQL takes no such text at all


def test_copied_code_is_seen(running: Running, aar) -> None:
    files = {"method.py": "copied = True\n", "b.py": "1"}
    first = aar.put_snapshot(snapshot_of(files))
    mine_again = aar.put_snapshot(snapshot_of(files, name="again", parent=first.id))
    assert first.same_as == mine_again.same_as == [], "an AAR does not copy from itself"
    with running.aar("copier") as copier:
        copy = copier.put_snapshot(snapshot_of(files, name="mine"), key="copy")
        assert copy.same_as == [first.id, mine_again.id]
        assert copier.put_snapshot(snapshot_of(files, name="mine"), key="copy") == copy
        changed = copier.put_snapshot(snapshot_of(files | {"b.py": "2"}))
        renamed = copier.put_snapshot(snapshot_of({"method.py": "copied = True\n", "c.py": "1"}))
        assert changed.same_as == renamed.same_as == []
        assert copy in copier.snapshots(aar="copier")
    with running.operator() as operator:
        assert copy in operator.export().snapshots
        logged = [r.body for r in operator.log() if r.kind == "snapshot"]
        assert {**copy.model_dump(mode="json")} in logged


contents = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.binary(max_size=40))


@given(contents, contents)
def test_a_difference_is_named_exactly_where_there_is_one(old, new) -> None:
    found = {file.path: file for file in differences(old, new)}
    assert set(found) == {path for path in old | new if old.get(path) != new.get(path)}
    for path, file in found.items():
        assert file.omitted or file.diff or not (old.get(path) or new.get(path))
    assert (tree_sha256(old) == tree_sha256(new)) == (old == new)
    assert tar_of(old) == tar_of(dict(reversed(old.items())))


def test_large_files_are_named_only_and_slow_ones_bounded() -> None:
    half = MAX_FILE_LINES // 2 - 1
    before = {f"{i}": "\n".join(str(n % 97) for n in range(half)).encode() for i in range(8)}
    after = {f"{i}": "\n".join(str(n * 7 % 89) for n in range(half)).encode() for i in range(8)}
    before["big"], after["big"] = b"x\n" * MAX_FILE_LINES, b"y\n" * MAX_FILE_LINES
    before["wide"], after["wide"] = b"x" * 100_000, b"y" * 100_000
    start = time.monotonic()
    found = {file.path: file.omitted for file in differences(before, after)}
    assert time.monotonic() - start < 10
    assert found["big"] == found["wide"] == "too large"
    assert list(found.values()).count("") == 4, "the lines that are compared are bounded in total"


def test_the_same_files_twice_in_a_second_are_two_snapshots(running: Running, aar) -> None:
    new = snapshot_of({"method.py": "twice = 1"})
    made = [aar.put_snapshot(new) for _ in range(5)]
    assert len({snapshot.id for snapshot in made}) == 5
    assert aar.snapshots(aar=made[0].aar) == made
