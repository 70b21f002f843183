"""The parts below the pages, alone: transcripts of any length, diffs, the chain, run files."""

import json
from pathlib import Path

import pytest

from aarlab.core.endings import Ending, last_ending
from aarlab.core.errors import Damaged, NotFound
from aarlab.core.hashing import GENESIS, next_hash
from aarlab.core.holding import noted
from aarlab.core.layout import RunDir
from aarlab.core.wire import LogRecord
from aarlab.server.dashboard import run_files
from aarlab.server.dashboard.curve import WIDTH, axis_of, bar
from aarlab.server.dashboard.log_check import link_fault
from aarlab.server.dashboard.side_by_side import side_by_side
from aarlab.server.dashboard.transcripts import HITS, Indexes


def entry(seq: int, text: str = "hello", tool: str | None = None) -> str:
    at = f"2026-11-20T{8 + seq // 3600:02d}:{seq // 60 % 60:02d}:{seq % 60:02d}+00:00"
    return json.dumps({"seq": seq, "at": at, "session": 1, "turn": seq, "kind": "assistant",
                       "text": text, "tool": tool}) + "\n"  # fmt: skip


def transcript(run: RunDir, aar: str, lines: list[str]) -> Path:
    path = run.transcript(aar)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    return path


async def test_a_transcript_is_paged_while_it_grows(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    path = transcript(run, "wren", [entry(n) for n in range(1, 121)])
    kept = Indexes(run)
    page, n = await kept.page("wren", 100, 50)
    assert [e.seq for e in page] == list(range(101, 121)) and n == 120
    with path.open("a") as out:
        out.write(entry(121) + entry(122)[:20])  # the last line is not whole yet
    page, n = await kept.page("wren", 119, 50)
    assert [e.seq for e in page] == [120, 121] and n == 121
    assert kept.last("wren").seq == 121
    path.write_text(entry(7))  # another file in its place
    assert (await kept.page("wren", 0, 50))[0][0].seq == 7


async def test_a_search_finds_texts_and_tools_not_field_names(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    lines = [entry(n) for n in range(1, 200)]
    lines[50], lines[120] = entry(51, 'He said "Flip it"\nnow'), entry(121, tool="submit")
    transcript(run, "wren", lines)
    kept = Indexes(run)
    assert (await kept.search("wren", 'said "flip it"\nNOW', 0)).lines == [50]
    assert (await kept.search("wren", "SUBMIT", 0)).lines == [120]
    assert (await kept.search("wren", "session", 0)).lines == []
    first = await kept.search("wren", "hello", 0)
    assert len(first.lines) == HITS and first.next_line == HITS
    assert (await kept.search("wren", "hello", 190)).next_line is None


async def test_the_line_of_a_time_is_found_by_halving(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    transcript(run, "wren", [entry(n) for n in range(1, 4000, 10)])
    kept = Indexes(run)
    assert await kept.line_at("wren", "2026-11-20T08:00:31.5+00:00") == 4
    assert await kept.line_at("wren", "2020") == 0
    assert await kept.line_at("wren", "2030") == 400


async def test_a_damaged_line_and_a_missing_file_are_said(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    transcript(run, "wren", [entry(1), "{}\n", entry(3)])
    kept = Indexes(run)
    with pytest.raises(Damaged, match=":2 is not a transcript entry"):
        await kept.page("wren", 0, 5)
    assert kept.last("wren").seq == 3
    for name in ("finch", "..", "a/b", "A"):
        with pytest.raises(NotFound):
            await kept.open(name)


def test_two_versions_lie_side_by_side() -> None:
    old = {"method.py": b"a = 1\nb = 2\n" + b"c = 3\n" * 20, "gone.txt": b"x"}
    new = {"method.py": b"a = 1\nb = 9  # <script>\n" + b"c = 3\n" * 20, "new.bin": b"\0\1"}
    files = {f["path"]: f for f in side_by_side(old, new)}
    rows = files["method.py"]["rows"]
    assert [r["kind"] for r in rows] == ["same", "changed", "same", "same", "same", "gap"]
    assert rows[1]["old"] == 2 and rows[5]["lines"] == 17
    assert "&lt;script&gt;" in rows[1]["new_html"] and "<script>" not in str(rows[1]["new_html"])
    assert files["new.bin"]["omitted"] == "binary" and files["gone.txt"]["change"] == "removed"
    assert [r["kind"] for r in files["gone.txt"]["rows"]] == ["removed"]


def test_a_diff_is_bounded() -> None:
    long = {"a.py": b"x\n" * 2500, "b.py": b"y" * 2000, "c.py": b"z" * 300_000}
    assert [f["omitted"] for f in side_by_side({}, long)] == ["too large", "too large", "binary"]
    many = {f"{n}.py": b"x = 1\n" * 1500 for n in range(10)}
    assert sum(len(f["rows"]) for f in side_by_side({}, many)) <= 6000


def test_the_highlighted_text_is_the_text() -> None:
    source = 'def f(x):\n    """Doc <b>\n    more"""\n    return {"a": 1.5}  # end\n'
    (file,) = side_by_side({}, {"method.py": source.encode()})
    shown = "\n".join(row["new_html"].striptags() for row in file["rows"])
    assert " ".join(shown.split()) == " ".join(source.split())


def test_a_link_of_the_chain_that_does_not_fit_is_named() -> None:
    good = LogRecord(seq=1, kind="note", at="t", body={"a": 1},
                     hash=next_hash(GENESIS, 1, "note", "t", {"a": 1}))  # fmt: skip
    assert link_fault(GENESIS, 1, good) == ""
    assert "does not match" in link_fault(GENESIS, 1, good.model_copy(update={"body": {"a": 2}}))
    assert "missing" in link_fault(good.hash, 2, good.model_copy(update={"seq": 3}))


def test_bars_stay_inside_their_drawing() -> None:
    axis = axis_of([-7.0, 0.4, 3.0])
    for value, low, high in ((0.4, -7.0, 3.0), (-0.2, -0.3, -0.1), (2.0, 1.9, 2.1)):
        drawn = bar(axis, value, low, high)
        assert all(0 <= x <= WIDTH for x in drawn) and drawn.low <= drawn.value <= drawn.high
        assert drawn.left + drawn.width <= WIDTH


def test_events_that_are_no_events_are_left_out(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert run_files.last_events(run) == [] and run_files.state_of(run) == "new"
    good = {"at": "2026-11-20T08:00:00", "kind": "campaign_started"}
    run.events.write_text('[1]\nnot json\n{"kind": 4, "at": "x"}\n' + json.dumps(good) + "\n")
    assert run_files.last_events(run) == [good] and run_files.state_of(run) == "interrupted"
    with run.events.open("a") as out:
        out.write(json.dumps({**good, "kind": "campaign_finished"}) + "\n")
    assert run_files.state_of(run) == "finished"
    for ending in Ending:
        with run.events.open("a") as out:
            facts = {"ending": ending.value, "why": "[bold]x[/bold]\x1b[31m"}
            out.write(json.dumps({**good, "kind": "campaign_ended", **facts}) + "\n")
        assert run_files.state_of(run) == ending.value
        assert run_files.standing(run) == (ending.value, ending.words, "x\ufffd[31m")
        assert last_ending(run.events) == (ending, "x\ufffd[31m")


def test_who_holds_a_campaign_is_seen_without_taking_its_lock(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert not run_files.is_run_by_a_process(run)
    with noted(run.holder, "run"):
        assert run_files.is_run_by_a_process(run) and run_files.state_of(run) == "running"
    assert not run_files.is_run_by_a_process(run)
    with noted(run.holder, "look"):  # a server for one command is no running campaign
        assert run_files.state_of(run) == "new"
