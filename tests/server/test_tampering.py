"""An operator's database that was edited by hand is found out by `verify_log`."""

import pytest
from copies import Copies
from platform_kit import TinyTask, platform

from aarlab.core.errors import Damaged
from aarlab.core.layout import RunDir
from aarlab.core.wire import (
    NewAudit,
    NewSnapshot,
    NewVerdict,
    NewVerification,
    Run,
    SnapshotFile,
    VerificationResult,
)
from aarlab.store.log import verify_log


@pytest.fixture(scope="module")
def copies(
    tiny: TinyTask,
    database: str | None,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Copies:
    run, server = RunDir(tmp_path_factory.mktemp("run")), None
    if database is not None:
        server = request.getfixturevalue("postgres")
        database = server.fresh()
    with (
        platform(tiny, run, database=database) as running,
        running.aar("a") as aar,
        running.operator() as operator,
    ):
        for accuracy in (0.6, 0.85, 0.5):
            aar.submit(running.submission(accuracy, seed=round(accuracy * 100)))
        code = SnapshotFile(path="method.py", content_b64="")
        snapshot = aar.put_snapshot(NewSnapshot(name="m", files=[code]))
        for _ in range(2):
            wanted = NewVerification(snapshot=snapshot.id, task="tiny", n_seeds=2)
            queued = operator.request_verification(wanted)
        probs = tiny.probs("selection", 0.8, 1)
        runs = [Run(seed=seed, probs=probs) for seed in queued.run_seeds]
        operator.settle(queued.id, VerificationResult(ids=tiny.ids("selection"), runs=runs))
        about = {"aar": "a", "snapshot": snapshot.id}
        operator.add_audit(NewAudit(kind="static", severity="suspect", summary="s", **about))
        operator.give_verdict(
            NewVerdict(snapshot=snapshot.id, decision="disqualified", reason="r", by="ann")
        )
        assert verify_log(running.place).seq == 13  # also while the server is running
    return Copies(running.place, server)


def test_an_untouched_database_is_fine(copies: Copies) -> None:
    verify_log(copies.original)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("UPDATE scores SET improved = true WHERE NOT improved", "score sub_.* was changed"),
        ("UPDATE scores SET record = json_set(record, '$.pgr', 2.0)", "score sub_.* was changed"),
        ("UPDATE submissions SET method = 'other'", "submission sub_.* was changed"),
        (
            "UPDATE submissions SET predictions = (SELECT predictions FROM submissions LIMIT 1)",
            "submission sub_.* was changed",
        ),
        ("DELETE FROM verdicts", "verdict vdt_.* was removed"),
        ("UPDATE audits SET snapshot = 'another'", "audit aud_.* was changed"),
        ("DELETE FROM submissions WHERE seq = 2", "submission sub_.* was removed"),
        ("DELETE FROM scores WHERE NOT improved", "score sub_.* was removed"),
        (
            "INSERT INTO scores SELECT 'sub_new', improved, record FROM scores LIMIT 1",
            "score sub_new .* was added",
        ),
        (
            "UPDATE verifications SET record = json_set(record, '$.estimate.value', 2.0) "
            "WHERE state = 'done'",
            "verified ver_.* was changed",
        ),
        ("UPDATE verifications SET state = 'failed' WHERE state = 'done'", "was changed"),
        ("UPDATE verifications SET state = 'done' WHERE state = 'queued'", "was added"),
        ("DELETE FROM log WHERE seq = 3", "entry 3 is missing"),
    ],
)
def test_an_edit_is_found(copies: Copies, edit: str, message: str) -> None:
    with copies.edited(edit) as copy, pytest.raises(Damaged, match=message):
        verify_log(copy)
