"""A campaign is bound to the versions of its tasks, and can be read without them."""

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from gaussian_task import make_task
from method_world import OPTIONS
from toy_campaign import command, finished, toy_spec
from typer.testing import CliRunner

from aarlab.campaign.runner import (
    _locked,
    at_rest,
    bind,
    create,
    open_spec,
    run_campaign,
    verify_again,
    write_export,
)
from aarlab.campaign.spec import CampaignSpec
from aarlab.campaign.status import is_running
from aarlab.campaign.stored import Outdated, stored_figures
from aarlab.cli.main import cli
from aarlab.core.errors import BadInput, Conflict, Damaged, NotFound
from aarlab.core.holding import noted
from aarlab.core.layout import UNVERSIONED, DataRoot, RunDir, users_of
from aarlab.core.wire import CampaignExport, NewVerification
from aarlab.server.dashboard.session import session_cookie
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.tasks.build import build_task

CPU_S = 2.0  # it takes 0.7 on an idle core; it took 4.2 with a server
Toy = tuple[RunDir, CampaignExport]


def copy_of(run: RunDir, folder: Path) -> RunDir:
    shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("socket", "*.lock"))
    return RunDir(folder)


@pytest.fixture
def root(toy_root: DataRoot, tmp_path: Path) -> DataRoot:
    shutil.copytree(toy_root.path, tmp_path / "home")
    return DataRoot(tmp_path / "home")


def build_other(root: DataRoot) -> str:
    data, source = make_task(seed=1)
    return build_task(data, OPTIONS, root, Sources(source, source)).version


def test_a_campaign_keeps_the_version_it_was_made_on(
    root: DataRoot, tmp_path: Path, toy_run: Toy
) -> None:
    first = root.find_task("gauss").version
    run = RunDir(tmp_path / "mine")
    create(run, toy_spec(), {}, root)
    assert open_spec(run).versions == {"gauss": first}
    assert run.path in users_of(root, f"gauss@{first}")
    second = build_other(root)
    assert root.find_task("gauss").version == second
    assert bind(run, root).folder_of("gauss") == run.bound(root).folder_of("gauss")
    assert run.bound(root).folder_of("gauss") == f"gauss@{first}"
    create(run, toy_spec(), {}, root)  # the same command goes on with it
    pinned = CampaignSpec.model_validate({**toy_spec().model_dump(), "tasks": [f"gauss@{second}"]})
    assert (pinned.tasks, pinned.versions) == (["gauss"], {"gauss": second})
    with pytest.raises(Conflict, match=f"bound to gauss@{first}, not to gauss@{second}"):
        create(run, pinned, {}, root)
    other = RunDir(tmp_path / "other")
    create(other, toy_spec(), {}, root)
    assert open_spec(other).versions == {"gauss": second}
    assert toy_run[1].spec["campaign"]["versions"] == {"gauss": first}


def test_versions_of_no_task_or_no_form_are_refused(root: DataRoot, tmp_path: Path) -> None:
    given = toy_spec().model_dump()
    for wrong in ({"tasks": ["gauss@12"]}, {"versions": {"other": "0123456789ab"}}):
        with pytest.raises(ValueError, match=r"versions|tasks that this campaign does not have"):
            CampaignSpec.model_validate({**given, **wrong})
    absent = CampaignSpec.model_validate({**given, "tasks": ["gauss@0123456789ab"]})
    with pytest.raises(NotFound, match="gauss@0123456789ab"):
        create(RunDir(tmp_path / "absent"), absent, {}, root)
    assert not (tmp_path / "absent").exists()


def test_a_run_whose_version_is_gone_is_refused_with_what_to_do(
    root: DataRoot, toy_run: Toy, tmp_path: Path
) -> None:
    run, first = copy_of(toy_run[0], tmp_path / "copy"), root.find_task("gauss")
    build_other(root)
    for side in (root.public, root.vault):
        shutil.rmtree(side / first.folder)
    for again in (
        lambda: run_campaign(run, root, lambda *_: None),
        lambda: verify_again(run, root),
    ):
        with pytest.raises(NotFound) as caught:
            again()
        assert f"bound to {first.reference}" in str(caught.value)
        assert "import the same data" in str(caught.value) and "status" in str(caught.value)


def test_a_campaign_made_before_versions_means_the_folder_without_one(
    root: DataRoot, toy_run: Toy, tmp_path: Path
) -> None:
    run, first = copy_of(toy_run[0], tmp_path / "copy"), root.find_task("gauss")
    frozen = json.loads(run.spec.read_text())
    del frozen["campaign"]["versions"]
    run.spec.write_text(json.dumps(frozen))
    assert run.task_versions() == {"gauss": UNVERSIONED}
    with pytest.raises(NotFound, match="from before tasks had versions"):
        bind(run, root)
    for side in (root.public, root.vault):
        (side / first.folder).rename(side / "gauss")
    root.default_file("gauss").unlink()
    build_other(root)
    assert bind(run, root).folder_of("gauss") == "gauss"
    content = json.loads((root.public / "gauss" / "task.json").read_text())["content_hash"]
    assert open_spec(run).versions == {"gauss": content[:12]}


def page(run: RunDir, client: httpx.Client, path: str) -> tuple[int, str]:
    token = (run.tokens / "operator").read_text().strip()
    cookie = session_cookie(token, "Ada", int(time.time()) + 600, "nonce")
    mark = hashlib.sha256(token.encode()).hexdigest()[:8]
    got = client.get(path, headers={"Cookie": f"aarlab_operator_{mark}={cookie}"})
    return got.status_code, got.text


