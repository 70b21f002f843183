"""What a visitor of the repository meets: pages that name real files, valid YAML, a strict site."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "aarlab"
PAGES = ("architecture.md", "extending.md")
PACKAGES = "api|agents|campaign|cli|client|core|report|sandbox|server|store|testbed|vault|verify"


def _mkdocs() -> Path | None:
    """Return the program of `make docs`, or one beside this interpreter."""
    for folder in (ROOT / ".venv-docs" / "bin", Path(sys.executable).parent):
        if (folder / "mkdocs").exists():
            return folder / "mkdocs"
    return None


@pytest.mark.parametrize("page", PAGES)
def test_a_page_on_the_code_names_files_that_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{PACKAGES})/[\w/]+\.py|(?:{PACKAGES})(?:/\w+)*/)`", text))
    assert len(named) >= 10
    assert not [path for path in named if not (SOURCES / path).exists()]


def test_the_table_of_packages_names_each_and_where_to_start() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)/` \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE))
    packages = {path.parent.name for path in SOURCES.glob("*/__init__.py")}
    assert rows.keys() == packages - {"embedded"}
    for package, starts in rows.items():
        for path in re.findall(r"`([\w/.]+)`", starts):
            assert (SOURCES / package / path).exists(), f"{package}/{path}"


def test_workflow_and_issue_forms_are_valid() -> None:
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert set(ci["jobs"]) == {"check", "test", "gate", "minimal", "docs"}
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for name, job in ci["jobs"].items():
        said = [step["run"] for step in job["steps"] if "run" in step]
        for made in re.findall(r"\bmake (\w+)", " ".join(said)):
            assert made in targets, f"{name}: make {made}"
        for path in re.findall(r"(?:^| )(\.ci/\w+)", " ".join(said)):
            assert os.access(ROOT / path, os.X_OK), path
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) >= 3
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name != "config.yml":
            assert {"name", "description", "body"} <= set(form), path
            ids = [part["id"] for part in form["body"] if "id" in part]
            assert len(ids) == len(set(ids)), path


def test_the_citation_names_this_version_and_licence() -> None:
    from aarlab import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (__version__, "Apache-2.0")
    assert citation["cff-version"] == "1.2.0" and citation["authors"]


def test_the_version_is_one() -> None:
    import tomllib

    from aarlab import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation() -> None:
    """Read as text: the file has a tag that only mkdocs knows in some versions."""
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert re.search(rf": {re.escape(page.name)}$", nav, re.MULTILINE), page.name


@pytest.mark.skipif(_mkdocs() is None, reason="needs the extra docs: make docs")
def test_the_site_builds_and_a_dead_link_fails(tmp_path: Path) -> None:
    for name in ("docs", "src", "benchmarks", "examples"):
        ignored = shutil.ignore_patterns("__pycache__", "embedded", "*.egg-info")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("mkdocs.yml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path)

    def build() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(_mkdocs()), "build", "--strict"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )

    done = build()
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "build/site/reference.html").read_text(encoding="utf-8")
    assert 'id="aarlab.open_task"' in page and "Open a built task by" in page
    audits = (tmp_path / "build/site/audits.html").read_text(encoding="utf-8")
    assert 'href="benchmarks/blind.html"' in audits
    index = tmp_path / "docs" / "index.md"
    index.write_text(index.read_text(encoding="utf-8") + "\n[x](nope.md)\n", encoding="utf-8")
    broken = build()
    assert broken.returncode != 0 and "nope.md" in broken.stderr
