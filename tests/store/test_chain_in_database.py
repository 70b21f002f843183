"""Any edit, removal, move or truncation of the stored log is found and named."""

import asyncio
import json
from pathlib import Path

import pytest
from copies import Copies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres import Postgres

from aarlab.core.errors import BadInput, Damaged, NotFound, Unavailable
from aarlab.core.hashing import GENESIS, LogHead, next_hash
from aarlab.store import heads, log
from aarlab.store.database import Database
from aarlab.store.heads import Signer
from aarlab.store.place import Place

ENTRIES = 8
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
whole = st.integers(1, ENTRIES)


def _fill(place: Place, entries: int = ENTRIES) -> None:
    async def fill() -> None:
        database = Database(place)
        await database.open()
        for number in range(entries):
            async with database.write() as tx:
                await log.append(tx, "note", {"n": number, "x": 0.1 * number, "s": "é\u2028"})
        await database.close()

    asyncio.run(fill())


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Copies:
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    place = server.fresh() if server else tmp_path_factory.mktemp("log") / "platform.db"
    _fill(place)
    return Copies(place, server)


@pytest.fixture(scope="module")
def chain(written: Copies) -> dict[int, LogHead]:
    async def read() -> dict[int, LogHead]:
        database = Database(written.original)
        await database.open()
        async with database.read() as tx:
            found = {r.seq: LogHead(r.seq, r.hash) for r in await log.entries(tx)}
        await database.close()
        return found

    return asyncio.run(read())


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    folder = tmp_path_factory.mktemp("keys")
    return Signer.open(folder / "signing", folder / "signing.pub")


def test_an_intact_log_has_a_head(written: Copies) -> None:
    head = log.verify_log(written.original)
    assert head.seq == ENTRIES and log.verify_log(written.original, head) == head


@given(seq=whole, column=st.sampled_from(["body", "kind", "at", "hash"]))
@settings(SLOW, max_examples=12)
def test_an_edit_is_named(written: Copies, seq: int, column: str) -> None:
    value = json.dumps({"n": 99}) if column == "body" else "changed"
    with (
        written.edited(f"UPDATE log SET {column} = '{value}' WHERE seq = {seq}") as copy,
        pytest.raises(Damaged, match=f"entry {seq} "),
    ):
        log.verify_log(copy)


@given(seq=st.integers(1, ENTRIES - 1), renumbered=st.booleans())
@settings(SLOW, max_examples=8)
def test_a_removal_is_named_even_if_renumbered(written: Copies, seq: int, renumbered: bool) -> None:
    edits = [f"DELETE FROM log WHERE seq = {seq}"]
    if renumbered:
        edits += [f"UPDATE log SET seq = {n - 1} WHERE seq = {n}" for n in range(seq + 1, 9)]
    with written.edited(*edits) as copy:
        expected = f"entry {seq} " if renumbered else f"entry {seq} is missing"
        with pytest.raises(Damaged, match=expected):
            log.verify_log(copy)


@given(pair=st.tuples(whole, whole).filter(lambda pair: pair[0] != pair[1]))
@settings(SLOW, max_examples=8)
def test_a_swap_is_named(written: Copies, pair: tuple[int, int]) -> None:
    first, second = pair
    edits = (
        f"UPDATE log SET seq = -1 WHERE seq = {first}",
        f"UPDATE log SET seq = {first} WHERE seq = {second}",
        f"UPDATE log SET seq = {second} WHERE seq = -1",
    )
    with (
        written.edited(*edits) as copy,
        pytest.raises(Damaged, match=f"entry {min(first, second)} "),
    ):
        log.verify_log(copy)


@given(exported=st.sets(whole, min_size=1), kept=st.integers(0, ENTRIES), rewritten=st.booleans())
@settings(SLOW, max_examples=15)
def test_a_cut_or_rewritten_log_does_not_pass_the_exported_heads(
    written: Copies,
    chain: dict[int, LogHead],
    signer: Signer,
    tmp_path: Path,
    exported: set[int],
    kept: int,
    rewritten: bool,
) -> None:
    """Whoever holds the database makes a shorter or a wholly new chain that is right in itself."""
    file = tmp_path / "heads.jsonl"
    file.unlink(missing_ok=True)
    for seq in exported:
        heads.append(file, signer.sign(chain[seq]))
    known = heads.read_heads([file], signer.public_key)
    edits = [f"DELETE FROM log WHERE seq > {kept}"] if kept < ENTRIES else []
    if rewritten and kept > 0:
        edits += _rewriting(chain, kept)
    lost = min((s for s in exported if s > kept or (rewritten and s >= kept)), default=None)
    with written.edited(*edits) as copy:
        assert log.verify_log(copy).seq == kept
        if lost is None:
            assert log.verify_log(copy, *known).seq == kept
            return
        with pytest.raises(Damaged, match=f"exported head {lost}:"):
            log.verify_log(copy, *known)


