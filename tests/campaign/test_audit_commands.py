"""`aarlab audit` and `aarlab verdict` on a finished campaign, through the real command."""

import json
import shutil

import pytest
from planted_transcripts import CHEATING, write_planted
from toy_campaign import command, finished

from aarlab.agents.prices import Price
from aarlab.cli.main import cli, run_safely
from aarlab.core.headline import first_task, standings_of
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport

# Inspect's own call into its retry library
pytestmark = [
    pytest.mark.gate,
    pytest.mark.filterwarnings("ignore:The 'initial' parameter:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def run(toy_run, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A copy, as these commands write."""
    copy = tmp_path_factory.mktemp("audited") / "toy"
    shutil.copytree(toy_run[0].path, copy, ignore=shutil.ignore_patterns("socket", "*.lock"))
    return RunDir(copy)


def exported(run: RunDir) -> CampaignExport:
    return CampaignExport.model_validate_json(run.export.read_text())


def said(root: DataRoot, *words: str) -> tuple[int, str]:
    return finished(command(root, *words))


def test_a_verdict_takes_a_method_out_of_the_ranking_and_is_logged(
    run: RunDir, toy_root: DataRoot
) -> None:
    best = exported(run).leaderboard[0]
    code, out = said(toy_root, "audit", "list", str(run.path), "--all")
    assert code == 0 and "clear" in out
    short = standings_of(exported(run), first_task(exported(run))).names[best.snapshot]
    words = ("verdict", str(run.path), short, "disqualified")
    code, out = said(toy_root, *words, "--reason", "counts answers", "--by", "ann")
    assert code == 0 and f"{short} disqualified; recorded in the log" in out
    after = exported(run)
    assert best.snapshot not in {entry.snapshot for entry in after.leaderboard}
    assert (after.verdicts[-1].by, after.verdicts[-1].reason) == ("ann", "counts answers")
    head = f"{after.head.seq}:{after.head.hash}"
    assert said(toy_root, "log", "verify", str(run.path), "--head", head)[0] == 0
    code, out = said(toy_root, "audit", "show", str(run.path), best.snapshot[:10])
    assert code == 0 and "disqualified: counts answers" in out
    report = said(toy_root, "report", str(run.path))
    assert report[0] == 0
    methods = json.loads((run.report / "summary.json").read_text())["methods"]
    assert "disqualified" in {method["verdict"] for method in methods}


def test_certify_scores_a_method_once(run: RunDir, toy_root: DataRoot) -> None:
    scored = {v.snapshot for v in exported(run).verifications if v.split == "certify"}
    assert len(scored) == 1, "the campaign's own, of its best"
    others = [e.snapshot for e in exported(run).leaderboard if e.snapshot not in scored]
    snapshot = others[-1][:10]
    code, out = said(toy_root, "audit", "certify", str(run.path), snapshot, "--seeds", "2")
    assert code == 0 and "certify" in out
    after = [v.snapshot for v in exported(run).verifications if v.split == "certify"]
    assert set(after) == {*scored, others[-1]} and len(after) == 2
    code, out = said(toy_root, "audit", "certify", str(run.path), snapshot, "--seeds", "2")
    assert code == 2 and "scored once per method" in " ".join(out.split())


def test_unclear_words_are_refused_with_what_to_do(run: RunDir, toy_root: DataRoot) -> None:
    for start in ("zzzz", ""):
        code, out = said(toy_root, "verdict", str(run.path), start, "accepted", "--reason", "x")
        assert code == 2 and "aarlab audit list" in " ".join(out.split())
    code, out = said(toy_root, "verdict", str(run.path), "a", "accepted", "--reason", " ")
    assert code == 2 and "--reason is empty" in out


def test_a_finding_about_an_aar_is_confirmed_and_dismissed(run: RunDir, toy_root: DataRoot) -> None:
    export = exported(run)
    author = export.leaderboard[0].aar
    found = next(a for a in export.audits if a.snapshot is None and a.aar == author)
    code, out = said(toy_root, "audit", "list", str(run.path), "--all")
    assert code == 0 and found.id in "".join(out.split())
    words = ("verdict", str(run.path), found.id[:12])
    code, out = said(toy_root, *words, "confirmed", "--reason", "hunts", "--by", "ann")
    assert code == 0 and "recorded in the log" in out
    after = exported(run)
    assert author not in {entry.aar for entry in after.leaderboard} and after.leaderboard
    assert after.case_verdicts[-1].disqualifies == "task"
    code, out = said(toy_root, "audit", "show", str(run.path), export.leaderboard[0].snapshot[:10])
    assert code == 0 and "disqualified: hunts" in " ".join(out.split())
    assert said(toy_root, *words, "dismissed", "--reason", "retries")[0] == 0
    assert {e.snapshot for e in exported(run).leaderboard} == {
        e.snapshot for e in export.leaderboard
    }
    head = exported(run).head
    at = f"{head.seq}:{head.hash}"
    assert said(toy_root, "log", "verify", str(run.path), "--head", at)[0] == 0
    code, out = said(toy_root, "verdict", str(run.path), "zz", "dismissed", "--reason", "x")
    assert code == 2 and "aarlab audit list" in " ".join(out.split())


def test_a_model_reads_transcripts_only_when_asked(
    run: RunDir,
    toy_root: DataRoot,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("inspect_ai")
    from keyword_reader import register_reader

    register_reader()
    monkeypatch.setenv("AARLAB_HOME", str(toy_root.path))
    free = Price(model="reader/keywords", dated="a script", input=0.0, output=0.0)
    monkeypatch.setattr("aarlab.agents.prices.price_of", lambda *_: free)
    before = exported(run).audits
    assert "transcript" not in {audit.kind for audit in before}
    words = ["audit", "transcripts", str(run.path), "--model", free.model, "--dollars", "0.5"]
    assert run_safely(lambda: cli(words, standalone_mode=False)) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "only language-model AARs write one" in shown
    author = exported(run).leaderboard[0].aar
    write_planted(CHEATING[0], run.transcript(author))
    for _ in range(2):
        assert not run_safely(lambda: cli([*words, "--aar", author], standalone_mode=False))
        assert f"{author}: read 2 of 2 parts; 1 flag" in capsys.readouterr().out
    (found,) = exported(run).audits[len(before) :]
    assert (found.kind, found.aar, found.severity) == ("transcript", author, "suspect")
    code, out = said(toy_root, "audit", "list", str(run.path))
    assert code == 0 and "its transcript, finding" in out
