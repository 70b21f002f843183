"""Open methods on the dashboard, in the export and in what AARs read."""

import pytest
from platform_kit import Running
from seats import facts, operator_seat

from aarlab.cli import audit
from aarlab.core.delivery import BEFORE_BLIND
from aarlab.core.wire import (
    Evidence,
    NewSnapshot,
    NewVerdict,
    NewVerification,
    Run,
    SnapshotFile,
    VerificationResult,
)

SEEN = Evidence(
    programs=[], reached=[], compiled=0, row_texts=0, examples=[], truncated=False, forwarded=9.0,
    changed={"alone": 0.0}, disagreement=0.12, answer_equality=True,
)  # fmt: skip
BECAUSE = "the method says READS_TEXT = True"
SHIPS = "more than logic needs of numbers (a head has 576): 9,000 numbers"
BOARD = "/leaderboard?task=math"


def verified(served: Running, token: str, name: str, **given: object) -> str:
    """Freeze a method and hand in the result of its verification."""
    client = served.with_token(token)
    with client, served.operator() as operator:
        file = SnapshotFile(path="method.py", content_b64="eCA9IDEK")
        made = client.put_snapshot(NewSnapshot(name=name, files=[file]))
        wanted = NewVerification(snapshot=made.id, task="math", n_seeds=2)
        queued = operator.request_verification(wanted)
        runs = [
            Run(seed=seed, probs=served.task.probs("selection", 0.95, n))
            for n, seed in enumerate(queued.run_seeds)
        ]
        known = {"ids": served.task.ids("selection"), "runs": runs, "isolation": "bubblewrap"}
        result = VerificationResult.model_validate({**known, "evidence": SEEN, **given})
        operator.settle(queued.id, result)
    return made.id


@pytest.fixture(scope="module")
def token(served: Running) -> str:
    return served.token("newcomer")


@pytest.fixture(scope="module")
def before(served: Running) -> list[tuple[int | None, str]]:
    with operator_seat(served) as client:
        page = facts(client, BOARD)
        text = client.get(BOARD).text
    assert text.count(BEFORE_BLIND) == 1, "an old run says it once"
    assert not any(e["apart"] or e["stamps"] for e in page["entries"])
    return [(e["rank"], e["short"]) for e in page["entries"]]


@pytest.fixture(scope="module")
def made(served: Running, token: str, before: object) -> dict[str, str]:
    opened = {"delivery": "open", "open_because": BECAUSE, "train_rows": "hidden"}
    return {
        "open": verified(served, token, "with texts", **opened),
        "blind": verified(served, token, "without", delivery="blind", train_rows="public"),
        "ships": verified(served, token, "ships", delivery="blind", ships=SHIPS),
    }


def test_open_methods_have_a_table_of_their_own(served: Running, made, before) -> None:
    with operator_seat(served) as client:
        page, text = facts(client, BOARD), client.get(BOARD).text
        verdict = facts(client, "/")["verdict"]
    entries = {e["snapshot"]: e for e in page["entries"]}
    top = entries[made["blind"]]
    assert (top["rank"], top["delivery"]) == (1, "blind")
    assert top["stamps"] == ["train rows public", "answer equality asked"]
    assert entries[made["open"]]["apart"] and entries[made["open"]]["rank"] is None
    assert entries[made["open"]]["open_because"] == BECAUSE
    shipped = entries[made["ships"]]
    assert (shipped["apart"], shipped["rank"], shipped["delivery"]) == (True, None, "blind")
    assert f"apart: ships data: {SHIPS}" in text
    opened = [e["apart"] for e in page["entries"]]
    assert opened == sorted(opened) and opened.count(True) >= len(before) - 3
    guards = [e for e in page["entries"] if e["role"] == "guard"]
    assert guards and not any(e["apart"] for e in guards), "reference rows keep their place"
    assert text.index("<h2>Methods apart</h2>") > text.index("answer equality asked")
    assert f"apart: {BECAUSE}" in text and f"apart: {BEFORE_BLIND}" in text
    assert "newcomer-2" in verdict and "newcomer-1" not in verdict


def test_the_method_page_shows_delivery_stamps_and_probes(served: Running, made) -> None:
    with operator_seat(served) as client:
        blind, opened = (client.get(f"/methods/{made[name]}").text for name in ("blind", "open"))
        old = facts(client, BOARD)["entries"][-1]["snapshot"]
        before_blind = client.get(f"/methods/{old}").text
        standing = facts(client, f"/methods/{old}")["standing"]
    assert "rows without texts, train rows public, answer equality asked" in blind
    assert "answers that differ between two runs with other teachers</dt><dd>12.0 %" in blind
    assert f"Stands apart, does not rank until a person accepts it:</b> {BECAUSE}" in opened
    assert f"rows with their texts ({BECAUSE}), hidden train rows" in opened
    assert before_blind.count(BEFORE_BLIND) == len(standing), "once a task, not once a run"


def test_the_export_lists_open_methods_apart(served: Running, made) -> None:
    with served.operator() as operator:
        mine = [e for e in operator.export().leaderboard if e.task == "math"]
    assert mine[0].snapshot == made["blind"] and mine[0].rank == 1
    (other,) = [e for e in mine if e.snapshot == made["open"]]
    assert other.apart and other.rank is None
    (third,) = [e for e in mine if e.snapshot == made["ships"]]
    assert (third.apart, third.apart_because) == (True, f"ships data: {SHIPS}")


def test_the_commands_name_delivery_reason_and_stamps(
    served: Running, made, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path
) -> None:
    with served.operator() as operator:
        export = operator.export()
    monkeypatch.setattr(audit, "_export", lambda folder: export)
    monkeypatch.setenv("COLUMNS", "200")
    audit.show(tmp_path, made["open"][:12])
    assert f"given: rows with their texts ({BECAUSE}), hidden train rows" in (
        text := capsys.readouterr().out
    )
    assert "12.0% between two runs with other teachers" in text
    audit.show(tmp_path, made["blind"][:12], as_json=True)
    assert '"delivery": "blind"' in (text := capsys.readouterr().out)
    assert '"train_rows": "public"' in text and "answer equality asked" in text
    audit.list_audits(tmp_path, everything=True, as_json=True)
    assert f'"open_because": "{BEFORE_BLIND}"' in capsys.readouterr().out


def test_an_accepted_open_method_ranks(served: Running, made) -> None:
    with served.operator() as operator:
        given = {"decision": "accepted", "reason": "read every line", "by": "ann"}
        operator.give_verdict(NewVerdict(snapshot=made["open"], **given))
        (entry,) = [e for e in operator.export().leaderboard if e.snapshot == made["open"]]
    assert entry.rank in (1, 2) and not entry.apart and entry.open_because == BECAUSE
    with operator_seat(served) as client:
        page = facts(client, BOARD)
        text = client.get(f"/methods/{made['open']}").text
    assert {e["snapshot"]: e["rank"] for e in page["entries"]}[made["open"]] == entry.rank
    assert BECAUSE in text, "why it was open stays visible"
