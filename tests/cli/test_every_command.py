"""What holds for every command: -h, --json where it prints a table, no traceback for bad input."""

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from commands import aarlab, commands

from aarlab.cli.main import cli, run_safely

ALL = dict(commands())
LEAVES = {words: one for words, one in ALL.items() if not hasattr(one, "commands")}
PRINTING = {"Table", "print_status", "print_json"}
HEAVY = {"numpy", "scipy", "pydantic", "torch", "fastapi", "sqlalchemy", "httpx", "yaml", "psutil"}


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ALL:
        code, said = aarlab(capsys, *words, flag)
        assert code == 0 and "Usage: " in said, words


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from aarlab import __version__

    assert aarlab(capsys, "--version") == aarlab(capsys, "version") == (0, f"{__version__} ")


def test_importing_the_command_is_cheap() -> None:
    script = "import sys, aarlab.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert not HEAVY.intersection(done.stdout.decode().split())


def _names(function: Callable[..., object], seen: set[str]) -> set[str]:
    """Names that a function refers to, those of the functions of its module included."""
    module = ast.parse(inspect.getsource(sys.modules[function.__module__]))
    bodies = {one.name: one for one in module.body if isinstance(one, ast.FunctionDef)}
    found, waiting = set[str](), [function.__name__]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in bodies:
            continue
        seen.add(name)
        names = {node.id for node in ast.walk(bodies[name]) if isinstance(node, ast.Name)}
        found |= names
        waiting += names
    return found


def test_a_command_that_prints_a_table_prints_json_too() -> None:
    """A command of another module that is called (`testbed.run`) has its own option."""
    tables = []
    for words, command in LEAVES.items():
        assert command.callback is not None
        if PRINTING & _names(inspect.unwrap(command.callback), set()):
            tables.append(words)
            assert any("--json" in one.opts for one in command.params), f"{words}: no --json"
    assert {("task", "list"), ("campaign", "status"), ("audit", "show")} <= set(tables)


@pytest.mark.parametrize(
    "words",
    [("task", "list"), ("task", "mappings"), ("models", "list"), ("models", "cache"),
     ("method", "list"), ("doctor",)],
    ids=" ".join,
)  # fmt: skip
def test_json_is_json(
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path))
    assert run_safely(lambda: cli([*words, "--json"], standalone_mode=False)) == 0
    assert json.loads(capsys.readouterr().out)


