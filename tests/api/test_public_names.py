"""The public API: names, signatures, import cost, and what type checkers see."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import aarlab
from aarlab.core.extras import EXTRAS
from aarlab.core.layout import DataRoot

ROOT = Path(__file__).parents[2]
STUB = ROOT / "src" / "aarlab" / "__init__.pyi"
HEAVY = {"numpy", "scipy", "pydantic", "torch", "fastapi", "sqlalchemy", "httpx", "yaml", "typer"}

# What a script may rely on. A name leaves this list only with an entry in the changelog.
NAMES = {
    "METHODS", "AarSpec", "AarlabError", "ArmSpec", "BadInput", "CampaignExport",
    "CampaignSpec", "Example", "Fit", "Gap", "HeadOptions", "Interval", "LeaderboardEntry",
    "Limits", "Method", "MethodFailed", "MethodLike", "MethodScore", "NotFound", "Outcomes",
    "Predictor", "Problem", "Recipe", "Student", "StudentFactory", "Task", "TaskInfo", "TrainTask",
    "VerifySpec", "__version__", "find_method", "load_export", "load_spec", "mutate_recipe",
    "open_task", "pgr", "run_campaign", "sample_recipe", "score_method", "score_methods",
    "task_names", "verdict_of", "write_report",
}  # fmt: skip

SIGNATURES = {
    "open_task": "(name, *, home=None, with_model=None)",
    "task_names": "(home=None)",
    "score_method": "(method, task, *, seeds=5, permuted=False, diagnostics=False)",
    "run_campaign": "(spec, out, *, home=None, notify=<function _quiet>)",
    "pgr": "(outcomes, level=0.95)",
    "load_export": "(path)",
    "load_spec": "(path)",
    "sample_recipe": "(rng, fixed=None)",
    "mutate_recipe": "(recipe, rng, n=1, fixed=None)",
    "verdict_of": "(export, task=None)",
    "find_method": "(name)",
}


def run(script: str) -> str:
    """Run a script in a process of its own and return what it prints."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return done.stdout.decode()


def typed_names() -> dict[str, tuple[str, str]]:
    """Return what type checkers see: module and name there, for each public name."""
    return {
        one.asname or one.name: (str(node.module), one.name)
        for node in ast.parse(STUB.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for one in node.names
    }


def plain_signature(function: object) -> str:
    """Return names, kinds and defaults of the arguments, without annotations and addresses."""
    assert callable(function)
    shown = []
    for one in inspect.signature(function).parameters.values():
        default = one.default
        if inspect.isfunction(default):
            one = one.replace(default=_Named(default.__name__))
        shown.append(one.replace(annotation=inspect.Parameter.empty))
    return str(inspect.Signature(shown))


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<function {self.name}>"


def test_the_names_are_those_promised() -> None:
    assert set(aarlab.__all__) == NAMES
    assert len(aarlab.__all__) == len(NAMES)
    assert set(dir(aarlab)) >= NAMES


def test_type_checkers_and_the_interpreter_see_the_same_objects() -> None:
    typed = typed_names()
    assert set(typed) == NAMES - {"__version__"}
    listed = re.search(r"__all__ = (\[.*?\])", STUB.read_text(encoding="utf-8"), re.DOTALL)
    assert listed is not None and ast.literal_eval(listed[1]) == aarlab.__all__
    for name, (module, there) in typed.items():
        assert getattr(aarlab, name) is getattr(import_module(module), there), name


def test_every_name_is_documented() -> None:
    for name in NAMES - {"METHODS", "Fit", "MethodLike", "__version__"}:  # a dict, types, a text
        assert (getattr(aarlab, name).__doc__ or "").strip(), name


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_those_promised(name: str) -> None:
    assert plain_signature(getattr(aarlab, name)) == SIGNATURES[name]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Studnet'"):
        _ = aarlab.Studnet  # type: ignore[attr-defined]
    assert not hasattr(aarlab, "__path_hooks__")


def test_importing_the_package_is_cheap() -> None:
    loaded = set(run("import sys, aarlab; print(*sys.modules)").split())
    assert not HEAVY & loaded
    assert {one for one in loaded if one.startswith("aarlab")} == {"aarlab"}


def test_no_public_name_loads_torch_or_a_database() -> None:
    script = "import sys\nfrom aarlab import *\nprint(*sys.modules)"
    loaded = set(run(script).split())
    assert {"numpy", "aarlab.api"} <= loaded
    assert not {"torch", "transformers", "sqlalchemy", "fastapi"} & loaded


def test_the_package_itself_imports_no_public_name() -> None:
    """A module that did would reach every floor unseen by the import contracts."""
    for path in sorted((ROOT / "src" / "aarlab").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "aarlab":
                names = {one.name for one in node.names}
                assert not names & (NAMES - {"__version__"}), f"{path}: {names}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                public = node.value.id == "aarlab" and node.attr in NAMES
                assert not public, f"{path}:{node.lineno}: aarlab.{node.attr}"


def test_the_reference_page_shows_every_name() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    shown = {line.removeprefix("::: aarlab.") for line in page.split("\n") if line[:4] == "::: "}
    assert shown == NAMES - {"__version__", "METHODS"}
    assert "`METHODS`" in page


WITHOUT = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {gone!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Gone())
import aarlab
"""


def test_a_missing_extra_is_named_with_its_command() -> None:
    script = WITHOUT.format(gone={"threadpoolctl"}) + (
        "print(aarlab.pgr.__name__, aarlab.Recipe().hash())\n"
        "try:\n    aarlab.open_task\n"
        "except aarlab.AarlabError as error:\n    print(error.code, error)\n"
    )
    first, second = run(script).strip().split("\n")
    assert first == f"pgr {aarlab.Recipe().hash()}"
    assert second.startswith("missing_extra aarlab.open_task needs threadpoolctl")
    assert "pip install 'aarlab[testbed]'" in second


def test_a_score_needs_the_extra_testbed_alone(toy_root: DataRoot) -> None:
    others = {one for name, packages in EXTRAS.items() if name != "testbed" for one in packages}
    gone = others - set(EXTRAS["testbed"]) - {"pygments", "markdown_it"}  # rich brings these
    script = WITHOUT.format(gone=gone) + (
        "from pathlib import Path\n"
        f"task = aarlab.open_task('gauss', home=Path({str(toy_root.path)!r}))\n"
        "print(aarlab.score_method('vanilla', task, seeds=1).pgr.value)\n"
    )
    assert {"sqlalchemy", "fastapi", "matplotlib", "optuna"} <= gone
    assert -1 < float(run(script)) < 2