def test_a_finished_campaign_is_read_without_task_and_vault(
    toy_run: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, export = copy_of(toy_run[0], tmp_path / "mein Lauf ä"), toy_run[1]
    bare = DataRoot(tmp_path / "bare")
    best = export.leaderboard[0].snapshot
    with at_rest(run, bare) as operator:
        again = write_export(run, operator, run.export)
        with httpx.Client(
            base_url="http://run", transport=httpx.HTTPTransport(uds=str(run.socket), verify=False)
        ) as client:
            pages = ("/", "/leaderboard", "/tasks", "/audits", "/log", f"/methods/{best}")
            for path in (*pages, "/aars/rowan", "/forum"):
                code, text = page(run, client, path)
                assert code == 200, (path, text)
            assert "gauss" in page(run, client, "/tasks")[1]
        wanted = NewVerification(snapshot=best, task="other", n_seeds=2)
        with pytest.raises(NotFound):
            operator.request_verification(wanted)
    assert [s.exact for s in again.submissions] == [s.exact for s in export.submissions]
    for name in ("tasks", "baselines", "verifications", "leaderboard", "audits"):
        assert getattr(again, name) == getattr(export, name), name
    monkeypatch.setenv("AARLAB_HOME", str(bare.path))
    for words in (
        ("campaign", "status", str(run.path)),
        ("audit", "list", str(run.path), "--all"),
        ("log", "verify", str(run.path)),
        ("report", str(run.path)),
    ):
        done = CliRunner().invoke(cli, list(words))
        assert done.exit_code == 0, (words, done.output, done.exception)
    with pytest.raises(NotFound, match=f"gauss@{open_spec(run).versions['gauss']}"):
        verify_again(run, bare)
    run.export.unlink()  # what nothing has scored is not made up
    with at_rest(run, bare) as operator, pytest.raises(NotFound, match="gauss@"):
        operator.export()


def test_a_folder_with_other_files_is_no_place_for_a_campaign(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(Conflict, match=r"thesis\.tex"):
        create(RunDir(tmp_path), toy_spec(), {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(Conflict, match="is a file"):
        create(RunDir(tmp_path / "thesis.tex"), toy_spec(), {})


def test_status_needs_no_server_no_lock_and_little_time(toy_root: DataRoot, toy_run: Toy) -> None:
    run, _ = toy_run
    log = run.path / "server.log"
    before, words = log.stat().st_size, ("campaign", "status", str(run.path), "--json")
    command(toy_root, *words).communicate()  # modules are compiled now
    with _locked(run, "run"):
        process = command(toy_root, *words)
        with process.stdout as stream:
            out = stream.read()
        _, code, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
    assert process.returncode == 0 and json.loads(out)["running"] is True
    assert used.ru_utime + used.ru_stime < CPU_S and log.stat().st_size == before
    found = json.loads(finished(command(toy_root, *words))[1])
    assert found["running"] is False and len(found["aars"]) == 4
    assert all(aar["ending"] for aar in found["aars"])


POLL = (
    "import sys; from pathlib import Path; from aarlab.campaign.status import is_running\n"
    "from aarlab.core.layout import RunDir\n"
    "run = RunDir(Path(sys.argv[1])); print('asking', flush=True)\n"
    "while True: is_running(run)"
)


def test_a_campaign_starts_many_times_under_a_tight_poll_and_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path)
    monkeypatch.setattr("aarlab.campaign.runner.NOTE_S", 0.0)  # a lock that is taken is no wait
    asking = subprocess.Popen([sys.executable, "-c", POLL, str(tmp_path)], stdout=subprocess.PIPE)
    with asking:
        try:
            assert asking.stdout.readline()
            for _ in range(300):  # a start that meets a taken lock raises Conflict
                with _locked(run, "run"):
                    assert is_running(run)
        finally:
            asking.kill()
    assert not is_running(run)


def test_a_start_waits_for_a_command_that_looks_and_for_nothing_else(toy_run: Toy) -> None:
    run, inside = toy_run[0], threading.Event()

    def look() -> None:
        with _locked(run, "look"):
            inside.set()
            threading.Event().wait(0.5)

    looker = threading.Thread(target=look)
    looker.start()
    inside.wait()
    with _locked(run, "run"), pytest.raises(Conflict, match="another process"), _locked(run, "run"):
        pass
    looker.join()


def test_status_of_what_has_no_database_or_an_old_one(tmp_path: Path, toy_run: Toy) -> None:
    with pytest.raises(NotFound, match="has not begun"):
        stored_figures(RunDir(tmp_path))
    run = copy_of(toy_run[0], tmp_path / "old")
    with contextlib.closing(sqlite3.connect(run.database)) as database:
        database.execute("DROP TABLE operator_calls")  # as before version 8
    with pytest.raises(Outdated):
        stored_figures(run)
    with noted(run.holder, "look"):
        assert not is_running(run)


def test_a_damaged_database_is_said_with_what_can_be_read(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.database.parent.mkdir(parents=True)
    run.database.write_bytes(b"anything but a database " * 400)
    with pytest.raises(Damaged, match=r"platform\.db is damaged .* aarlab report"):
        stored_figures(run)


def test_a_bound_root_names_the_pinned_version_alone(root: DataRoot) -> None:
    first = root.find_task("gauss")
    pinned = root.pin("gauss")
    build_other(root)
    assert pinned.folder_of("gauss") == first.folder != root.folder_of("gauss")
    with pytest.raises(BadInput):
        replace(root, pinned=None).folder_of("gauss@x")
