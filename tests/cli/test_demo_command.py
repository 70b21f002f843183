"""`aarlab demo`: what it refuses before anything is built, what its spec says, transcripts."""

from pathlib import Path

import pytest
from commands import aarlab

from aarlab.campaign.presets import SCRIPTED_AAR, SCRIPTED_CHEAT, demo
from aarlab.cli.demo import default_folder
from aarlab.cli.transcripts import in_short, last_entry
from aarlab.core.layout import RunDir
from aarlab.core.transcript import TranscriptEntry

MODEL = "anthropic/claude-sonnet-4-5"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for key in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    return tmp_path


def test_without_a_model_every_language_aar_is_called_scripted() -> None:
    spec = demo()
    talkers = {aar.name: spec.language_of(aar) for aar in spec.aars if spec.language_of(aar)}
    assert set(talkers) == {SCRIPTED_AAR, SCRIPTED_CHEAT}
    for name, language in talkers.items():
        assert name.startswith("scripted-") and language.model.startswith("scripted/")
    assert (spec.tasks, spec.held_out) == (["oversight"], ["oversight-unseen"])
    assert {aar.researcher for aar in spec.aars} == {"random", "evolutionary", "fixed", "language"}


def test_with_a_model_its_aars_share_the_dollars_and_the_cheat_stays_scripted() -> None:
    spec = demo(MODEL, 6.0, 3)
    mine = [aar for aar in spec.aars if aar.language and aar.language.model == MODEL]
    assert [aar.name for aar in mine] == ["ada", "bela", "cleo"]
    assert [spec.limits_of(aar).dollars for aar in mine] == [2.0, 2.0, 2.0]
    assert spec.campaign_limits.dollars == 6.0
    assert SCRIPTED_AAR not in {aar.name for aar in spec.aars}
    assert SCRIPTED_CHEAT in {aar.name for aar in spec.aars}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", MODEL], "--dollars 5"),
        (["--dollars", "5"], "need --model"),
        (["--aars", "3"], "need --model"),
        (["--model", MODEL, "--dollars", "5"], "ANTHROPIC_API_KEY"),
        (["--model", "claude-sonnet-4-5", "--dollars", "5"], "anthropic/claude-sonnet-4-5"),
        (["--model", "scripted/nobody", "--dollars", "5"], "no script 'nobody'"),
    ],
)
def test_what_would_stop_it_is_said_before_anything_is_built(
    words: list[str], said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = aarlab(capsys, "demo", *words)
    assert code == 2 and said in told, told
    assert list(home.iterdir()) == []


def test_a_model_without_a_price_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    code, told = aarlab(capsys, "demo", "--model", "openai/of-no-price", "--dollars", "5")
    assert code == 2 and "no price of model 'openai/of-no-price'" in told
    assert list(home.iterdir()) == []


def test_runs_of_two_models_have_folders_of_their_own() -> None:
    assert default_folder(None) == "demo"
    assert default_folder(MODEL) == "demo-anthropic-claude-sonnet-4-5"
    assert default_folder("hf/../../Etc") == "demo-hf-..-..-etc"


def test_a_transcript_is_printed_and_drives_no_terminal(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = aarlab(capsys, "aar", "transcript", "run", "ada")
    assert code == 2 and "holds no campaign" in told
    (home / "run").mkdir()
    (home / "run" / "spec.json").touch()
    code, told = aarlab(capsys, "aar", "transcript", "run", "ada")
    assert code == 2 and "has no transcript" in told
    path = RunDir(home / "run").transcript("ada")
    path.parent.mkdir(parents=True)
    long = "\n".join(f"line {number}" for number in range(100))
    entries = [
        ("assistant", "I try the plain student.\x1b[31m", None),
        ("tool_call", '{"path": "a.py", "text": "one\\ntwo"}', "create_file"),
        ("tool_result", long, "bash"),
        ("assistant", "", None),
    ]
    with path.open("w", encoding="utf-8") as out:
        for seq, (kind, text, tool) in enumerate(entries):
            entry = TranscriptEntry(seq=seq, at="t", session=1, turn=seq, kind=kind, text=text,
                                    tool=tool)  # fmt: skip
            out.write(entry.model_dump_json() + "\n")
    code, told = aarlab(capsys, "aar", "transcript", "run", "ada")
    assert code == 0 and "\x1b" not in told and "plain student.\\x1b[31m" in told
    assert "turn 1 calls create_file path: a.py text: one two" in told
    assert "line 15" in told and "line 16" not in told and "more characters: --whole" in told
    assert "turn 3" not in told
    last = last_entry(path)
    assert last is not None and (last.turn, in_short(last)) == (3, "says ")
    with path.open("ab") as out:
        out.write(b'{"seq": 4, "cut')  # as a crash leaves it
    assert last_entry(path) == last and last_entry(path.parent / "none") is None
    code, told = aarlab(capsys, "aar", "transcript", "run", "ada", "--whole")
    assert code == 0 and "line 99" in told and "--whole" not in told
