"""`aarlab task` and `aarlab models` on bad input: a message with place and reason, exit code 2."""

import io
import json
import time
from pathlib import Path

import pytest
from typer.main import get_command

from aarlab.cli.main import cli, run_safely
from aarlab.cli.options import comma_list, number_list
from aarlab.cli.steps import Steps
from aarlab.cli.terminal import Console
from aarlab.core.errors import BadInput

MAPPING = "mine:\n  repo: x/y\n  licence: MIT\n  checked: now\n"
VERIFICATION = MAPPING + '  prompt: "{q}"\n  options: {"0": "no", "1": "yes"}\n  truth: "{label}"\n'
PAIRS = MAPPING + '  prompt: "{prompt}"\n  scored: {first: "{a}", second: "{b}", field: s}\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "400")
    return tmp_path


def aarlab(*arguments: object) -> int:
    return run_safely(
        lambda: get_command(cli).main(list(map(str, arguments)), standalone_mode=False)
    )


def fetch(folder: Path, mapping: str, name: str, content: bytes) -> int:
    (folder / "m.yaml").write_text(mapping)
    (folder / name).write_bytes(content)
    given = ("--files", folder / name, "--out", folder / "out")
    return aarlab("task", "fetch", folder / "m.yaml", *given)


def questions(n: int) -> list[dict[str, object]]:
    return [{"q": f"Is {i} an even number?", "label": 1 - i % 2} for i in range(n)]


def test_a_file_with_a_mark_is_fetched_and_what_was_written_is_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "".join(json.dumps(row) + "\r\n" for row in questions(60))
    assert fetch(home, VERIFICATION, "a.jsonl", b"\xef\xbb\xbf" + lines.encode()) == 0
    said = capsys.readouterr().out
    assert f"wrote {home}/out: train_label 40, train_unlabel 48, test 32 rows" in said
    assert fetch(home, VERIFICATION, "a.jsonl", lines.encode()) == 2
    assert "out exists; choose another --out" in capsys.readouterr().err


def test_a_prompt_is_in_one_file(home: Path) -> None:
    rows = [
        {"prompt": f"Topic {i % 12}, please.", "a": f"one {i}", "b": f"two {i}", "s": -1}
        for i in range(60)
    ]
    assert fetch(home, PAIRS, "a.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode()) == 0
    stems: dict[str, set[str]] = {}
    for path in (home / "out").glob("*.jsonl"):
        for line in path.read_text().removesuffix("\n").split("\n"):
            stems.setdefault(json.loads(line)["prompt"], set()).add(path.stem)
    assert len(stems) == 12 and all(len(found) == 1 for found in stems.values())


NAN = b'{"prompt": "p", "a": "x", "b": "y", "s": NaN}\n' * 12
BAD = {
    "latin-1": (VERIFICATION, "a.csv", "q,label\ncafé,1\n".encode("latin-1"), "line 2: not UTF-8"),
    "nan": (PAIRS, "a.jsonl", NAN, "line 1: not JSON (NaN is not a number) (and 11 more"),
    "a format code": (MAPPING + '  right: "{q!r}"\n  wrong: [x]\n', "a.jsonl", b"", "{q!r}"),
    "an attribute": (
        MAPPING + '  right: "{q.upper}"\n  wrong: [x]\n',
        "a.jsonl",
        b'{"q": "x"}\n',
        "line 1: the mapping's field {q.upper} is not there",
    ),
    "a doubled key": (
        VERIFICATION,
        "a.jsonl",
        b'{"q": "x", "label": 1, "label": 0}\n',
        "line 1: not JSON (the key 'label' is given twice)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_place_and_reason(
    home: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    *given, says = BAD[name]
    assert fetch(home, *given) == 2  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert says in " ".join(said.split()) and "Traceback" not in said
    assert not (home / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("task", "import", "{}/none"), "no folder"),
        (("task", "import", "{}/m.yaml"), "is a file; give the folder"),
        (("task", "import", "{}", "--name", "x"), "train_label.jsonl does not exist"),
        (("task", "import", "{}", "--repeated-questions", "maybe"), "not one of 'refuse'"),
        (("task", "fetch", "sciq", "--out", "{}/out", "--rows", "-3"), "--rows"),
        (("task", "fetch", "sciq", "--out", "{}/out", "--files", "{}"), "is a folder; give a file"),
        (("models", "pair", "p", "--weak", "smollm2-135m@3", "--strong", "smollm2-135m@9",
          "--more-layers", "12,1x,18"), "'1x' is not a whole number"),
        (("models", "add", "m", "--folder", "{}/none"), "there is no folder"),
        (("models", "cache", "--limit-gb", "inf"), "finite number"),
    ],
)  # fmt: skip
def test_values_that_are_none_are_refused(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    (home / "m.yaml").write_text("{}")
    assert aarlab(*(one.replace("{}", str(home)) for one in arguments)) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert says in said and "Traceback" not in said
    assert not (home / "home" / "models.yaml").exists()


def test_lists_of_values_are_whole_or_refused() -> None:
    assert number_list(" 12, 18", "--x") == [12, 18] and number_list("", "--x") == []
    for text in ("12,1x", "12,,18", "12,", "-1", "1.5", "٣", "²", "9" * 12, "12,12", "1_0"):
        with pytest.raises(BadInput, match="--x"):
            number_list(text, "--x")
    with pytest.raises(BadInput, match="at least 1"):
        comma_list(" ", "--methods", at_least=1)


def test_a_step_that_takes_long_is_named_again() -> None:
    out = io.StringIO()
    with Steps(Console(file=out), first_s=0.1, each_s=60) as steps:
        steps.tell("reading [red]x[/red]")
        for _ in steps.counted(range(3), "rows"):
            time.sleep(0.15)
    assert "  reading [red]x[/red]\n  ... reading [red]x[/red]: 0 s, " in out.getvalue()
    assert out.getvalue().count("...") == 1
