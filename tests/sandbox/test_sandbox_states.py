"""Folders in every state that their AAR can leave them in: measured, read, written and removed."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sandbox_attempts import python, shell

from aarlab.core.errors import BadInput, NotFound
from aarlab.sandbox import workspace as workspaces
from aarlab.sandbox.spec import SandboxSpec
from aarlab.sandbox.workspace import (
    FULL,
    DiskUse,
    aar_uid,
    copy_in,
    copy_out,
    copy_out_tree,
    discard_tree,
    disk_use,
    prepare_workspace,
    remove_tree,
)

BLOCK = 4096
FILL = """
import os
os.makedirs("a/b")
open("a/b/f", "w").write("kept")
"""
OPEN = "import os\nfor name in ('a', 'a/b'): os.chmod(name, 0o700)\n"
CLOSED = {
    "the workspace": 'os.chmod("/workspace", 0)',
    "the workspace, to be entered only": 'os.chmod("/workspace", 0o100)',
    "the workspace, to be listed only": 'os.chmod("/workspace", 0o400)',
    "the workspace, to be read only": 'os.chmod("/workspace", 0o500)',
    "a folder": 'os.chmod("a/b", 0)',
    "a folder, to be listed only": 'os.chmod("a/b", 0o400)',
    "all of them": 'for name in ("a/b", "a", "."): os.chmod(name, 0)',
}


@pytest.mark.parametrize("state", CLOSED)
def test_closed_folders_are_opened_again(state: str, spec: SandboxSpec) -> None:
    assert python(spec, FILL + CLOSED[state]).ok
    assert disk_use(spec.workspace) == DiskUse(3 * BLOCK, 3)
    assert copy_out(spec, "a/b/f", 10) == b"kept"
    assert copy_out_tree(spec, ".", 10, 100) == {"a/b/f": b"kept"}
    assert python(spec, OPEN + CLOSED[state]).ok, "the next program finds its workspace"
    copy_in(spec, {"a/b/g": b"new"})
    assert python(spec, OPEN + CLOSED[state]).ok
    prepare_workspace(spec.workspace, spec.uid)
    assert python(spec, OPEN + CLOSED[state]).ok
    remove_tree(spec.workspace)
    assert not spec.workspace.exists()


def test_a_folder_that_is_closed_while_it_runs_is_measured(spec: SandboxSpec) -> None:
    code = (
        "import os, time\nos.mkdir('d')\n"
        "for n in range(30): open(f'd/{n}', 'wb').write(b'x' * 2**20)\n"
        "os.chmod('d', 0); os.chmod('.', 0); time.sleep(50)\n"
    )
    small = replace(spec, limits=replace(spec.limits, disk_mb=8))
    assert python(small, code).killed_by == "disk"


def test_a_folder_that_is_kept_closed_counts_as_full(
    spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shut(name: str | Path, parent: int | None, need: int) -> int:
        if name == "b":
            raise PermissionError(13, "Permission denied")
        return opened(name, parent, need)

    assert python(spec, FILL).ok
    opened = workspaces._open_folder
    monkeypatch.setattr(workspaces, "_open_folder", shut)
    assert disk_use(spec.workspace) == FULL
    with pytest.raises(BadInput, match="closed"):
        copy_out_tree(spec, ".", 10, 100)


@pytest.mark.parametrize("depth", [64, 65, 66, 300])
def test_any_depth_is_measured(depth: int, spec: SandboxSpec) -> None:
    code = "import os\nfor _ in range({}): os.mkdir('d'); os.mkdir('e'); os.chdir('d')"
    # Not in the sandbox, whose watch ends a program that makes folders this deep.
    subprocess.run([sys.executable, "-c", code.format(depth)], cwd=spec.workspace, check=True)
    assert disk_use(spec.workspace) == DiskUse(2 * depth * BLOCK, 2 * depth, deep=depth > 64)


def test_a_workspace_that_is_gone_or_no_folder(tmp_path: Path) -> None:
    gone, link, dangling, loop = (tmp_path / name for name in ("gone", "link", "none", "loop"))
    (tmp_path / "target").mkdir()
    link.symlink_to(tmp_path / "target")
    dangling.symlink_to("/nowhere")
    loop.symlink_to(loop)
    assert disk_use(gone) == DiskUse(0, 0)
    for path in (link, dangling, loop):
        assert disk_use(path) == FULL
        with pytest.raises((BadInput, NotFound)):
            prepare_workspace(path, aar_uid(0))
        remove_tree(path)
        assert not path.is_symlink()
    assert (tmp_path / "target").is_dir()
    discard_tree(gone)


def test_what_cannot_be_removed_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "file").touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(workspaces.os, "unlink", refuse)
    with pytest.raises(PermissionError):
        remove_tree(tmp_path / "w")
    discard_tree(tmp_path / "w")
    assert "could not be removed and stays: [Errno 1]" in caplog.text


@pytest.mark.parametrize("name", ["x" * 300, "数" * 200, "a/" + "y" * 256 + "/z", "f/g"])
def test_names_that_no_file_can_have_are_refused(name: str, spec: SandboxSpec) -> None:
    copy_in(spec, {"f": b""})
    with pytest.raises(BadInput, match=r"cannot be written|not a folder"):
        copy_in(spec, {name: b""})
    with pytest.raises(BadInput, match="no file can have this name"):
        copy_in(spec, {"\ud800": b""})


def test_a_full_disk_of_the_machine_is_no_fault_of_the_workspace(
    spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workspaces.os, "rename", full)
    with pytest.raises(OSError, match="No space left") as caught:
        copy_in(spec, {"f": b""})
    assert not isinstance(caught.value, BadInput)


def test_odd_names_are_removed(spec: SandboxSpec) -> None:
    script = r"""printf x > "$(printf 'a\377')"; mkdir "$(printf '\033[2J')" -- -rf; mkfifo 'p
q'; ln -s loop loop; ln -s /nowhere none; : > "$(printf '%0255d' 0)" """
    assert shell(spec, script).ok
    assert disk_use(spec.workspace).n_entries == 7
    remove_tree(spec.workspace)
    assert not os.path.lexists(spec.workspace)
