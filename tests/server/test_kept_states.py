"""Kept states at the server: who may keep, what is refused, and what is removed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from platform_kit import Running

from aarlab.client.platform import PlatformClient, PodClient
from aarlab.core.errors import (
    BadInput,
    BudgetExhausted,
    Forbidden,
    NotFound,
    Superseded,
)
from aarlab.core.hashing import sha256_hex
from aarlab.core.layout import RunDir
from aarlab.core.supervision import pod_key, supervisor_key
from aarlab.core.wire import Limits, NewAar
from aarlab.core.wire_kept import Manifest, PodJoin
from aarlab.server.platform import Platform
from aarlab.server.service import kept as service
from aarlab.server.service.caller import Caller
from aarlab.store import aars
from aarlab.store.blobs import Folder
from aarlab.store.database import Database

ONE, TWO = b"one", b"two"


def supervisor(platform: Running, name: str) -> PlatformClient:
    key = supervisor_key(platform.operator_token, name)
    made = PlatformClient(platform.address, platform.token(name), 20, key)
    made.open_session()
    return made


def manifest(**home: bytes) -> Manifest:
    return Manifest(home={f"{name}.json": sha256_hex(data) for name, data in home.items()})


def blobs(platform: Running, name: str) -> set[bytes]:
    found = (platform.run.platform / "kept" / name).glob("*/*")
    return {path.read_bytes() for path in found}


def test_blobs_come_before_the_manifest_and_go_with_it(running: Running) -> None:
    with supervisor(running, "keeps") as aar:
        with pytest.raises(NotFound):
            aar.put_manifest(manifest(state=ONE))
        aar.put_blob(sha256_hex(ONE), ONE)
        aar.put_manifest(manifest(state=ONE))
        aar.put_blob(sha256_hex(TWO), TWO)
        assert blobs(running, "keeps") == {ONE, TWO}
        aar.put_manifest(manifest(state=TWO))
        assert blobs(running, "keeps") == {TWO}
        aar.put_blob(sha256_hex(ONE), ONE)
        assert aar.kept().manifest == manifest(state=TWO)
        assert blobs(running, "keeps") == {TWO}, "what belongs to no manifest is swept"
        assert (running.run.aar("keeps") / "state.json").read_bytes() == TWO
        with pytest.raises(BadInput, match="not those of"):
            aar.put_blob(sha256_hex(ONE), TWO)


def test_only_states_are_written_into_the_run(running: Running) -> None:
    with supervisor(running, "writes") as aar:
        aar.put_blob(sha256_hex(ONE), ONE)
        aar.put_manifest(manifest(state=ONE, aar=ONE, given_up=ONE, error=ONE))
        assert [p.name for p in running.run.aar("writes").iterdir()] == ["state.json"]
        wrong = ("../x", "state.json/../../x", "/etc/x", "transcript.jsonl/../x", "", "answers/..")
        for name in (*wrong, "transcript.jsonl/..", "transcript.jsonl/000001.x", "loop.json/x"):
            with pytest.raises(ValueError, match="home"):
                Manifest(home={name: sha256_hex(ONE)})


def test_an_older_life_keeps_nothing(running: Running) -> None:
    with supervisor(running, "older") as old:
        old.put_blob(sha256_hex(ONE), ONE)
        with supervisor(running, "older") as new:
            for write in (
                lambda: old.put_manifest(manifest(state=ONE)),
                lambda: old.put_blob(sha256_hex(TWO), TWO),
                old.kept,
            ):
                with pytest.raises(Superseded):
                    write()
            assert new.kept().manifest is None


def test_only_its_own_supervisor_reads_and_writes(running: Running) -> None:
    with supervisor(running, "mine") as mine, supervisor(running, "yours") as yours:
        mine.put_blob(sha256_hex(ONE), ONE)
        mine.put_manifest(manifest(state=ONE))
        with pytest.raises(NotFound):
            yours.get_blob(sha256_hex(ONE))
        with pytest.raises(NotFound):
            yours.put_manifest(manifest(state=ONE))
    with running.aar("mine") as inside:  # with the token that its sandbox may have, and no more
        for call in (
            inside.kept,
            lambda: inside.get_blob(sha256_hex(ONE)),
            lambda: inside.put_blob(sha256_hex(TWO), TWO),
            lambda: inside.put_manifest(manifest()),
        ):
            with pytest.raises(Forbidden, match="only the process that the campaign started"):
                call()


async def test_an_aar_keeps_so_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "KEPT_BYTES", 5)
    async with alone(tmp_path) as caller:
        for data in (ONE, b"tw"):
            await service.put_blob(caller, sha256_hex(data), data)
        with pytest.raises(BudgetExhausted, match="without a manifest"):
            await service.put_blob(caller, sha256_hex(b"x"), b"x")
        await service.put_manifest(caller, manifest(state=ONE, loop=b"tw"))
        await service.put_blob(caller, sha256_hex(b"x"), b"x")
        with pytest.raises(BudgetExhausted, match="6 bytes: an AAR keeps 5"):
            await service.put_manifest(caller, manifest(state=ONE, loop=b"tw", running=b"x"))
        with pytest.raises(Superseded):  # in its own transaction
            await service.put_manifest(replace(caller, life=caller.life - 1), manifest(state=ONE))
        assert (await service.begun(caller)).manifest == manifest(state=ONE, loop=b"tw")


@asynccontextmanager
async def alone(folder: Path) -> AsyncIterator[Caller]:
    """The supervisor of an AAR, and as much of a platform as keeping needs."""
    database = Database(folder / "platform.db")
    await database.open()
    aar = NewAar(name="ada", researcher="scripted", direction="d", limits=Limits())
    async with database.write() as tx:
        await aars.add(tx, aar, "0" * 64)
        life = (await aars.open_session(tx, "ada")).life
    platform = SimpleNamespace(
        store=SimpleNamespace(database=database, files=Folder(folder / "blobs")),
        settings=SimpleNamespace(run_dir=RunDir(folder / "run"), blobs_direct=False),
        mirrors={},
    )
    yield Caller(cast(Platform, platform), aar, supervised=True, life=life)
    await database.close()


def test_a_pod_joins_with_its_own_key_alone(running: Running) -> None:
    running.token("ada")
    folder = running.run.pod("pod-1")
    folder.mkdir(parents=True)
    (folder / "pod.json").write_text('{"aars": {"ada": "x"}}')
    key = pod_key(running.operator_token, ["ada"])
    asked = PodJoin(pod="pod-1", aars=["ada"])
    other = PodClient(running.address, pod_key(running.operator_token, ["bea"]), 5)
    with other, pytest.raises(Forbidden, match="exactly these AARs"):
        other.join(asked)
    with PodClient(running.address, key, 5) as pod, pytest.raises(NotFound, match="no pod"):
        pod.join(PodJoin(pod="pod-2", aars=["ada"]))
