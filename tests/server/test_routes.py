"""The routes do what they say: scores, budget, forum, snapshots, verification, export."""

import base64

import pytest
from platform_kit import CANARY, Running, wait_for

from aarlab.core.errors import BadInput, BudgetExhausted, Conflict, NotFound
from aarlab.core.wire import (
    NewAar,
    NewFinding,
    NewSnapshot,
    NewVerification,
    Run,
    SnapshotFile,
    Spend,
    VerificationResult,
)
from aarlab.core.wire_service import NewMethod
from aarlab.store.log import verify_log


def _snapshot(name: str = "m", code: bytes = b"x = 1\n", parent: str | None = None) -> NewSnapshot:
    file = SnapshotFile(path="method.py", content_b64=base64.b64encode(code).decode())
    return NewSnapshot(name=name, files=[file], parent=parent)


def test_the_best_so_far_is_shown_until_it_is_clearly_beaten(running: Running, aar) -> None:
    first, same, better, worse = (
        aar.submit(running.submission(accuracy, seed))
        for accuracy, seed in ((0.6, 1), (0.61, 2), (0.85, 3), (0.5, 4))
    )
    assert (first.improved, same.improved, better.improved, worse.improved) == (1, 0, 1, 0)
    assert same.pgr == first.pgr < better.pgr == worse.pgr
    assert first.isolation == "bubblewrap" and first.n == 240 and not first.exact_feedback
    shown = aar.submissions()
    assert [item.score for item in shown] == [first, same, better, worse]
    assert shown[0].method == "m" and shown[0].task == "tiny"


def test_budgets_are_enforced_and_a_refusal_costs_nothing(running: Running) -> None:
    with running.aar("few", submissions=2) as aar:
        with pytest.raises(BadInput):
            broken = running.submission(0.6)
            aar.submit(broken.model_copy(update={"ids": broken.ids[::-1][1:]}))
        assert aar.submit(running.submission(0.6)).submissions_left == 1
        assert aar.submit(running.submission(0.7), key="last").submissions_left == 0
        with pytest.raises(BudgetExhausted, match="2 of 2 submissions"):
            aar.submit(running.submission(0.8))
        assert aar.submit(running.submission(0.7), key="last").submissions_left == 0
        assert aar.me().submissions_made == 2 and aar.me().submissions_left == 0


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ({"device_s": 10.0}, "device_s"),
        ({"dollars": 5.0}, "dollars"),
        ({"tokens": 10}, "output_tokens"),
    ],
)
def test_spend_is_always_recorded_and_stops_submissions(running: Running, limits, kind) -> None:
    with running.aar(f"spender-{kind.replace('_', '-')}", **limits) as aar:
        aar.submit(running.submission(0.6))
        assert aar.spend(Spend(kind=kind, amount=4)).spend == {kind: 4}
        assert aar.spend(Spend(kind=kind, amount=40)).spend == {kind: 44}
        with pytest.raises(BudgetExhausted):
            aar.submit(running.submission(0.6))


def test_research_hours_run_from_the_session_and_end(running: Running) -> None:
    with running.aar("short", hours=1e-9) as aar:
        assert aar.open_session(key="s").aar == "short"
        with pytest.raises(BudgetExhausted, match="research hours"):
            aar.submit(running.submission(0.6))
        wait_for(lambda: aar.me().research_s > 0)


def test_snapshots_are_shared_and_keep_their_lineage(running: Running, aar) -> None:
    first = aar.put_snapshot(_snapshot())
    second = aar.put_snapshot(_snapshot(code=b"x = 2\n", parent=first.id))
    assert (first.n_files, first.n_bytes, second.parent) == (1, 6, first.id)
    with running.aar("reader") as other:
        assert second in other.snapshots()
        assert other.read_snapshot_file(second.id, "method.py") == "x = 2\n"
        with pytest.raises(NotFound):
            other.read_snapshot_file(second.id, "other.py")
    for unknown in ("0" * 40, "HEAD", "refs%2Fsnapshots", "..%2f..%2fetc"):
        with pytest.raises(NotFound):
            aar.snapshot(unknown)
    with pytest.raises(NotFound):
        aar.put_snapshot(_snapshot(parent="f" * 40))


