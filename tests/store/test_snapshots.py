"""Snapshots are data: refused ones leave nothing behind, kept ones come back byte for byte."""

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aarlab.core.errors import AarlabError, BadInput
from aarlab.core.wire import NewSnapshot, SnapshotFile
from aarlab.store.snapshots import Author, SnapshotRepo, decode

AUTHOR = Author("a1", "2026-01-02T03:04:05.000006+00:00")


def _new(files: dict[str, bytes], parent: str | None = None, message: str = "") -> NewSnapshot:
    listed = [
        SnapshotFile(path=path, content_b64=base64.b64encode(content).decode())
        for path, content in files.items()
    ]
    return NewSnapshot(name="m", message=message, parent=parent, files=listed)


@pytest.fixture
def repo(tmp_path: Path) -> SnapshotRepo:
    made = SnapshotRepo(tmp_path / "snapshots.git")
    made.open()
    made.open()  # a second start finds it there
    return made


def _write(repo: SnapshotRepo, files: dict[str, bytes], **more) -> str:
    new = _new(files, **more)
    return repo.write(new, decode(new), AUTHOR)


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


def test_lineage_is_in_git(repo: SnapshotRepo, tmp_path: Path) -> None:
    first = _write(repo, {"method.py": b"1"})
    second = _write(repo, {"method.py": b"2"}, parent=first)
    git = ["git", f"--git-dir={tmp_path / 'snapshots.git'}"]
    shown = subprocess.run(
        [*git, "log", "--format=%H %P %an %ae", second], capture_output=True, text=True, check=True
    ).stdout
    assert shown.splitlines()[0] == f"{second} {first} a1 a1@aarlab.invalid"
    fsck = subprocess.run([*git, "fsck", "--strict"], capture_output=True, text=True, check=True)
    assert "error" not in fsck.stderr


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


def test_configuration_and_hooks_of_the_machine_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A global filter and a template hook that would run on every write, were they read."""
    home, mark = tmp_path / "home", tmp_path / "ran"
    (home / "template/hooks").mkdir(parents=True)
    hook = home / "template/hooks/reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(0o755)
    (home / ".gitconfig").write_text(
        f"[init]\n templateDir = {home}/template\n[core]\n hooksPath = {home}/template/hooks\n"
        f'[filter "f"]\n clean = touch {mark}\n[core]\n attributesFile = {home}/attributes\n'
    )
    (home / "attributes").write_text("* filter=f\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    repo = SnapshotRepo(tmp_path / "snapshots.git")
    repo.open()
    commit = _write(repo, {"method.py": b"x"})
    assert _read(repo, commit) == {"method.py": b"x"} and not mark.exists()


def test_a_failing_git_says_so(repo: SnapshotRepo, tmp_path: Path) -> None:
    with pytest.raises(AarlabError, match=r"git ls-tree failed"):
        repo.read("0" * 40)
    leftovers = [path for path in (tmp_path / "snapshots.git").iterdir() if "write-" in path.name]
    assert leftovers == []
