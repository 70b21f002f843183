"""Files in and out of a workspace that an AAR has full control of."""

import os
import shutil
from pathlib import Path

import pytest
from sandbox_attempts import python, shell

from aarlab.core.errors import BadInput, NotFound
from aarlab.sandbox.spec import SandboxSpec
from aarlab.sandbox.workspace import (
    AARS,
    VERIFIERS,
    aar_uid,
    campaign_uid,
    copy_in,
    copy_out,
    copy_out_tree,
    prepare_workspace,
    remove_tree,
)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "vault" / "truth.jsonl"
    path.parent.mkdir(mode=0o700)
    path.write_text("label 1")
    return path


def test_files_go_in_and_come_out(either: SandboxSpec) -> None:
    copy_in(either, {"method/method.py": b"print(6 * 7)", "notes.txt": b"x"})
    done = python(
        either, "exec(open('method/method.py').read()); open('method/out', 'w').write('o')"
    )
    assert done.stdout == b"42\n"
    assert copy_out(either, "method/out", 10) == b"o"
    found = copy_out_tree(either, "method", max_files=5, max_bytes=100)
    assert found == {"method.py": b"print(6 * 7)", "out": b"o"}
    assert set(copy_out_tree(either, ".", 5, 100)) == {
        "method/method.py",
        "method/out",
        "notes.txt",
    }


def test_files_belong_to_the_aar_alone(spec: SandboxSpec) -> None:
    copy_in(spec, {"method/method.py": b""})
    for path in (spec.workspace, *spec.workspace.rglob("*")):
        facts = path.stat()
        assert facts.st_uid == (aar_uid(0) or os.getuid())
        assert facts.st_mode & 0o077 == 0


def test_planted_links_are_not_followed_out(spec: SandboxSpec, secret: Path) -> None:
    script = 'ln -s "$1" file; ln -s "$2" folder; ln -s folder again; ln -s /etc/passwd within'
    assert shell(spec, script, secret, secret.parent).ok
    assert (spec.workspace / "file").read_text() == "label 1", "the trap is set"
    for name in ("file", "folder/truth.jsonl", "again/truth.jsonl", "within"):
        with pytest.raises(BadInput, match="link"):
            copy_out(spec, name, 1000)
    with pytest.raises(BadInput, match="link"):
        copy_out_tree(spec, ".", 10, 1000)
    with pytest.raises(BadInput, match="link"):
        copy_out_tree(spec, "folder", 10, 1000)


def test_planted_links_are_not_followed_in(spec: SandboxSpec, secret: Path) -> None:
    assert shell(spec, 'ln -s "$1" file; ln -s "$2" folder', secret, secret.parent).ok
    copy_in(spec, {"file": b"mine"})
    assert not (spec.workspace / "file").is_symlink()
    with pytest.raises(BadInput, match="link"):
        copy_in(spec, {"folder/new": b"mine"})
    assert secret.read_text() == "label 1"
    assert [p.name for p in secret.parent.iterdir()] == ["truth.jsonl"]


def test_special_files_and_sizes(spec: SandboxSpec) -> None:
    assert shell(
        spec, "mkfifo pipe; mkdir d many; touch many/1 many/2 many/3; head -c 100 /dev/zero > big"
    ).ok
    for name, message in (("pipe", "regular"), ("d", "regular"), ("big", "larger than the 99")):
        with pytest.raises(BadInput, match=message):
            copy_out(spec, name, 99)
    assert len(copy_out(spec, "big", 100)) == 100
    with pytest.raises(BadInput, match="more than 2 files"):
        copy_out_tree(spec, "many", max_files=2, max_bytes=1000)
    with pytest.raises(BadInput, match="is a folder"):
        copy_in(spec, {"d": b""})
    assert sorted(p.name for p in spec.workspace.iterdir()) == ["big", "d", "many", "pipe"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "", "a\0b", "."])
def test_paths_that_leave_are_refused(name: str, spec: SandboxSpec) -> None:
    with pytest.raises(BadInput, match="relative to the workspace"):
        copy_in(spec, {name: b""})
    with pytest.raises(BadInput, match="relative to the workspace"):
        copy_out(spec, name, 10)


def test_what_is_missing_is_said(spec: SandboxSpec, tmp_path: Path) -> None:
    for name in ("none", "none/none"):
        with pytest.raises(NotFound, match="none"):
            copy_out(spec, name, 10)
    with pytest.raises(NotFound, match="workspace"):
        copy_out(SandboxSpec(tmp_path / "gone"), "x", 10)


def test_uids_are_reserved_and_distinct() -> None:
    if os.geteuid() == 0:
        assert len({aar_uid(index) for index in range(100)}) == 100
        assert min(aar_uid(index) or 0 for index in range(100)) >= 61_000
    else:
        assert aar_uid(0) is None
    for index in (-1, 4000):
        with pytest.raises(BadInput, match="reserved"):
            aar_uid(index)


def test_two_campaigns_hardly_ever_share_a_uid() -> None:
    def uids(run: str, numbers: range) -> set[int | None]:
        return {campaign_uid(Path("/runs") / run, number, numbers) for number in range(9)}

    first, second = uids("first", AARS), uids("second", AARS)
    if os.geteuid() == 0:
        assert len(first) == len(second) == 9 and not first & second
        assert first == uids("first", AARS) and not first & uids("first", VERIFIERS)
    for number in (-1, len(AARS)):
        with pytest.raises(BadInput, match="has uids for"):
            campaign_uid(Path("/runs"), number, AARS)


def test_a_link_in_the_place_of_a_workspace_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o755)
    (tmp_path / "aar").symlink_to(target)
    with pytest.raises(BadInput, match="not a folder"):
        prepare_workspace(tmp_path / "aar", aar_uid(0))
    assert target.stat().st_mode & 0o777 == 0o755


def deep_tree(top: Path) -> None:
    """Deeper than Python's stack, with a link and an empty folder at each step, closed at the end.

    In a sandbox such a tree is made within the tenth of a second before the watch looks first.
    """
    folder = os.open(top, os.O_RDONLY)
    for _ in range(2000):
        for name in ("d", "empty"):
            os.mkdir(name, dir_fd=folder)
        os.symlink(top.parent / "vault", "link", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.mkfifo("pipe", dir_fd=folder)
    os.fchmod(folder, 0)
    os.close(folder)


def test_a_tree_deeper_than_the_stack_is_removed_and_no_link_followed(
    secret: Path, tmp_path: Path
) -> None:
    top = tmp_path / "aar"
    top.mkdir()
    deep_tree(top)
    with pytest.raises(RecursionError):
        shutil.rmtree(top, ignore_errors=True)
    remove_tree(top)
    assert not top.exists() and secret.read_text() == "label 1"
    remove_tree(top)


def test_a_name_that_is_no_text_is_refused(spec: SandboxSpec) -> None:
    assert shell(spec, "mkdir m; touch m/$(printf 'a\\377b')").ok
    with pytest.raises(BadInput, match="not UTF-8") as caught:
        copy_out_tree(spec, "m", 10, 1000)
    assert str(caught.value).isascii()
