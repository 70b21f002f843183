"""`trial_memory_mb`: from the spec into every sandbox that runs a method, and what is refused."""

import sys
from pathlib import Path

import pytest
from toy_campaign import build_toy, toy_spec

from aarlab.agents.language.loop import sandbox_of
from aarlab.agents.specs import LanguageSpec
from aarlab.agents.trial import BASE_MB, TrialRunner
from aarlab.campaign.checking import remarks
from aarlab.campaign.registration import Campaign, _config
from aarlab.campaign.runner import create
from aarlab.campaign.spec import AarSpec, CampaignSpec, parse_spec
from aarlab.campaign.supervision import verifier_child
from aarlab.campaign.watch import EventLog
from aarlab.core.errors import BadInput
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import Verification
from aarlab.sandbox.running import run
from aarlab.sandbox.workspace import prepare_workspace
from aarlab.verify.__main__ import parsed
from aarlab.verify.rerun import Verifier

TAKES_1500_MB = "memory = bytearray(1500 * 2**20)"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    return build_toy(tmp_path_factory.mktemp("memory"))


def campaign(root: DataRoot, home: Path, **changes: object) -> Campaign:
    made = RunDir(home / "run")
    spec = toy_spec().model_copy(update={"isolation": "process", **changes})
    if not made.spec.exists():
        create(made, spec, {})
    return Campaign(made, root, spec, EventLog(home / "events.jsonl", lambda kind, facts: None))


def limits(made: Campaign, index: int) -> int:
    config = _config(made, index, made.spec.aars[index])
    return TrialRunner(config, sys.executable).sandbox().limits.memory_mb


def test_an_aars_own_memory_goes_before_the_campaigns(root: DataRoot, tmp_path: Path) -> None:
    first, *others = toy_spec().aars
    own = [first.model_copy(update={"trial_memory_mb": 2048}), *others]
    made = campaign(root, tmp_path, trial_memory_mb=3000, aars=own)
    assert [limits(made, index) for index in (0, 1)] == [2048, 3000]
    assert limits(campaign(root, tmp_path), 0) == BASE_MB


@pytest.mark.gate
def test_a_trial_that_takes_more_fails_and_one_with_enough_does_not(
    root: DataRoot, tmp_path: Path
) -> None:
    ended = []
    for memory_mb in (1024, 3000):
        made = campaign(root, tmp_path, trial_memory_mb=memory_mb)
        config = _config(made, 0, made.spec.aars[0])
        prepare_workspace(config.workspace, config.uid)
        spec = TrialRunner(config, sys.executable).sandbox()
        ended.append(run(spec, [sys.executable, "-c", TAKES_1500_MB]).ok)
    assert ended == [False, True]


def test_a_rerun_may_use_what_the_most_generous_trial_might_and_never_less_than_the_default(
    root: DataRoot, tmp_path: Path
) -> None:
    wanted = Verification.model_construct(id="v1", task="gauss", split="selection")
    found = []
    for memory_mb in (9000, 1024):
        made = campaign(root, tmp_path, trial_memory_mb=memory_mb)
        given = parsed(verifier_child(made).argv[3:])
        verifier = Verifier(made.run, root, "process", 0, given.memory_mb)
        blind = verifier._blind_sandbox(wanted, 60.0).limits.memory_mb
        assert verifier._open_sandbox(wanted).limits.memory_mb == blind
        found.append(blind)
    assert found == [9000, BASE_MB]


def test_a_language_models_tools_have_the_same_limit(root: DataRoot, tmp_path: Path) -> None:
    made = campaign(root, tmp_path, trial_memory_mb=3000)
    config = _config(made, 0, made.spec.aars[0])
    spec = LanguageSpec(model="scripted/none", notes=False)
    assert sandbox_of(config, spec).limits.memory_mb == 3000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trial_memory_mb": 512}, "trial_memory_mb: .*1,024"),
        ({"trial_memory_mb": "much"}, "trial_memory_mb"),
        ({"aars": [{"name": "x", "researcher": "external", "trial_memory_mb": 4096}]}, "memory_mb"),
    ],
)
def test_what_is_refused(changes: dict[str, object], said: str) -> None:
    fixed = {"name": "human", "researcher": "fixed", "role": "human", "methods": ["vanilla"]}
    with pytest.raises(BadInput, match=said):
        parse_spec({"name": "x", "tasks": ["math"], "aars": [fixed], **changes}, "spec.yaml")


def test_the_check_tells_of_a_machine_with_less(root: DataRoot) -> None:
    aar = AarSpec(name="human", researcher="fixed", role="human", methods=["vanilla"])
    spec = CampaignSpec(name="x", tasks=["gauss"], aars=[aar], trial_memory_mb=2**22)
    said = [remark.text for remark in remarks(spec, root, lambda task: True)]
    assert any("a trial may use 4,194,304 MB, and this machine has" in text for text in said)
