"""The executor in a spec: by name, with options, checked where it is read."""

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from extension_kit import distribution, installed

from aarlab.campaign.checking import remarks
from aarlab.campaign.executing import lacking, opened_executor, resources
from aarlab.campaign.runner import create, open_spec
from aarlab.campaign.spec import CampaignSpec, load_spec
from aarlab.core.errors import BadInput, Damaged
from aarlab.core.layout import DataRoot, RunDir
from aarlab.executors import known, local
from aarlab.executors.base import Executor, Job, Options, Place, Resources
from aarlab.executors.local import LocalExecutor, LocalHandle
from aarlab.executors.slurm import SlurmOptions

PARTS = {"name": "x", "tasks": ["math"], "aars": [{"name": "rowan", "researcher": "random"}]}


class QueueOptions(Options):
    queue: str


class Queued(Executor):
    options = QueueOptions
    separation = "a queue"

    def __init__(self, options: Options, place: Place) -> None:
        self.given = options

    def start(self, job: Job) -> LocalHandle:
        return LocalExecutor().start(job)


@pytest.fixture(autouse=True)
def queued(monkeypatch: pytest.MonkeyPatch) -> None:
    some = {"local": LocalExecutor, "queued": Queued}
    monkeypatch.setattr(known, "EXECUTORS", replace(known.EXECUTORS, built_in=some))


def spec_file(folder: Path, executor: object) -> Path:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**PARTS, "executor": executor}, sort_keys=False))
    return path


def test_local_is_the_default_and_a_name_alone_is_enough(tmp_path: Path) -> None:
    assert CampaignSpec.model_validate(PARTS).executor.name == "local"
    assert load_spec(spec_file(tmp_path, "local")).executor.options == {}


def test_options_and_resources_are_frozen_with_the_campaign(tmp_path: Path) -> None:
    given = {"name": "queued", "options": {"queue": "long"}, "cpus": 2, "gpus": 1, "hours": 0.5}
    spec, run = load_spec(spec_file(tmp_path, given)), RunDir(tmp_path / "run")
    create(run, spec, {})
    kept = open_spec(run).executor
    assert (kept.name, kept.options) == ("queued", {"queue": "long"})
    assert resources(kept) == Resources(cpus=2, gpus=1, memory_mb=None, time_limit_s=1800.0)


@pytest.mark.parametrize(
    ("executor", "said"),
    [
        ("slrum", r"line 7: executor: no executor 'slrum'; there are local, queued"),
        ({"name": "queued", "options": {"queue": 3}}, r"line 10: executor.options.queue: must be"),
        ({"name": "queued"}, "executor.options.queue: is missing"),
        ({"name": "queued", "options": {"queue": "a", "que": "b"}}, "did you mean `queue`"),
        ({"name": "local", "options": {"queue": "a"}}, "executor.options.queue: is not a field"),
        ({"name": "local", "cpus": 0}, "executor.cpus: must be at least 1"),
        (3, "executor: must be a mapping"),
    ],
)
def test_a_wrong_choice_is_refused_by_line(tmp_path: Path, executor: object, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load_spec(spec_file(tmp_path, executor))


def test_the_page_on_clusters_shows_a_spec_and_all_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the built-in executors
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    path = tmp_path / "spec.yaml"
    path.write_text(
        page.partition("### A campaign")[2].partition("```yaml\n")[2].partition("```")[0],
        encoding="utf-8",
    )
    spec = load_spec(path).executor
    assert (spec.name, resources(spec)) == ("slurm", Resources(4, None, 16000, 43_200.0))
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(SlurmOptions.model_fields)


def test_a_run_is_readable_where_its_executor_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"name": "queued", "options": {"queue": "long"}}
    spec, run = load_spec(spec_file(tmp_path, given)), RunDir(tmp_path / "run")
    create(run, spec, {})
    monkeypatch.undo()
    assert open_spec(run) == spec
    with pytest.raises(BadInput, match="no executor 'queued'; there are local"):
        create(RunDir(tmp_path / "other"), spec, {})
    assert not (tmp_path / "other").exists()


def test_what_an_executor_lacks_is_said_before_a_campaign_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec(spec_file(tmp_path, "local"))
    assert lacking(spec.executor) == []
    monkeypatch.setattr(local, "SETPRIV", "setpriv-that-is-not-there")
    found = [r.text for r in remarks(spec, DataRoot(tmp_path), lambda _: True)]
    assert [text for text in found if "util-linux" in text]


PACKAGE = """
from aarlab.executors.base import Executor, Options
from aarlab.executors.local import LocalExecutor

class TinyOptions(Options):
    word: str

class TinyExecutor(Executor):
    options = TinyOptions
    separation = "processes of the same user on this machine"

    def __init__(self, options, place):
        self.word = options.word

    def start(self, job):
        return LocalExecutor().start(job)
"""


def test_an_installed_package_adds_one(tmp_path: Path) -> None:
    site = tmp_path / "site"
    distribution(site, "tiny", {"aarlab.executors": {"tiny": "tiny_executor:TinyExecutor"}})
    (site / "tiny_executor.py").write_text(PACKAGE)
    given = {"name": "tiny", "options": {"word": "a"}}
    with installed(site):
        spec = load_spec(spec_file(tmp_path, given))
        with opened_executor(spec.executor, tmp_path / "executor") as executor:
            handle = executor.start(Job("ada", ("sh", "-c", "exit 3"), tmp_path / "log"))
            while (end := handle.poll()) is None:
                time.sleep(0.02)
        assert end.code == 3
        with pytest.raises(BadInput, match=r"line 10: executor.options.words: is not"):
            load_spec(spec_file(tmp_path, {"name": "tiny", "options": {"words": "a"}}))
    with pytest.raises(BadInput, match="no executor 'tiny'; there are local, queued"):
        load_spec(spec_file(tmp_path, given))


def test_a_package_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    points = {"odd": "no_such_module:Odd", "wrong": "json:dumps"}
    distribution(tmp_path, "odd", {known.EXECUTORS.group: points})
    refused = "odd = no_such_module:Odd: this executor cannot be loaded"
    with installed(tmp_path):
        with pytest.raises(Damaged, match=refused):
            known.executor_class("odd")
        with pytest.raises(Damaged, match="not a class derived from Executor"):
            known.executor_class("wrong")
        assert known.executor_class("local") is LocalExecutor