BAD = """
demo --sandbox nope
demo --out FILE
demo --out FILE/below
campaign run demo --sandbox nope
campaign run nope
campaign run FOLDER
campaign run LATIN1
campaign run FILE
campaign check nope
campaign check FOLDER
campaign check LATIN1
campaign check FILE
campaign list nope
campaign list FILE
campaign status nope
campaign status FILE
campaign status FOLDER
campaign resume nope
campaign export nope
campaign compare nope
campaign compare FILE
campaign classify nope --model x
campaign pause nope
campaign extend nope
campaign extend FOLDER --hours -1
aar pause nope rowan
aar extend FOLDER rowan --hours -1
aar extend FOLDER rowan
aar connect FOLDER rowan
aar connect FOLDER rowan --client nope
aar connect FOLDER rowan --port -1
audit list nope
audit list FILE
audit show FOLDER abc
audit run nope
audit certify FOLDER abc --seeds 1
verdict FOLDER abc nope --reason x
verdict FOLDER abc accepted --reason x
report nope
report FILE
report FOLDER
report LATIN1
report compare nope nope
log verify nope
log verify FILE
log verify FOLDER --head nope
log head nope
students serve --models nope
students serve --models nope --price inf
students status --socket nope
serve
serve nope
serve FILE
serve FOLDER --port 0
serve FOLDER --port 99999
serve --runs FILE
serve FOLDER --runs FOLDER
task build nope
task build math --adaptation nope
task build math --seed x
task import nope
task import FILE
task import FOLDER
task import FOLDER --near-duplicates nope
task import FOLDER --pair nope
task fetch nope --out NEW
task fetch LATIN1 --out NEW
task fetch FOLDER --out NEW
task fetch sciq --out NEW --files nope
task fetch sciq --out NEW --rows -1
task show nope
task show math --rows -1
task card nope
models add x --folder nope --context 0
models pull nope
models pair x --weak nope --strong nope
models pair x --weak smollm2-135m@9 --strong smollm2-135m@24 --more-layers 12,1x,18
models cache --limit-gb -1
testbed run
testbed run --task nope
testbed run --task math --seeds 0
testbed run --preset nope --data FOLDER
testbed run --preset qwen-paper
testbed run --preset qwen-paper --data nope
testbed sweep --task nope --methods vanilla
testbed sweep --task math --methods vanilla --sampler nope
testbed sweep --task math --methods vanilla --trials 0
method show nope
method new FOLDER
method new NEW --like nope
method new FILE/below
method check nope
method check FILE
method run nope --task math
nope
--nope
""".strip().splitlines()


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("a file, not a folder\n", encoding="utf-8")
    (tmp_path / "latin1.yaml").write_bytes("name: grün\n".encode("latin-1"))
    names = {"FOLDER": "folder", "FILE": "file", "LATIN1": "latin1.yaml", "NEW": "new"}
    return {word: str(tmp_path / name) for word, name in names.items()}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_refused_without_a_traceback(
    line: str,
    places: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path / "home"))
    for word, path in places.items():
        line = line.replace(word, path)
    code, said = aarlab(capsys, *line.split())
    assert code == 2, said
    assert "Traceback" not in said and len(said) > 20
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "home", ["/proc", "/proc/version", "/dev/null/x", "~nobody-of-that-name/x"]
)
@pytest.mark.parametrize(
    "line",
    ["task list", "task build math", "task show math", "models pull smollm2-135m", "models cache",
     "models pair mine --weak smollm2-135m@9 --strong smollm2-135m@24", "demo --out OUT",
     "testbed run --task math", "doctor"],
)  # fmt: skip
def test_a_home_that_takes_no_files(
    home: str,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AARLAB_HOME", home)
    code, said = aarlab(capsys, *line.replace("OUT", str(tmp_path / "out")).split())
    reads_only = line in ("task list", "models cache") and "~" not in home
    assert code == (0 if reads_only else 2), said


def test_a_usage_error_names_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = aarlab(capsys, "demo", "--sandbox", "nope")
    assert code == 2 and "bubblewrap" in said and "process" in said
    assert isinstance(ALL[("demo",)], click.Command) or True


def test_doctor_names_the_keys_that_a_campaign_would_find(monkeypatch: pytest.MonkeyPatch) -> None:
    from aarlab.agents.providers import PROVIDERS
    from aarlab.cli.settings import key_names

    keys = {key for provider in PROVIDERS.values() for key in provider.keys}
    for key in keys:
        monkeypatch.setenv(key, "x")
    assert keys <= set(key_names()) and "x" not in key_names()
    for key in keys:
        monkeypatch.setenv(key, " ")
    assert not keys & set(key_names())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("report gone", "no campaign and no export at gone"),
        ("report compare gone gone", "no campaign and no export at gone"),
        ("campaign compare gone", "no campaign and no export at gone"),
        ("report there", "there holds no campaign"),
        ("report begun", "begun has no export yet: aarlab campaign export begun"),
        ("aar transcript there ada", "there holds no campaign"),
        ("aar connect there ada", "there holds no campaign"),
        ("campaign list empty", "no campaign in empty"),
        (
            "task build some/rows",
            "no folder and no embedded task 'some/rows'; there are oversight,",
        ),
        ("task card nope", "task nope is not in"),
    ],
)
def test_a_message_says_what_is_not_there(
    line: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path / "home"))
    for name in ("there", "begun", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "begun" / "spec.json").touch()
    code, told = aarlab(capsys, *line.split())
    assert said in told and code == (0 if line.startswith("campaign list") else 2)
