"""Snapshots are data: refused ones leave nothing behind, kept ones come back byte for byte."""

import base64
import os
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored import copy_to, stored_files

from aarlab.core.errors import BadInput, Damaged
from aarlab.core.wire import NewSnapshot, SnapshotFile
from aarlab.store import repository
from aarlab.store.blobs import Folder
from aarlab.store.repository import Author, SnapshotRepo
from aarlab.store.snapshots import decode

AUTHOR = Author("a1", "2026-01-02T03:04:05.000006+00:00")


def _new(files: dict[str, bytes], parent: str | None = None, message: str = "") -> NewSnapshot:
    listed = [
        SnapshotFile(path=path, content_b64=base64.b64encode(content).decode())
        for path, content in files.items()
    ]
    return NewSnapshot(name="m", message=message, parent=parent, files=listed)


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder(tmp_path / "snapshots.git")
    return Folder(request.getfixturevalue("s3")).sub(f"{tmp_path.name}/snapshots.git")


@pytest.fixture
def repo(folder: Folder) -> SnapshotRepo:
    made = SnapshotRepo(folder)
    made.open()
    made.open()  # a second start finds it there
    return made


def _write(repo: SnapshotRepo, files: dict[str, bytes], **more) -> str:
    new = _new(files, **more)
    return repo.commit(repo.write_files(decode(new)), new, AUTHOR)


def _git(folder: Folder, copy: Path, *command: str, stdin: bytes = b"") -> str:
    """Real git on the repository; one in a bucket is copied as it lies there."""
    path = folder.local or copy_to(folder, copy)
    done = subprocess.run(
        ["git", f"--git-dir={path}", *command], input=stdin, capture_output=True, check=True
    )
    assert b"error" not in done.stderr, done.stderr
    return done.stdout.decode()


def _read(repo: SnapshotRepo, commit: str) -> dict[str, bytes]:
    return {file.path: base64.b64decode(file.content_b64) for file in repo.read(commit)}


def test_bytes_come_back(repo: SnapshotRepo) -> None:
    files = {
        "method.py": b"x = 1\r\n",
        "deep/er/data.bin": bytes(range(256)) * 10,
        "empty": b"",
        "ünï cödé.txt": b"\x00\xff",
        "-rf": b"option-like name",
        "recipe.json": b"{}",
    }
    commit = _write(repo, files, message="a\n\0b\ud7ff")
    assert len(commit) == 40 and _read(repo, commit) == files


@given(content=st.binary(max_size=300), name=st.text(st.characters(codec="utf-8"), min_size=1))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_path_is_refused_or_kept(repo: SnapshotRepo, content: bytes, name: str) -> None:
    files = {"method.py": b"", name[:50]: content}
    try:
        commit = _write(repo, files)
    except BadInput:
        return
    assert _read(repo, commit) == files


def test_git_reads_lineage_difference_and_finds_no_fault(
    repo: SnapshotRepo, folder: Folder, tmp_path: Path
) -> None:
    first = _write(repo, {"method.py": b"1\n", "a/b.txt": b"b", "a.txt": b"a", "a-b": b"-"})
    second = _write(repo, {"method.py": b"2\n", "a/b.txt": b"b", "é/ü": b""}, parent=first)
    copy = tmp_path / "copy.git"
    shown = _git(folder, copy, "log", "--format=%H %P %an %ae %at", second)
    assert shown.splitlines()[0] == f"{second} {first} a1 a1@aarlab.invalid 1767323045"
    difference = _git(folder, copy, "-c", "core.quotePath=false", "diff", first, second)
    assert "-1\n+2\n" in difference and "b.txt" not in difference and "é/ü" in difference
    _git(folder, copy, "fsck", "--strict", "--full")
    refs = _git(folder, copy, "for-each-ref", "--format=%(objectname) %(refname)")
    assert set(refs.split("\n")[:-1]) == {f"{c} refs/snapshots/{c}" for c in (first, second)}


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8)


