"""Students that train blocks, from an AAR's sandbox to a verified score, on a tiny model."""

import json
import re
import sqlite3
from pathlib import Path

import pytest
from tiny_task import tiny_data, tiny_options, tiny_pair

from aarlab.agents.trial import MODEL, method_view
from aarlab.campaign.aars import ExecutorSpec, VerifiersSpec
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


def predictions_of(run: RunDir) -> dict[tuple[str, ...], str]:
    """What each re-run predicted and its evidence, as hashes of the log; by what was re-run."""
    with sqlite3.connect(run.database) as database:
        rows = database.execute("select body from log where kind = 'verified'").fetchall()
        kept = database.execute("select record from verifications").fetchall()
    said = {one["id"]: one for (body,) in rows for one in [json.loads(body)]}
    found = {}
    for one in (json.loads(record) for (record,) in kept):
        entry = said[one["id"]]
        hashes = entry["predictions_sha256"] + entry["evidence_sha256"]
        found[one["method"], one["split"], one["ablation"]] = hashes
    return found


@pytest.mark.gate
def test_pods_verify_on_student_servers_of_their_own(
    root: DataRoot, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the campaign's server, on one of another process, on two of the pod's own: one result."""
    methods = ["vanilla", "confident"]
    aar = AarSpec(name="human", researcher="fixed", role="human", arm="human", methods=methods)
    found = []
    for verifiers in (None, VerifiersSpec(pods=1), VerifiersSpec(pods=1, gpus=2)):
        folder = tmp_path_factory.mktemp("v")
        monkeypatch.setenv("AARLAB_DEVICE_LOCKS", str(folder / "k"))
        monkeypatch.setenv("AARLAB_POD_FOLDER", str(folder / "n"))
        spec = CampaignSpec(
            name="blocks",
            tasks=["words"],
            aars=[aar],
            limits=Limits(submissions=2),
            seeds_per_submission=1,
            student_server=StudentServerSpec(device="cpu"),
            executor=ExecutorSpec(verifiers=verifiers),
            verify=VerifySpec(top=1, ablate_top=1, seeds=2, parallel=1),
        )
        run = RunDir(folder / "run")
        create(run, spec, {})
        run_campaign(run, root, lambda kind, facts: None)
        found.append(predictions_of(run))
        log = run.verifier / "verifier.log"
        if verifiers is not None:
            assert "student server" not in log.read_text(), "all was asked in the pod"
            log = run.pod("verifiers-1") / "pod.log"
        said = re.findall(r"asks tiny on the student server at (\S+)", log.read_text())
        assert len(said) == len(found[0]), log.read_text()
        if verifiers is not None and verifiers.gpus:
            places = {Path(socket).parent.name for socket in said}
            assert places == {"verifiers-1-0", "verifiers-1-1"}, "they take turns"
    assert found[0] == found[1] == found[2] and len(found[0]) >= 2


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