def test_findings_cite_own_submissions_and_carry_their_shown_score(running: Running, aar) -> None:
    score = aar.submit(running.submission(0.7))
    text = "<script>alert(1)</script> '; DROP TABLE findings; --"
    post = NewFinding(kind="result", title="t", text=text, submission=score.submission)
    finding = aar.post_finding(post)
    assert finding.score == score and finding.text == text
    with running.aar("commenter") as other:
        comment = other.comment(finding.id, "and with another seed?")
        assert other.finding(finding.id).comments == [comment]
        with pytest.raises(NotFound, match="has no submission"):
            other.post_finding(post)
        with pytest.raises(NotFound):
            other.comment("fnd_none", "x")


def test_findings_come_page_by_page(running: Running, aar) -> None:
    posts = [NewFinding(kind="insight", title=f"n{i}", text="") for i in range(5)]
    made = [aar.post_finding(post) for post in posts]
    start = made[0].seq - 1
    page = aar.findings_page(after=start, limit=2)
    assert page.findings == made[:2] and page.next_after == made[1].seq
    assert list(aar.findings(after=start)) == made
    assert aar.findings_page(after=made[-1].seq).next_after is None


def test_a_verification_ranks_on_selection_and_certify_does_not(running: Running, aar) -> None:
    task = running.task
    snapshot = aar.put_snapshot(_snapshot("ranked"))
    aar.request_verification(NewMethod(snapshot=snapshot.id))
    with running.operator() as operator:
        for split, name, ablation in (
            ("selection", "tiny", "none"),
            ("selection", "tiny", "permuted"),
            ("certify", "tiny", "none"),
            ("selection", "held", "none"),
        ):
            wanted = NewVerification(
                snapshot=snapshot.id, task=name, split=split, ablation=ablation, n_seeds=3
            )
            queued = operator.request_verification(wanted)
            assert len(set(queued.run_seeds)) == 3 and queued in operator.verifications("queued")
            probs = task.probs(split, 0.8, 1) if name == "tiny" else [0.5] * 240
            runs = [Run(seed=seed, probs=probs) for seed in queued.run_seeds]
            result = VerificationResult(
                ids=task.ids(split), runs=runs, seconds=2.5, isolation="bubblewrap"
            )
            settled = operator.settle(queued.id, result)
            assert settled.state == "done" and settled.estimate is not None
            assert settled.accuracy == pytest.approx(0.8) or name == "held"
            with pytest.raises(Conflict, match="settled already"):
                operator.settle(queued.id, result)
        seen = [one for one in aar.verified_methods() if one.snapshot == snapshot.id]
        assert [(one.task, one.state) for one in seen] == [("tiny", "verified")]
        ours = [e for e in operator.export().leaderboard if e.snapshot == snapshot.id]
        assert {e.task for e in ours} == {"tiny", "held"} and ours[0].n_seeds == 3
        assert ours[0].pgr == round(ours[0].pgr, 2) and ours[0].low < ours[0].pgr < ours[0].high


def test_a_verification_takes_only_its_own_seeds_or_a_reason(running: Running, aar) -> None:
    snapshot = aar.put_snapshot(_snapshot())
    with running.operator() as operator:
        wanted = NewVerification(snapshot=snapshot.id, task="tiny", n_seeds=2)
        queued = operator.request_verification(wanted, key=f"verify-{snapshot.id}")
        assert operator.request_verification(wanted, key=f"verify-{snapshot.id}") == queued
        probs = running.task.probs("selection", 0.8, 1)
        foreign = [Run(seed=1, probs=probs), Run(seed=2, probs=probs)]
        ids = running.task.ids("selection")
        with pytest.raises(BadInput, match="drawn seeds"):
            operator.settle(queued.id, VerificationResult(ids=ids, runs=foreign))
        failed = operator.settle(queued.id, VerificationResult(error="fit raised"))
        assert failed.state == "failed" and failed.error == "fit raised"
        with pytest.raises(NotFound):
            operator.request_verification(
                NewVerification(snapshot=snapshot.id, task="no-such-task")
            )
        with pytest.raises(NotFound):
            operator.request_verification(NewVerification(snapshot="0" * 40, task="tiny"))


