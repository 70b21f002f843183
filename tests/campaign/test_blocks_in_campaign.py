"""Students that train blocks, from an AAR's sandbox to a verified score, on a tiny model."""

from pathlib import Path

import pytest
from tiny_task import tiny_data, tiny_options, tiny_pair

from aarlab.agents.trial import MODEL, method_view
from aarlab.campaign.runner import create, run_campaign
from aarlab.campaign.spec import AarSpec, CampaignSpec, StudentServerSpec, VerifySpec
from aarlab.campaign.students import student_server
from aarlab.core.errors import NotFound
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import Limits
from aarlab.students.client import Client
from aarlab.testbed.models.token_states import load_lower
from aarlab.testbed.settings import TestbedSettings
from aarlab.testbed.tasks.making import Workshop
from aarlab.testbed.tasks.twins import with_twins

CPU = TestbedSettings(device="cpu", torch_threads=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    home = tmp_path_factory.mktemp("blocks")
    root = DataRoot(home / "root")
    tiny_pair(root, home / "hf")
    Workshop(root, lambda line: None, settings=CPU).build(with_twins(tiny_data()), tiny_options())
    return root


@pytest.mark.gate
@pytest.mark.parametrize("method", ["vanilla", pytest.param("debate", marks=pytest.mark.slow)])
def test_a_campaign_runs_and_verifies_students_that_train_blocks(
    root: DataRoot, tmp_path: Path, method: str
) -> None:
    spec = CampaignSpec(
        name="blocks",
        tasks=["words"],
        aars=[
            AarSpec(
                name="human", researcher="fixed", role="human", arm="human",
                methods=[method],
            )
        ],
        limits=Limits(submissions=1),
        seeds_per_submission=1,
        verify=VerifySpec(top=1, ablate_top=0, seeds=2, parallel=1),
    )  # fmt: skip
    run = RunDir(tmp_path / "run")
    create(run, spec, {})
    export = run_campaign(run, root, lambda kind, facts: None)
    assert [s.method for s in export.submissions] == [method], (
        run.aar("human") / "aar.log"
    ).read_text()
    done = [v for v in export.verifications if v.ablation == "none"]
    assert done and all(v.state == "done" and v.estimate is not None for v in done)
    assert [a for a in export.audits if a.severity == "suspect"] == []
    assert all(v.evidence.style.rows == 80 and v.evidence.style.moved > 0 for v in done)


def test_the_view_of_a_sandbox_holds_the_task_and_its_model(root: DataRoot) -> None:
    view = method_view(root.public_task("words"), root.models)
    assert dict(view.read_only) == {
        root.public_task("words"): "/public",
        root.models / "tiny": MODEL,
    }
    assert view.limits(600).memory_mb >= 4096 and view.limits(600).cpu_s == 1200
    modes = [(root.models / "tiny" / n).stat().st_mode & 0o777 for n in ("model.safetensors",)]
    assert modes == [0o644]
    with pytest.raises(NotFound, match="aarlab models pull tiny"):
        method_view(root.public_task("words"), root.path / "elsewhere")


def test_lower_states_of_public_rows_are_public_and_of_hidden_rows_are_not(root: DataRoot) -> None:
    public = sorted(p.name for p in (root.public_task("words") / "lower").iterdir())
    vault = sorted(p.name for p in (root.vault_task("words") / "lower").iterdir())
    assert (public, vault) == (["search.npz", "train.npz"], ["selection.npz", "train_hidden.npz"])
    folder = root.vault_task("words") / "lower"
    learned = load_lower(folder / "train_hidden.npz", 2)
    assert len(learned) == 96
    hidden = learned | load_lower(folder / "selection.npz", 2)
    twins = load_lower(root.vault_task("words") / "twins" / "lower.npz", 2)
    assert len(twins) == 80 and not twins.keys() & hidden.keys()
    for name in public:
        shown = load_lower(root.public_task("words") / "lower" / name, 2)
        assert shown and not shown.keys() & hidden.keys()


@pytest.mark.gate
def test_a_student_server_of_a_campaign_has_the_models_of_its_data_root(
    root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a node, where no environment names the data root."""
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("AARLAB_DEVICE_LOCKS", str(tmp_path / "k"))
    aar = AarSpec(name="human", researcher="fixed", role="human", arm="human", methods=["vanilla"])
    spec = CampaignSpec(
        name="blocks", tasks=["words"], aars=[aar], student_server=StudentServerSpec(device="cpu")
    )
    with student_server(RunDir(tmp_path / "run"), root, spec) as students:
        assert students is not None and students.children
        access = students.access.of("human")
        with Client.open(access.socket, access.token("words")) as client:
            student = client.students.new().fit(client.rows[:8], [0.0, 1.0] * 4)
            assert student.predict_proba(client.rows[:4]).shape == (4,)
