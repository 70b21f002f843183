"""A research problem of an installed package: from its rows to a campaign's report."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from extension_kit import EXAMPLES, distribution_of, installed
from gaussian_task import make_task
from method_world import OPTIONS

from aarlab.campaign.runner import create, run_campaign
from aarlab.campaign.spec import AarSpec, CampaignSpec, VerifySpec
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport, Limits
from aarlab.problems.known import PROBLEMS
from aarlab.report.load import load_export
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.tasks.build import build_task

LATENT = EXAMPLES / "latent_knowledge"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example as pip would install it."""
    place = tmp_path_factory.mktemp("site")
    distribution_of(place, LATENT)
    (place / "aarlab_latent").symlink_to(LATENT / "aarlab_latent")
    return place


@pytest.fixture(scope="module", autouse=True)
def here(site: Path) -> Iterator[None]:
    with installed(site):
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    made = DataRoot(tmp_path_factory.mktemp("home"))
    data, source = make_task()
    del data.splits["teacher"]
    data = replace(data, problem=PROBLEMS.get("latent_knowledge").facts)
    build_task(data, OPTIONS, made, Sources(source, source))
    return made


def spec() -> CampaignSpec:
    fixed = {"researcher": "fixed", "seed": 1}
    return CampaignSpec(
        name="latent",
        tasks=["gauss"],
        aars=[
            AarSpec(name="ann", methods=["own_answers"], **fixed),
            AarSpec(name="human", role="human", arm="human", methods=["ask_directly"], **fixed),
            AarSpec(name="guards", role="guard", arm="guard", methods=["guard_majority"], **fixed),
        ],
        limits=Limits(submissions=1),
        seeds_per_submission=2,
        verify=VerifySpec(top=1, ablate_top=1, seeds=3),
    )


@pytest.fixture(scope="module")
def ran(
    site: Path, root: DataRoot, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunDir, CampaignExport]:
    run = RunDir(tmp_path_factory.mktemp("runs") / "latent")
    with pytest.MonkeyPatch.context() as patch:  # for the server and the verifier
        known = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), known])))
        create(run, spec(), {"why": "test"}, root)
        run_campaign(run, root, lambda kind, facts: None)
    return run, load_export(run.export)


def test_debug(ran):
    run, export = ran
    import shutil
    shutil.copytree(run.path, "/tmp/problems-run", ignore=shutil.ignore_patterns("socket", "*.lock"), dirs_exist_ok=True)
    from aarlab.report.write import write_report
    write_report(export, Path("/tmp/problems-report"))
