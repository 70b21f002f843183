"""Blobs by their hash: kept once, given back as they were, in a folder and in a bucket."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored import overwrite, stored_files

from aarlab.core.errors import BadInput, Damaged, NotFound, Unavailable
from aarlab.core.hashing import sha256_hex
from aarlab.store.blobs import Blobs, Folder


@pytest.fixture(params=["local", "s3", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder(tmp_path / "blobs")
    base = request.getfixturevalue("s3") if request.param == "s3" else "memory://"
    return Folder(f"{base}/{tmp_path.name}/blobs")


@given(data=st.binary(max_size=2000))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_bytes_come_back(folder: Folder, data: bytes) -> None:
    blobs = Blobs(folder)
    digest = blobs.put(data)
    assert digest == sha256_hex(data) == blobs.put(data)
    assert blobs.get(digest) == data


def test_sizes_and_removal(folder: Folder) -> None:
    blobs = Blobs(folder)
    one, two = blobs.put(b"1"), blobs.put(b"22")
    assert blobs.sizes([one, two]) == {one: 1, two: 2} and blobs.all() == {one, two}
    blobs.drop([one, sha256_hex(b"never there")])
    assert blobs.all() == {two} and blobs.get(two) == b"22"
    with pytest.raises(NotFound):
        blobs.sizes([one])
    blobs.drop([two])
    assert blobs.all() == set()


def test_unknown_changed_and_malformed(folder: Folder) -> None:
    blobs = Blobs(folder)
    with pytest.raises(NotFound):
        blobs.get("0" * 64)
    with pytest.raises(BadInput):
        blobs.get("../../etc/passwd")
    digest = blobs.put(b"as it was")
    overwrite(folder, f"{digest[:2]}/{digest[2:]}", b"as it is")
    with pytest.raises(Damaged, match="was changed"):
        blobs.get(digest)


def test_a_file_of_a_folder_is_closed_to_others(tmp_path: Path) -> None:
    digest = Blobs(Folder(tmp_path / "blobs")).put(b"x")
    path = tmp_path / "blobs" / digest[:2] / digest[2:]
    assert path.stat().st_mode & 0o077 == 0
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_store_that_does_not_answer_and_a_wrong_url(s3: str, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Unavailable, match="does not answer"):
        Blobs(Folder(f"{s3}/x")).put(b"x")
    with pytest.raises(BadInput, match="nosuch"):
        Folder("nosuch://bucket")
    with pytest.raises(BadInput, match="credentials") as caught:
        Folder("s3://key:secret@bucket")
    assert "secret" not in str(caught.value)
    with pytest.raises(BadInput):
        Folder("s3://bucket/any*")


def test_what_is_there_is_not_written_again(folder: Folder) -> None:
    folder.keep({"a/b": b"1", "c": b"2"})
    folder.keep({"a/b": b"1", "d": b"3"})
    assert stored_files(folder) == {"a/b": b"1", "c": b"2", "d": b"3"}
    assert folder.read(["c", "a/b"]) == {"c": b"2", "a/b": b"1"} and folder.read([]) == {}


@pytest.mark.parametrize("name", ["run[1]", "a b", "x*", "ü%20", "a::b", "#h"])
def test_a_run_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    blobs = Blobs(Folder(tmp_path / name))
    assert blobs.get(blobs.put(b"x")) == b"x"
    assert [path.name for path in tmp_path.iterdir()] == [name]
