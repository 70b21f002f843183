"""The platform exports signed heads while it runs; `aarlab log verify` holds the log to them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from copies import Copies
from platform_kit import Running, TinyTask, platform, wait_for

from aarlab.cli.main import cli, run_safely
from aarlab.core.layout import RunDir
from aarlab.core.wire import NewSnapshot, SnapshotFile
from aarlab.server.serve import FILE, HeadExport
from aarlab.server.settings import ServerSettings
from aarlab.store import heads, log
from aarlab.store.database import Database
from aarlab.store.heads import Signer

Command = Callable[..., tuple[int, str]]


async def test_heads_go_out_after_n_entries_or_t_seconds(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    settings = ServerSettings(run=run.path, data=tmp_path, head_every_entries=3, head_every_s=60)
    signer = Signer.open(run.signing_key, run.public_key)
    database = Database(tmp_path / "platform.db")
    await database.open()
    export = HeadExport(settings, database, signer)
    seen: list[int] = []

    async def look(now_s: float, entries: int, at_once: bool = False) -> list[int]:
        for _ in range(entries):
            async with database.write() as tx:
                await log.append(tx, "note", {})
        await export.look(now_s, at_once)
        file = run.heads / FILE
        known = heads.read_heads([file], signer.public_key) if file.exists() else []
        seen[:] = [head.seq for head in known]
        return seen

    assert await look(0, 0) == []  # an empty log has nothing to vouch for
    assert await look(1, 1) == [1]  # the first at once
    assert await look(2, 2) == [1]  # neither three entries nor a minute
    assert await look(3, 1) == [1, 4]
    assert await look(62, 1) == [1, 4]
    assert await look(63, 0) == [1, 4, 5]
    assert await look(999, 0, at_once=True) == [1, 4, 5]  # nothing new
    assert await look(1000, 1, at_once=True) == [1, 4, 5, 6]
    await database.close()


@pytest.fixture
def aarlab(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`aarlab log ...` in this process: its exit code and all that it said, on one line."""

    def run(*words: str, database: str | None = None) -> tuple[int, str]:
        with monkeypatch.context() as patch:
            if database is not None:
                patch.setenv("AARLAB_SERVER_DATABASE", database)
            code = run_safely(lambda: cli(["log", *words], standalone_mode=False))
        return code, " ".join("".join(capsys.readouterr()).split())

    return run


def _lines(running: Running) -> list[str]:
    file = running.run.heads / FILE
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def finished(
    tiny: TinyTask, run_dir: RunDir, database: str | None, monkeypatch, request
) -> tuple[RunDir, Copies]:
    """A run with some signed heads, its server stopped."""
    monkeypatch.setenv("AARLAB_SERVER_HEAD_EVERY_ENTRIES", "1")
    server = None if database is None else request.getfixturevalue("postgres")
    own = None if server is None else server.fresh()
    with platform(tiny, run_dir, database=own) as running:
        running.token("a")
        wait_for(lambda: len(_lines(running)) == 1)
        with running.aar("b") as aar:
            wait_for(lambda: len(_lines(running)) == 2)
            aar.submit(running.submission(0.7))
        assert running.log_text() == ""
    assert len(_lines(running)) >= 3, "the last head goes out at the end"
    return run_dir, Copies(running.place, server)


def test_the_command_finds_a_cut_log_and_touched_heads(
    finished: tuple[RunDir, Copies], tmp_path: Path, aarlab: Command
) -> None:
    run, copies = finished
    url = None if isinstance(copies.original, Path) else copies.original
    file, folder = run.heads / FILE, str(run.path)
    code, said = aarlab("verify", folder, database=url)
    assert code == 0 and "intact: 4 entries" in said and "3 signed heads" in said, said

    out = tmp_path / "safe" / "heads.jsonl"
    assert aarlab("head", folder, "--out", str(out), database=url)[0] == 0
    code, printed = aarlab("head", folder, database=url)
    assert json.loads(printed)["seq"] == 4
    key = tmp_path / "safe" / "signing.pub"
    key.write_text(run.public_key.read_text())

    for edit, found in (
        ("DELETE FROM log WHERE seq > 1", "exported head"),
        ("UPDATE log SET body = '{}' WHERE seq = 2", "entry 2 (aar)"),
        ("DELETE FROM log WHERE seq = 2", "entry 2 is missing"),
    ):
        with copies.edited(edit) as copy:
            where = _in_place_of(run, copy, tmp_path)
            code, said = aarlab("verify", where, database=url and str(copy))
            assert code == 2 and found in said, said
            # Also where the run's own heads are gone: against the copy kept elsewhere.
            words = ("verify", where, "--heads", str(out), "--public-key", str(key))
            code, said = aarlab(*words, database=url and str(copy))
            assert code == 2 and found in said, said

    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1].replace('"seq":', '"seq":1'), *lines[2:]]))
    code, said = aarlab("verify", folder, database=url)
    assert code == 2 and "line 2 has a wrong signature" in said, said
    other = Signer.open(tmp_path / "signing", tmp_path / "signing.pub")
    words = ("--public-key", str(tmp_path / "signing.pub"))
    code, said = aarlab("verify", folder, *words, database=url)
    assert code == 2 and "line 1 is signed by the foreign key" in said, said
    assert other.public_key[:16] in said


def _in_place_of(run: RunDir, copy: object, tmp_path: Path) -> str:
    """A run folder whose database is the edited copy, with the heads and key of `run`."""
    if not isinstance(copy, Path):
        return str(run.path)
    other = RunDir(tmp_path / "edited")
    other.tokens.mkdir(parents=True, exist_ok=True)
    other.heads.mkdir(exist_ok=True)
    other.database.write_bytes(copy.read_bytes())
    other.public_key.write_text(run.public_key.read_text())
    (other.heads / FILE).write_text((run.heads / FILE).read_text())
    return str(other.path)


def test_snapshots_and_all_lie_in_a_bucket(
    tiny: TinyTask, run_dir: RunDir, s3: str, tmp_path: Path
) -> None:
    """A whole platform on S3: nothing of a snapshot is left on the machine."""
    url = f"{s3}/{tmp_path.name}"
    with platform(tiny, run_dir, "--blobs", url) as running, running.aar("a") as aar:
        file = SnapshotFile(path="method.py", content_b64="eCA9IDEK")
        first = aar.put_snapshot(NewSnapshot(name="m", files=[file]), key="k")
        assert aar.put_snapshot(NewSnapshot(name="m", files=[file]), key="k") == first
        assert aar.read_snapshot_file(first.id, "method.py") == "x = 1\n"
    assert not run_dir.snapshots.exists()
    with platform(tiny, run_dir, "--blobs", url) as running, running.aar("b") as aar:
        assert aar.read_snapshot_file(first.id, "method.py") == "x = 1\n"
