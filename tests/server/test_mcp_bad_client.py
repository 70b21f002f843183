"""A client that gets everything wrong is told what; nothing is written, nothing leaks."""

import json
import time

import pytest
from http_kit import http
from mcp_clients import call, session
from platform_kit import Running

from aarlab.core.wire import Limits, NewAar

METHOD = (
    "def fit(task, student, seed):\n    return student.new().fit(task.inputs, task.weak_labels_N)\n"
)


def files(text: str = METHOD, path: str = "method.py") -> dict:
    return {"files": [{"path": path, "text": text}]}


def published(text: str = METHOD) -> dict:
    return {"name": "m", **files(text)}


WRONG = {
    "no split": ("read_rows", {}, "bad_input: malformed arguments: split"),
    "a hidden split": ("read_rows", {"split": "selection"}, "bad_input: malformed"),
    "another hidden split": ("read_rows", {"split": "certify"}, "bad_input: malformed"),
    "a task that is none": ("read_rows", {"split": "train", "task": "../vault"}, "not_found"),
    "too many rows": ("read_rows", {"split": "train", "limit": 10**6}, "bad_input: malformed"),
    "before the first": ("read_rows", {"split": "train", "after": -1}, "bad_input: malformed"),
    "a teacher that is hidden": (
        "weak_labels",
        {"teacher_seed": 10**6},
        "not_found: no weak labels",
    ),
    "a note outside": ("notes", {"name": "../prompts/system.md"}, "not_found: no note"),
    "a path outside": (
        "publish_snapshot",
        {"snapshot": {"name": "m", **files(path="../x")}},
        "bad",
    ),
    "no method.py": ("publish_snapshot", {"snapshot": {"name": "m", **files(path="a.py")}}, "bad"),
    "a parent that is none": (
        "publish_snapshot",
        {"snapshot": {**published(), "parent": "0" * 40, "keep_parent_files": True}},
        "not_found: no snapshot",
    ),
    "keeps files of nothing": (
        "publish_snapshot",
        {"snapshot": {**published(), "keep_parent_files": True}},
        "bad_input: keep_parent_files",
    ),
    "text as a list": (
        "publish_snapshot",
        {"snapshot": {"name": "m", "files": METHOD}},
        "bad_input",
    ),
    "neither files nor snapshot": ("check_method", {"method": {}}, "bad_input: give either"),
    "a snapshot that is none": ("try_method", {"trial": {"snapshot": "0" * 40}}, "not_found"),
    "a hundred seeds": ("try_method", {"trial": {"snapshot": "0" * 40, "seeds": 100}}, "bad_input"),
    "a request that is none": (
        "verification_status",
        {"request": "mth_x"},
        "not_found: you have no",
    ),
    "an empty comment": ("comment", {"finding": "fnd_x", "text": ""}, "bad_input"),
    "a comment on nothing": ("comment", {"finding": "fnd_x", "text": "t"}, "not_found"),
    "a tool that is none": ("operator_export", {}, "not_found"),
    "an argument that is none": ("request_verification", {"id": "x"}, "bad_input: malformed"),
    "a long key": ("post_finding", {"post": {}, "key": "k" * 101}, "bad_input: malformed"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_is_said(gauss: Running, name: str) -> None:
    tool, arguments, begins = WRONG[name]
    async with session(gauss, gauss.token("bad")) as client:
        told = await call(client, tool, **arguments)
    assert isinstance(told, str) and told.startswith(begins), told
    assert len(told) <= 1000 and str(gauss.run.path) not in told and "Traceback" not in told


async def test_huge_arguments_are_refused_before_they_are_read(gauss: Running) -> None:
    async with session(gauss, gauss.token("huge")) as client:
        many = {"name": "m", "files": [{"path": f"{i}.py", "text": "x"} for i in range(101)]}
        told = await call(client, "publish_snapshot", snapshot=many)
        assert told.startswith("bad_input: malformed arguments: snapshot.files")
        big = {"name": "m", **files("#" * 2_000_001)}
        assert (await call(client, "publish_snapshot", snapshot=big)).startswith("bad_input")
        published = (await call(client, "list_snapshots"))["result"]
        assert "huge" not in [one["aar"] for one in published]
    body = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"x": "y" * 2**25}}
    )
    with http(gauss, gauss.token("huge")) as plain:
        answer = plain.post("/mcp", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413 and "over" in answer.json()["message"]


async def test_what_is_another_aars_stays_its_own(gauss: Running) -> None:
    """Another team's code, posts and requests do not exist; a team-mate's are read, not used."""
    with gauss.operator() as operator:
        tokens = {
            name: operator.register(
                NewAar(name=name, researcher="external", direction="", team=team, limits=Limits())
            ).token
            for name, team in (("one", "a"), ("mate", "a"), ("other", "b"))
        }
    async with session(gauss, tokens["one"]) as client:
        made = await call(client, "publish_snapshot", snapshot=published())
        asked = await call(client, "request_verification", snapshot=made["id"])
        posted = await call(
            client, "post_finding", post={"kind": "error", "title": "t", "text": ""}
        )
    using = {"trial": {"snapshot": made["id"], "submit": True}}
    async with session(gauss, tokens["other"]) as client:
        for tool, arguments in {
            "read_snapshot": {"snapshot": made["id"]},
            "get_snapshot": {"snapshot": made["id"]},
            "check_method": {"method": {"snapshot": made["id"]}},
            "try_method": using,
            "request_verification": {"snapshot": made["id"]},
            "verification_status": {"request": asked["id"]},
            "read_finding": {"finding": posted["id"]},
            "comment": {"finding": posted["id"], "text": "t"},
        }.items():
            assert (await call(client, tool, **arguments)).startswith("not_found"), tool
        assert (await call(client, "list_snapshots", aar="one"))["result"] == []
    async with session(gauss, tokens["mate"]) as client:
        (shown,) = (await call(client, "read_snapshot", snapshot=made["id"]))["result"]
        assert (shown["path"], shown["text"]) == ("method.py", METHOD)
        assert (await call(client, "try_method", **using)).startswith("forbidden: only predictions")
        told = await call(client, "request_verification", snapshot=made["id"])
        assert told.startswith("forbidden: this snapshot is another AAR's")
        assert (await call(client, "verification_status"))["result"] == []


async def test_methods_that_fail_are_booked_and_explained(gauss: Running) -> None:
    """A crash, and one that looks for what it should not have, each in the sandbox."""
    look = (
        "from pathlib import Path\n"
        "def fit(task, student, seed):\n"
        f"    raise ValueError(sorted(map(str, Path({str(gauss.task.data.path)!r}).rglob('*'))))\n"
    )
    async with session(gauss, gauss.token("fails", device_s=1000)) as client:
        check = await call(client, "check_method", method=files("import os\nos._exit(3)\n"))
        assert not check["keeps_contract"] and "exit code 3" in check["error"], check
        made = await call(client, "publish_snapshot", snapshot=published(look))
        trial = {"snapshot": made["id"], "seeds": 1, "submit": True}
        tried = await call(client, "try_method", trial=trial, key="once")
        assert tried["error"].startswith("ValueError: []"), "it sees no folder of this machine"
        assert tried["score"] is None and tried["n_rows"] == 0
        begun = time.monotonic()
        assert tried == await call(client, "try_method", trial=trial, key="once")
        assert time.monotonic() - begun < 5, "the same key is not run again"
        budget = await call(client, "my_budget")
    assert budget["spend"]["device_s"] == pytest.approx(check["seconds"] + tried["seconds"])
    assert budget["submissions_made"] == 0


FORGED = """
import json, os, sys
def fit(task, student, seed):
    out = os.path.join(os.getcwd(), "out")
    os.makedirs(out, exist_ok=True)
    record = {{"seed": 0, "teacher_seed": 0, "seconds": 0, "compute": {{}}, "diagnostics": {{}}}}
    run = {{"seed": 0, "probs": [0.5]}}
    made = {{"task": "gauss", "split": "search", "ablation": "none", "seconds": 0}}
    made |= {{"ids": ["{id}"], "runs": [run] * {runs}, "records": [record] * {runs}}}
    open(os.path.join(out, "predictions.json"), "w").write(json.dumps(made))
    os._exit(0)
"""


@pytest.mark.parametrize(("id_", "runs"), [("x", 1), ("search-0", 40)])
async def test_predictions_that_a_method_wrote_itself_are_checked(
    gauss: Running, id_: str, runs: int
) -> None:
    async with session(gauss, gauss.token("forger")) as client:
        code = FORGED.format(id=id_, runs=runs)
        made = await call(client, "publish_snapshot", snapshot=published(code))
        trial = {"snapshot": made["id"], "seeds": 1, "submit": True, "show_predictions": True}
        tried = await call(client, "try_method", trial=trial)
        assert "not of the rows and seeds" in tried["error"], tried
        assert (tried["ids"], tried["score"], tried["seconds"] > 0) == ([], None, True)


async def test_no_budget_no_run(gauss: Running) -> None:
    async with session(gauss, gauss.token("spent", submissions=0)) as client:
        told = await call(client, "check_method", method=files())
        assert told.startswith("budget_exhausted: spent has used 0 of 0 submissions")
    with gauss.operator() as operator:
        refused = [r for r in operator.log() if r.kind == "refusal" and r.body["actor"] == "spent"]
    assert refused[-1].body["route"] == "POST /v1/checks"