@given(
    files=st.dictionaries(
        st.lists(names, min_size=1, max_size=3).map("/".join), st.binary(max_size=40), max_size=6
    )
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.parametrize("folder", ["local"], indirect=True)
def test_git_makes_the_same_tree(repo: SnapshotRepo, folder: Folder, tmp_path, files) -> None:
    files = {"method.py": b"x", **files}
    try:
        tree = repo.write_files(decode(_new(files)))
    except BadInput:
        return
    scratch = tmp_path / "index"
    scratch.unlink(missing_ok=True)
    lines = []
    for path, content in files.items():
        blob = _git(folder, folder.local, "hash-object", "-w", "--stdin", stdin=content).strip()
        lines.append(f"100644 {blob}\t{path}\0")
    index = {"GIT_INDEX_FILE": str(scratch), "PATH": os.environ["PATH"]}
    git = ["git", f"--git-dir={folder.local}"]
    subprocess.run(
        [*git, "update-index", "-z", "--index-info"],
        input="".join(lines).encode(),
        env=index,
        check=True,
    )
    made = subprocess.run([*git, "write-tree"], env=index, capture_output=True, check=True)
    assert made.stdout.decode().strip() == tree


def test_what_the_git_command_wrote_is_read(tmp_path: Path) -> None:
    """Campaigns of the first release wrote their snapshots with git."""
    folder = Folder(tmp_path / "snapshots.git")
    subprocess.run(["git", "init", "-q", "--bare", str(folder.local)], check=True)
    blob = _git(folder, tmp_path, "hash-object", "-w", "--stdin", stdin=b"x = 1\n").strip()
    inner = _git(folder, tmp_path, "mktree", stdin=f"100644 blob {blob}\tb.py\n".encode()).strip()
    lines = f"100644 blob {blob}\tmethod.py\n040000 tree {inner}\ta\n".encode()
    tree = _git(folder, tmp_path, "mktree", stdin=lines).strip()
    who = ["-c", "user.name=a", "-c", "user.email=a@aarlab.invalid"]
    commit = _git(folder, tmp_path, *who, "commit-tree", tree, stdin=b"m").strip()
    repo = SnapshotRepo(folder)
    repo.open()
    assert _read(repo, commit) == {"method.py": b"x = 1\n", "a/b.py": b"x = 1\n"}
    later = _write(repo, {"method.py": b"2"}, parent=commit)
    assert commit in _git(folder, tmp_path, "rev-list", later)


def test_writing_again_changes_nothing(repo: SnapshotRepo, folder: Folder) -> None:
    first, before = _write(repo, {"method.py": b"1", "copy.py": b"1"}), stored_files(folder)
    assert _write(repo, {"method.py": b"1", "copy.py": b"1"}) == first
    assert stored_files(folder) == before


def test_a_write_that_dies_leaves_no_half_object(tmp_path: Path, monkeypatch) -> None:
    repo = SnapshotRepo(Folder(tmp_path / "snapshots.git"))
    repo.open()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            _write(repo, {"method.py": b"1"})
    assert not [path for path in (tmp_path / "snapshots.git/objects").rglob("*") if path.is_file()]
    assert _read(repo, _write(repo, {"method.py": b"1"})) == {"method.py": b"1"}


BAD_PATHS = [
    "../method.py",
    "/etc/passwd",
    "a/../../b",
    "a//b",
    "./a",
    "a/.",
    "a/",
    ".git/config",
    "a/.GIT/hooks/post-commit",
    ".gitmodules",
    "git~1/config",
    ".g\u200cit/config",
    "a\\b",
    "a\0b",
    "a\nb",
    "\u202eevil",
    "e\u0301.py",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_bad_paths_are_refused(path: str) -> None:
    with pytest.raises(BadInput, match="path"):
        decode(_new({"method.py": b"", path: b"x"}))


def test_other_refusals() -> None:
    twice = _new({"method.py": b""})
    with pytest.raises(BadInput, match="twice"):
        decode(twice.model_copy(update={"files": twice.files * 2}))
    with pytest.raises(BadInput, match=r"method\.py"):
        decode(_new({"other.py": b""}))
    with pytest.raises(BadInput, match=r"method\.py"):
        decode(_new({"sub/method.py": b""}))
    with pytest.raises(BadInput, match="both a file and a folder"):
        decode(_new({"method.py": b"", "a": b"", "a/b": b""}))
    with pytest.raises(BadInput, match="5,000,000 bytes"):
        decode(_new({"method.py": b"", "big": bytes(5_000_001)}))
    bad = NewSnapshot(name="m", files=[SnapshotFile(path="method.py", content_b64="%%%")])
    with pytest.raises(BadInput, match="base64"):
        decode(bad)


@pytest.mark.parametrize("folder", ["local"], indirect=True)
def test_a_changed_or_removed_object_is_found(repo: SnapshotRepo, folder: Folder) -> None:
    with pytest.raises(Damaged, match="0/0000"):
        repo.read("0" * 40)
    commit = _write(repo, {"method.py": b"honest", "sub/other.py": b"1"})
    assert folder.local is not None
    objects = sorted(path for path in (folder.local / "objects").rglob("*") if path.is_file())
    assert len(objects) == 5
    for path in objects:
        good = path.read_bytes()
        for bad in (
            zlib.compress(zlib.decompress(good) + b"#"),
            zlib.compress(zlib.decompress(good)[:-1] + b"#"),
            good[:-6],
            b"",
        ):
            path.write_bytes(bad)
            with pytest.raises(Damaged):
                repo.read(commit)
        path.unlink()
        with pytest.raises(Damaged, match="restore"):
            repo.read(commit)
        path.write_bytes(good)
    assert len(repo.read(commit)) == 2


def test_a_link_in_a_tree_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "snapshots.git")
    subprocess.run(["git", "init", "-q", "--bare", str(folder.local)], check=True)
    blob = _git(folder, tmp_path, "hash-object", "-w", "--stdin", stdin=b"/etc/passwd").strip()
    tree = _git(folder, tmp_path, "mktree", stdin=f"120000 blob {blob}\tlink\n".encode()).strip()
    repo = SnapshotRepo(folder)
    commit = repo.commit(tree, _new({"method.py": b""}), AUTHOR)
    with pytest.raises(Damaged, match="more than files"):
        repo.read(commit)


def test_a_name_that_is_no_text_in_a_tree_is_damage() -> None:
    with pytest.raises(Damaged, match="not UTF-8"):
        list(repository.tree_entries(b"100644 \xff\0" + b"s" * 20))
