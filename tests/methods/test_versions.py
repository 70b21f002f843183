"""Versions of tasks: another content under a known name never destroys the old one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from gaussian_task import make_task
from method_world import OPTIONS
from typer.testing import CliRunner

from aarlab.cli.main import cli
from aarlab.core.errors import AarlabError, BadInput, Conflict, NotFound
from aarlab.core.layout import UNVERSIONED, DataRoot, RunDir, note_use, parse_task, uses
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.tasks.build import Built, build_task
from aarlab.testbed.tasks.removing import remove_task
from aarlab.testbed.tasks.task import open_public
from aarlab.vault.vault import Vault

OTHER = OPTIONS.model_copy(update={"ceiling_seeds": 3})  # the public side is the same


def build(root: DataRoot, seed: int = 0, options=OPTIONS) -> Built:
    data, source = make_task(seed=seed)
    return build_task(data, options, root, Sources(source, source))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataRoot, Built, Built]:
    root = DataRoot(tmp_path_factory.mktemp("two"))
    return root, build(root), build(root, seed=1)


@pytest.fixture
def copied(two: tuple[DataRoot, Built, Built], tmp_path: Path) -> tuple[DataRoot, Built, Built]:
    shutil.copytree(two[0].path, tmp_path / "home")
    return DataRoot(tmp_path / "home"), *two[1:]


def unversioned(root: DataRoot, version: str) -> str:
    """Turn a version into a task as it was built before there were versions."""
    for side in (root.public, root.vault):
        (side / f"gauss@{version}").rename(side / "gauss")
    root.default_file("gauss").unlink(missing_ok=True)
    return str(json.loads((root.public / "gauss" / "task.json").read_text())["content_hash"][:12])


def test_another_content_is_another_version_and_the_first_one_stays(two) -> None:
    root, first, second = two
    assert (first.before, second.before) == (None, first.version) != (None, second.version)
    versions = [(one.version, one.is_default) for one in root.versions("gauss")]
    assert versions == [(first.version, False), (second.version, True)]
    assert root.folder_of("gauss") == f"gauss@{second.version}"
    old = open_public(root.public_task(f"gauss@{first.version}"))
    assert old.info == first.info != second.info == open_public(root.public_task("gauss")).info
    for built in (first, second):
        vault = Vault(root.pin(f"gauss@{built.version}"))
        assert vault.tasks() == ["gauss"]
        ids = {e.id for e in open_public(root.public_task(f"gauss@{built.version}")).search}
        assert set(vault.truth("gauss", "search").ids_N) == ids


def test_the_first_content_again_is_served_and_is_the_default_again(copied) -> None:
    root, first, second = copied
    again = build(root)
    assert again.from_cache and (again.version, again.before) == (first.version, second.version)
    assert root.find_task("gauss").version == first.version and len(root.versions("gauss")) == 2


def test_what_only_the_vault_shows_is_another_version_too(copied) -> None:
    root, first, _ = copied
    third = build(root, options=OTHER)
    assert third.info.content_hash == first.info.content_hash and third.version != first.version
    assert len(root.versions("gauss")) == 3


def test_the_certify_split_is_added_to_the_same_version(tmp_path: Path) -> None:
    root = DataRoot(tmp_path)
    data, source = make_task()
    sources = Sources(source, source)
    bare = build_task(data, OPTIONS.model_copy(update={"certify": False}), root, sources)
    assert not (root.vault_task("gauss") / "features" / "certify.npz").exists()
    full = build_task(data, OPTIONS, root, sources)
    assert full.version == bare.version and not full.from_cache
    assert (root.vault_task("gauss") / "features" / "certify.npz").exists()
    assert build_task(data, OPTIONS.model_copy(update={"certify": False}), root, sources).from_cache


def test_tasks_built_before_there_were_versions_open_and_stay(copied) -> None:
    root, first, second = copied
    shutil.rmtree(root.public / f"gauss@{second.version}")
    shutil.rmtree(root.vault / f"gauss@{second.version}")
    old = unversioned(root, first.version)
    assert root.folder_of("gauss") == root.folder_of(f"gauss@{old}") == "gauss"
    assert open_public(root.public_task("gauss")).info == first.info
    assert build(root).from_cache and not (root.path / "default" / "gauss").exists()
    assert build(root, seed=1).before == old
    assert root.folder_of("gauss") == f"gauss@{second.version}"
    assert open_public(root.public_task(f"gauss@{old}")).info == first.info
    made_before = replace(root, pinned={"gauss": UNVERSIONED})
    assert made_before.public_task("gauss") == root.public / "gauss"
    assert Vault(made_before).truth("gauss", "search").ids_N


def test_a_damaged_task_of_old_is_repaired_where_it_lies(copied) -> None:
    root, first, _ = copied
    unversioned(root, first.version)
    (root.vault / "gauss" / "baselines.npz").write_bytes(b"")
    again = build(root)
    assert not again.from_cache and (root.vault / "gauss" / "baselines.npz").stat().st_size
    assert not (root.vault / f"gauss@{first.version}").exists()


def test_a_crash_while_a_version_is_published_leaves_the_old_default(copied, monkeypatch) -> None:
    root, _, second = copied
    real, moved = Path.rename, []

    def dying(self: Path, target: Path) -> Path:
        moved.append(self.name)
        if self.name == "public":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", dying)
    with pytest.raises(KeyboardInterrupt):
        build(root, options=OTHER)
    monkeypatch.undo()
    assert moved == ["vault", "public"]
    assert root.find_task("gauss").version == second.version
    assert build(root, options=OTHER).before == second.version


def test_without_the_small_file_one_version_is_meant_and_of_two_none(copied) -> None:
    root, first, second = copied
    root.default_file("gauss").unlink()
    with pytest.raises(Conflict, match="aarlab task use gauss@"):
        root.folder_of("gauss")
    assert remove_task(root, f"gauss@{second.version}") == first.version
    assert root.folder_of("gauss") == f"gauss@{first.version}"


@pytest.mark.parametrize("wrong", ["", "a/b", "../x", "gauss@", "gauss@12", "a@0123456789ab/../x"])
def test_names_that_could_leave_the_folder_are_refused(wrong: str) -> None:
    with pytest.raises(BadInput):
        parse_task(wrong)


def test_a_version_that_is_not_here_is_named_with_how_to_get_it(two) -> None:
    root, first, second = two
    with pytest.raises(NotFound) as caught:
        root.find_task("gauss@0123456789ab")
    said = str(caught.value)
    assert "gauss@0123456789ab" in said and "import the same data" in said
    assert f"gauss@{first.version}" in said and f"gauss@{second.version}" in said


def test_removal_takes_both_sides_and_moves_the_default(copied, monkeypatch) -> None:
    root, first, second = copied
    real = Path.rename

    def dying(self: Path, target: Path) -> Path:
        if self.parent.name == "public":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", dying)
    with pytest.raises(KeyboardInterrupt):  # after the hidden side is gone
        remove_task(root, f"gauss@{second.version}")
    monkeypatch.undo()
    with pytest.raises(NotFound, match="vault side"):
        root.check_task(f"gauss@{second.version}")
    assert remove_task(root, f"gauss@{second.version}") == first.version
    assert remove_task(root, "gauss") is None and root.versions("gauss") == []
    assert not [p for p in root.path.rglob("*") if "gauss@" in p.name or ".removing" in p.name]
    assert not root.default_file("gauss").exists()


def said(root: DataRoot, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """Output of a command, or its error, blanks and line breaks taken as one."""
    monkeypatch.setenv("AARLAB_HOME", str(root.path))
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(cli, list(words))
    if isinstance(done.exception, AarlabError):
        return f"{done.exception.code}: {done.exception}"
    assert done.exit_code == 0, done.output + repr(done.exception)
    return " ".join(done.output.split())


def test_remove_refuses_while_a_campaign_needs_the_version(copied, monkeypatch, tmp_path) -> None:
    root, first, second = copied
    old, run = f"gauss@{first.version}", RunDir(tmp_path / "mein Lauf ä")
    run.path.mkdir()
    run.spec.write_text("{}")
    note_use(root, run, {"gauss": first.version})
    assert said(root, monkeypatch, "task", "remove", "gauss").startswith("bad_input: gauss has 2")
    refused = said(root, monkeypatch, "task", "remove", old, "--yes", "--force")
    assert "conflict" in refused and str(run.path) in refused and "have not ended" in refused
    event = {"at": "2026-11-20T08:00:00", "kind": "campaign_finished"}
    run.events.write_text(json.dumps(event) + "\n")
    run.export.write_text("{}")
    assert "--force" in said(root, monkeypatch, "task", "remove", old, "--yes")
    assert "use --yes" in said(root, monkeypatch, "task", "remove", old, "--force")
    listed = said(root, monkeypatch, "task", "list")
    assert old in listed and f"gauss@{second.version}" in listed and "built, default" in listed
    assert f"removed {old}" in said(root, monkeypatch, "task", "remove", old, "--force", "--yes")
    assert [one.version for one in root.versions("gauss")] == [second.version]
    shutil.rmtree(run.path)
    assert uses(root) == [] and not list((root.path / "uses").iterdir())


def test_use_changes_what_the_bare_name_means(copied, monkeypatch) -> None:
    root, first, _ = copied
    said(root, monkeypatch, "task", "use", f"gauss@{first.version}")
    assert root.find_task("gauss").version == first.version
    shown = said(root, monkeypatch, "task", "show", "gauss", "--rows", "0")
    assert first.info.content_hash in shown
