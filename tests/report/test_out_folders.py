"""What a command would write over is refused, unless it is its own or `--replace` says so."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from aarlab.cli.main import cli
from aarlab.cli.report import check_report
from aarlab.cli.testbed import _kept_results
from aarlab.core.errors import Conflict
from aarlab.report.load import load_export

GOLDEN = Path(__file__).parent / "golden" / "export.json"
SETTINGS = {"trials": 2, "sampler": "bayes"}


def refused(*words: str) -> str:
    """What a command said when it refused; empty where it worked."""
    done = CliRunner().invoke(cli, list(words))
    assert done.exception is None or isinstance(done.exception, Conflict), done.exception
    return str(done.exception or "")


@pytest.fixture
def thesis(tmp_path: Path) -> Path:
    """A folder with a file of somebody's."""
    folder = tmp_path / "mein Ordner ä"
    folder.mkdir()
    (folder / "index.html").write_text("my page")
    return folder


def test_a_report_replaces_its_own_earlier_one_and_nothing_else(
    thesis: Path, tmp_path: Path
) -> None:
    assert "not empty" in refused("report", str(GOLDEN), "--out", str(thesis))
    assert (thesis / "index.html").read_text() == "my page"
    assert not refused("report", str(GOLDEN), "--out", str(thesis), "--replace")
    check_report(thesis, load_export(GOLDEN))
    changed = {**json.loads(GOLDEN.read_text()), "started_at": "2020-01-01T00:00:00+00:00"}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(changed))  # another campaign of the same name
    assert "not empty" in refused("report", str(other), "--out", str(thesis))


def test_comparisons_refuse_what_is_there(thesis: Path, tmp_path: Path) -> None:
    two = (str(GOLDEN), str(GOLDEN), "--out", str(thesis))
    assert "--replace" in refused("report", "compare", *two)
    assert "not empty" in refused("campaign", "compare", str(GOLDEN), "--out", str(thesis))
    assert [path.name for path in thesis.iterdir()] == ["index.html"]
    assert not refused("report", "compare", *two, "--replace")
    assert (thesis / "comparison.html").is_file()


def test_files_of_out_options_are_not_written_over(thesis: Path, tmp_path: Path) -> None:
    page = thesis / "index.html"
    assert "--replace" in refused("campaign", "export", str(tmp_path), "--out", str(page))
    assert "takes a file" in refused("campaign", "export", str(tmp_path), "--out", str(thesis))
    assert "--replace" in refused("testbed", "run", "--task", "none", "--json", str(page))
    assert "exists; choose another --out" in refused("task", "fetch", "sciq", "--out", str(thesis))
    assert "exists; choose another --out" in refused("task", "fetch", "sciq", "--out", str(page))
    assert "exists already" in refused("method", "new", str(thesis))
    assert page.read_text() == "my page"


def test_a_sweep_keeps_what_another_one_wrote(thesis: Path, tmp_path: Path) -> None:
    bench = SimpleNamespace(task=SimpleNamespace(info=SimpleNamespace(content_hash="a")))
    with pytest.raises(Conflict, match="does not hold a sweep"):
        _kept_results(thesis, bench, SETTINGS, ["confident"])
    out = tmp_path / "sweep"
    assert _kept_results(out, bench, SETTINGS, ["confident"]) == []
    out.mkdir()
    (out / "journal.log").touch()
    results = [{"method": name, "settings": SETTINGS} for name in ("confident", "vanilla")]
    (out / "scores.json").write_text(json.dumps({"content_hash": "a", "results": results}))
    assert _kept_results(out, bench, SETTINGS, ["confident"]) == results[1:]
    with pytest.raises(Conflict, match="vanilla tuned with other settings"):
        _kept_results(out, bench, {**SETTINGS, "trials": 9}, ["vanilla"])
    bench.task.info.content_hash = "b"
    with pytest.raises(Conflict, match="another task or version"):
        _kept_results(out, bench, SETTINGS, ["icm"])
    shutil.rmtree(out)
