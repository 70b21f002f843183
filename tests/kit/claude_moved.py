"""A campaign of Claude Code on a fake model, whose machine is lost, and what must hold of it."""

from collections import Counter
from pathlib import Path

import claude_talk
import lost_node
from fake_models import FakeModels

from aarlab.core.layout import RunDir
from aarlab.core.transcript import read_transcript
from aarlab.report.load import load_export
from aarlab.store.log import verify_log


def spec_of(fake: FakeModels, executor: dict[str, object]) -> dict[str, object]:
    spec = lost_node.spec_of(fake, executor, [], [])
    external = {"agent": "claude-code", "model": lost_node.MODEL}
    spec["aars"] = [{"name": "grace", "researcher": "external", "external": external}]
    return spec


def check_whole(run: RunDir, fake: FakeModels, kills: int, nodes: Path | None = None) -> None:
    """Nothing is lost; what was under way when its machine was lost may be there twice."""
    export, counts = load_export(run.export), fake.counts()
    verify_log(run.database)
    assert counts.wrong_key == 0 and counts.leaks == []
    booked = lost_node.recorded(export)
    assert abs(counts.n_paid - booked) <= kills, (counts.n_paid, booked)
    entries = list(read_transcript(run.aar("grace") / "transcript.jsonl"))
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    turns = [entry.turn for entry in entries if entry.kind == "assistant"]
    assert turns == list(range(1, len(turns) + 1)), "one for each answer of the model"
    home = run.aar("grace") if nodes is None else lost_node.homes(nodes, "grace")[0]
    ran = Counter((home / "workspace" / "log.txt").read_text().split())
    posted = Counter(f.title for f in export.findings if f.author == "grace")
    for done, steps in ((ran, lambda n: n % 4 != 3), (posted, lambda n: n % 4 == 3)):
        assert set(done) == {f"step-{n}" for n in range(claude_talk.STEPS + 1) if steps(n)}
        assert done.total() - len(done) <= kills, "only what was cut off was done again"
    assert b"says that it is finished" in (run.aar("grace") / "state.json").read_bytes()
    token = (run.tokens / "grace").read_bytes().strip()
    kept = [path for path in (run.platform / "kept").rglob("*") if path.is_file()]
    assert bool(kept) == (nodes is not None)
    for path in [*kept, *home.rglob("*")]:
        if path.is_file() and not path.is_symlink():
            raw = path.read_bytes()
            assert token not in raw and fake.key.encode() not in raw, path


def told_of_moves(run: RunDir) -> int:
    entries = read_transcript(run.aar("grace") / "transcript.jsonl")
    return sum(e.kind == "user" and "You were moved to another machine" in e.text for e in entries)