def _rewriting(chain: dict[int, LogHead], seq: int) -> list[str]:
    """Edits that put another last entry with a right hash."""
    previous = chain[seq - 1].hash if seq > 1 else GENESIS
    digest = next_hash(previous, seq, "note", "then", {"n": 99})
    values = f"kind = 'note', at = 'then', body = '{{\"n\":99}}', hash = '{digest}'"
    return [f"UPDATE log SET {values} WHERE seq = {seq}"]


@given(line=st.integers(0, 2), data=st.data())
@settings(SLOW, max_examples=30)
def test_a_changed_line_of_heads_is_named(
    signer: Signer, tmp_path: Path, line: int, data: st.DataObject
) -> None:
    file = tmp_path / "heads.jsonl"
    file.unlink(missing_ok=True)
    for seq in (1, 2, 3):
        heads.append(file, signer.sign(LogHead(seq, f"{seq}" * 64)))
    lines = file.read_text().splitlines()
    assert [head.seq for head in heads.read_heads([file], signer.public_key)] == [1, 2, 3]
    field = data.draw(st.sampled_from(["seq", "hash", "at", "signature", "public_key"]))
    changed = json.loads(lines[line])
    changed[field] = 9 if field == "seq" else _other_digit(changed[field])
    lines[line] = json.dumps(changed)
    file.write_text("\n".join(lines))
    with pytest.raises(Damaged, match=f"line {line + 1} "):
        heads.read_heads([file], signer.public_key)


def _other_digit(text: str) -> str:
    return ("1" if text[0] != "1" else "2") + text[1:]


def test_a_foreign_key_and_a_wrong_signature_are_named(signer: Signer, tmp_path: Path) -> None:
    other = Signer.open(tmp_path / "signing", tmp_path / "signing.pub")
    head = LogHead(1, "a" * 64)
    heads.append(tmp_path / "foreign", other.sign(head))
    forged = other.sign(head).model_copy(update={"public_key": signer.public_key})
    heads.append(tmp_path / "forged", forged)
    with pytest.raises(Damaged, match=f"foreign key {other.public_key[:16]}"):
        heads.read_heads([tmp_path / "foreign"], signer.public_key)
    with pytest.raises(Damaged, match="wrong signature"):
        heads.read_heads([tmp_path / "forged"], signer.public_key)


def test_the_key_is_made_once_and_closed(tmp_path: Path) -> None:
    private, public = tmp_path / "tokens/signing", tmp_path / "tokens/signing.pub"
    first = Signer.open(private, public)
    assert Signer.open(private, public).public_key == first.public_key
    assert private.stat().st_mode & 0o777 == 0o600
    assert heads.read_public_key(public) == first.public_key
    private.write_text("nonsense")
    with pytest.raises(Damaged):
        Signer.open(private, public)
    with pytest.raises(NotFound):
        heads.read_public_key(tmp_path / "none")
    with pytest.raises(BadInput):
        heads.read_public_key(private)


def test_no_database_and_a_broken_one(tmp_path: Path, postgres: Postgres) -> None:
    with pytest.raises(NotFound):
        log.verify_log(tmp_path / "none.db")
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a database" * 100)
    with pytest.raises(Damaged):
        log.verify_log(broken)
    with pytest.raises(Damaged, match="cannot be read as a log"):
        log.verify_log(postgres.fresh())
    with pytest.raises(Unavailable):
        log.verify_log("postgresql://aarlab@/none?host=/nonexistent")


def test_reading_changes_nothing(written: Copies, tmp_path: Path) -> None:
    if isinstance(written.original, Path):
        before = written.original.read_bytes()
        log.verify_log(written.original)
        assert written.original.read_bytes() == before
        return
    server = written._server
    assert server is not None
    server.sql("postgres", "DROP ROLE IF EXISTS auditor", "CREATE ROLE auditor LOGIN")
    server.sql(
        server.name(written.original), "GRANT SELECT ON ALL TABLES IN SCHEMA public TO auditor"
    )
    reader = written.original.replace("aarlab@", "auditor@")
    assert log.verify_log(reader).seq == ENTRIES


def test_an_empty_log_has_the_genesis_head(place: Place) -> None:
    _fill(place, 0)
    assert log.verify_log(place) == LogHead(0, GENESIS)
