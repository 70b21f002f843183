"""A client with the HTTP API and nothing else gets all that it needs."""

from typing import Any

import pytest
from http_kit import http, problem_of, snapshot_of
from platform_kit import Running

from aarlab.testbed.tasks.task import open_public


def sent(client: Any, path: str, body: dict, key: str) -> dict:
    answer = client.post(path, json=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_from_the_rules_to_a_request(gauss: Running) -> None:
    with http(gauss, gauss.token("http-alone", methods=1)) as client:
        document = client.get("/v1/openapi.json").json()["paths"]
        assert {"/v1/rules", "/v1/contract", "/v1/trials"} <= set(document)
        assert "disqualifies" in client.get("/v1/rules").json()["text"]
        (task,) = client.get("/v1/tasks").json()
        where = f"/v1/tasks/{task['name']}"
        rows = client.get(f"{where}/rows", params={"split": "search", "limit": 1000}).json()["rows"]
        labels = client.get(f"{where}/weak-labels", params={"limit": 10_000}).json()
        assert (len(rows), len(labels["probs"])) == (task["n_search"], task["n_train"])
        assert {note["name"] for note in client.get("/v1/notes").json()} >= {"README.md"}
        files = client.get("/v1/contract").json()["example"]
        code = snapshot_of({file["path"]: file["text"] for file in files}).model_dump(mode="json")
        snapshot = sent(client, "/v1/snapshots", code, "code")
        asked = {"snapshot": snapshot["id"], "seeds": 1, "show_predictions": True}
        trial = sent(client, "/v1/trials", asked, "trial")
        assert trial["ids"] == [row["id"] for row in rows]
        submission = {
            "task": task["name"],
            "method": "m",
            "ids": trial["ids"],
            "runs": trial["runs"],
        }
        sent(client, "/v1/submissions", submission, "score")
        sent(client, "/v1/methods", {"snapshot": snapshot["id"]}, "ask")
        assert client.get("/v1/methods").json()[0]["state"] == "queued"


def test_pages_are_whole_and_in_order(gauss: Running) -> None:
    public = open_public(gauss.task.data.public_task("gauss"))
    with http(gauss, gauss.token("http-pages")) as client:
        for path, field, whole in (
            ("rows?split=train", "rows", [e.id for e in public.train]),
            ("weak-labels?", "ids", [e.id for e in public.train]),
        ):
            got, after = [], 0
            while after is not None:
                asked = f"/v1/tasks/gauss/{path}&limit=150&after={after}"
                page = client.get(asked).json()
                got += page[field]
                after = page["next_after"]
            assert [row if isinstance(row, str) else row["id"] for row in got] == whole
        past = client.get("/v1/tasks/gauss/rows?split=train&after=100000").json()
        assert (past["rows"], past["next_after"]) == ([], None)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("tasks/gauss/rows", 422),
        ("tasks/gauss/rows?split=selection", 422),
        ("tasks/gauss/rows?split=teacher", 422),
        ("tasks/held/rows?split=train", 404),
        ("tasks/..%2F..%2Fvault%2Fgauss/rows?split=train", 404),
        ("tasks/gauss/weak-labels?teacher_seed=99", 404),
        ("tasks/gauss/weak-labels?teacher_seed=-1", 422),
    ],
)
def test_only_public_rows_and_teachers(gauss: Running, path: str, status: int) -> None:
    with http(gauss, gauss.token("http-hidden")) as client:
        answer = client.get(f"/v1/{path}")
        assert answer.status_code == status
        problem_of(answer)
    with http(gauss, gauss.operator_token) as operator:
        assert operator.get(f"/v1/{path}").status_code in (403, 404)


def test_a_damaged_task_is_told_without_the_machines_folders(running: Running) -> None:
    """The task of these tests has a card and no rows."""
    with http(running, running.token("http-damaged")) as client:
        answer = client.get("/v1/tasks/tiny/rows?split=train")
    assert answer.status_code == 503 and answer.json()["code"] == "damaged"
    assert "task tiny cannot be read" in answer.text and "/" not in answer.json()["message"]