def test_held_out_tasks_do_not_exist_for_aars(running: Running, aar) -> None:
    assert [task.name for task in aar.tasks()] == ["tiny"]
    assert aar.tasks()[0].settings == {}
    messages = []
    for name in ("held", "nope"):
        with pytest.raises(NotFound) as caught:
            aar.submit(running.submission(0.6).model_copy(update={"task": name}))
        messages.append(str(caught.value).replace(name, "X"))
    assert messages[0] == messages[1]


def test_registering_again_gives_the_same_token_and_a_taken_name_is_a_conflict(
    running: Running,
) -> None:
    new = NewAar(name="twice", researcher="r", direction="d")
    with running.operator() as operator:
        first = operator.register(new)
        assert operator.register(new) == first
        with pytest.raises(Conflict, match="already"):
            operator.register(new, key="another-key")
        with pytest.raises(Conflict, match="another request"):
            operator.register(new.model_copy(update={"direction": "e"}))


def test_the_export_says_what_the_best_is_worth_after_it_was_chosen(running: Running, aar) -> None:
    with running.operator() as operator:
        for number, accuracy in enumerate((0.72, 0.74, 0.76, 0.86)):
            made = aar.put_snapshot(_snapshot(f"tried {number}", f"y = {number}\n".encode()))
            wanted = NewVerification(snapshot=made.id, task="tiny", n_seeds=3)
            queued = operator.request_verification(wanted)
            runs = [
                Run(seed=seed, probs=running.task.probs("selection", accuracy, 40 + number + at))
                for at, seed in enumerate(queued.run_seeds)
            ]
            ids = running.task.ids("selection")
            operator.settle(queued.id, VerificationResult(ids=ids, runs=runs))
        export = operator.export()
    ranked = [e for e in export.leaderboard if e.task == "tiny" and e.rank is not None]
    kind = ("tiny", "selection", "none")
    tried = {
        v.snapshot: v.estimate.value
        for v in reversed(export.verifications)
        if (v.task, v.split, v.ablation) == kind and v.estimate
    }
    (best,) = [one for one in export.best if one.task == "tiny"]
    assert best.snapshot == ranked[0].snapshot and best.n_compared == len(tried) >= 4
    plain, mean = tried[best.snapshot], sum(tried.values()) / len(tried)
    assert mean < best.estimate.value < plain, "between what all are worth and what it had"
    assert best.estimate.low < best.estimate.value < best.estimate.high


def test_the_export_has_exact_figures_and_the_log_its_shaped_ones(running: Running, aar) -> None:
    aar.open_session()
    score = aar.submit(running.submission(0.7334, seed=9))
    with running.operator() as operator:
        export = operator.export()
        records = operator.log()
        head = operator.head()
    ours = next(item for item in export.submissions if item.id == score.submission)
    assert ours.accuracy == pytest.approx(0.7334, abs=1 / 240) and ours.score == score
    assert ours.exact.low < ours.exact.value < ours.exact.high and ours.research_h > 0
    assert {(b.task, b.split) for b in export.baselines} >= {
        ("tiny", "search"),
        ("held", "certify"),
    }
    kinds = [record.kind for record in records if score.submission in str(record.body)]
    assert kinds == ["submission", "score"]
    assert str(ours.exact.value) not in str([record.body for record in records])
    assert verify_log(running.place).seq >= head.seq >= export.head.seq


def test_no_canary_label_or_token_lies_in_the_run_folder(running: Running, aar) -> None:
    token = running.token("hidden-token")
    aar.submit(running.submission(0.6))
    with running.operator() as operator:
        operator.export()
    for path in running.run.path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert CANARY.encode() not in content, path
            assert token.encode() not in content, path
