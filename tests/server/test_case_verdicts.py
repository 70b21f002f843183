"""Verdicts on findings about an AAR's submissions, on both databases: what ranks, and the log."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from platform_kit import Running, TinyTask, platform
from sqlalchemy import text

from aarlab.core.errors import BadInput, Damaged, NotFound
from aarlab.core.layout import RunDir
from aarlab.core.wire import (
    Audit,
    CaseVerdict,
    NewAudit,
    NewCaseVerdict,
    NewSnapshot,
    NewVerdict,
    NewVerification,
    Run,
    SnapshotFile,
    VerificationResult,
)
from aarlab.core.wire_service import NewMethod
from aarlab.store.database import Database
from aarlab.store.log import verify_log


@pytest.fixture(params=["sqlite", "postgresql"])
def own(request: pytest.FixtureRequest, tiny: TinyTask, tmp_path: Path) -> Iterator[Running]:
    database = None
    if request.param == "postgresql":
        database = request.getfixturevalue("postgres").fresh()
    with platform(tiny, RunDir(tmp_path / "run"), "--task", "tiny", database=database) as made:
        yield made


def verified(running: Running, aar: str, name: str) -> str:
    """A new snapshot of the AAR with a finished re-run."""
    content = base64.b64encode(f"# {name}".encode()).decode()
    files = [SnapshotFile(path="method.py", content_b64=content)]
    with running.aar(aar) as client, running.operator() as operator:
        made = client.put_snapshot(NewSnapshot(name=name, files=files)).id
        client.request_verification(NewMethod(snapshot=made))
        queued = operator.request_verification(
            NewVerification(snapshot=made, task="tiny", n_seeds=2)
        )
        probs = running.task.probs("selection", 0.8, len(name))
        runs = [Run(seed=seed, probs=probs) for seed in queued.run_seeds]
        result = VerificationResult(ids=running.task.ids("selection"), runs=runs)
        operator.settle(queued.id, result)
    return made


def finding(running: Running, snapshot: str | None = None) -> Audit:
    with running.operator() as operator:
        return operator.add_audit(
            NewAudit(kind="forensics", aar="ann", task="tiny", severity="suspect", summary="rows"
                     " tried one by one", snapshot=snapshot)
        )  # fmt: skip


def decide(running: Running, audit: str, decision: str, disqualifies: str) -> CaseVerdict:
    given = {"decision": decision, "disqualifies": disqualifies, "reason": "hunt", "by": "Ada"}
    with running.operator() as operator:
        return operator.give_case_verdict(NewCaseVerdict(audit=audit, **given))


def ranked(running: Running) -> list[str]:
    """As the operator has it; the AARs' own list must have the same ones."""
    with running.operator() as operator, running.aar("ann") as ann:
        board = [entry.snapshot for entry in operator.export().leaderboard]
        assert sorted(one.snapshot for one in ann.verified_methods()) == sorted(board)
    return sorted(board)


def test_a_confirmed_finding_takes_the_aars_work_out_until_it_is_dismissed(own: Running) -> None:
    ann = [verified(own, "ann", "first"), verified(own, "ann", "second")]
    bea, found = verified(own, "bea", "other"), finding(own)
    made = decide(own, found.id, "confirmed", "task")
    assert (made.aar, made.task, made.by) == ("ann", "tiny", "Ada")
    assert ranked(own) == [bea]
    late = verified(own, "ann", "made after the verdict")
    assert ranked(own) == [bea]
    with own.operator() as operator, own.aar("ann") as client:
        request = client.request_verification(NewMethod(snapshot=late, task="tiny"))
        states = {r.state for r in client.method_requests() if r.snapshot == late}
        assert request.state == "queued" and states == {"refused"}
        operator.give_verdict(
            NewVerdict(snapshot=ann[0], decision="accepted", reason="this one holds", by="Bob")
        )
    assert ranked(own) == sorted([ann[0], bea])
    decide(own, found.id, "dismissed", "nothing")
    assert ranked(own) == sorted([*ann, bea, late])
    with own.operator() as operator:
        given = operator.case_verdicts()
        logged = [e.body for e in operator.log() if e.kind == "case_verdict"]
        assert operator.export().case_verdicts == given
    assert logged == [case.model_dump(mode="json") for case in given]
    verify_log(own.place)


def test_what_cannot_be_decided_is_said_and_writes_nothing(own: Running) -> None:
    snapshot = verified(own, "ann", "first")
    about_code = finding(own, snapshot)
    with pytest.raises(NotFound, match="no finding 'aud_none'"):
        decide(own, "aud_none", "dismissed", "nothing")
    with pytest.raises(BadInput, match="give that one a verdict"):
        decide(own, about_code.id, "confirmed", "all")
    with pytest.raises(ValueError, match="disqualifies nothing"):
        decide(own, about_code.id, "dismissed", "all")
    with own.operator() as operator:
        assert operator.case_verdicts() == []


def test_a_changed_or_removed_one_breaks_the_chain(own: Running) -> None:
    verified(own, "ann", "first")
    decide(own, finding(own).id, "confirmed", "all")
    own.process.terminate()
    own.process.wait()

    async def change(statement: str) -> None:
        database = Database(own.place)
        await database.open()
        async with database.write() as tx:
            await tx.execute(text(statement))
        await database.close()

    verify_log(own.place)
    asyncio.run(change("DELETE FROM case_verdicts"))
    with pytest.raises(Damaged, match=r"case_verdict cvt_.* was removed"):
        verify_log(own.place)
