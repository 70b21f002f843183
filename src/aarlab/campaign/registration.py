"""What a campaign sets up before it runs: accounts, workspaces and configs of its AARs."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from aarlab.agents.config import AarConfig
from aarlab.agents.prices import Price
from aarlab.campaign.aars import AarSpec
from aarlab.campaign.events import EventLog
from aarlab.campaign.spec import CampaignSpec
from aarlab.client.operator import OperatorClient
from aarlab.core.files import write_atomic
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.supervision import supervisor_key
from aarlab.core.wire import NewAar
from aarlab.sandbox.workspace import AARS, campaign_uid, prepare_workspace


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign on disk and where its tasks and models lie."""

    run: RunDir
    root: DataRoot
    spec: CampaignSpec
    log: EventLog


def register(campaign: Campaign, operator: OperatorClient) -> None:
    """Give each AAR an account, a workspace and a config; what exists already stays."""
    operator.set_budget(campaign.spec.budget)
    operators_token = (campaign.run.tokens / "operator").read_text(encoding="utf-8").strip()
    for index, aar in enumerate(campaign.spec.aars):
        config = _config(campaign, index, aar)
        if config.supervisor_file is not None:
            config.supervisor_file.parent.mkdir(mode=0o700, exist_ok=True)
            secret = supervisor_key(operators_token, aar.name)
            write_atomic(config.supervisor_file, secret + "\n", 0o600)
        prepare_workspace(config.workspace, config.uid)
        if not config.token_file.exists():
            token = operator.register(_account(campaign.spec, aar))
            write_atomic(config.token_file, token.token + "\n", 0o600)
        write_atomic(config_path(campaign, aar), config.model_dump_json(indent=1) + "\n")
        campaign.log.add("aar_registered", aar=aar.name)


def _account(spec: CampaignSpec, aar: AarSpec) -> NewAar:
    return NewAar(
        name=aar.name,
        researcher=aar.role if aar.researcher == "fixed" else aar.researcher,
        direction=aar.direction,
        arm=aar.arm,
        team=aar.team,
        replicate=aar.replicate,
        limits=spec.limits_of(aar),
        isolation="none" if spec.joins_by_itself(aar) else spec.isolation,
    )


def config_path(campaign: Campaign, aar: AarSpec) -> Path:
    return campaign.run.aar(aar.name) / "aar.json"


def _config(campaign: Campaign, index: int, aar: AarSpec) -> AarConfig:
    spec, run = campaign.spec, campaign.run
    submissions = spec.limits_of(aar).submissions
    return AarConfig(
        name=aar.name,
        researcher=aar.researcher,
        direction=aar.direction,
        methods=aar.methods,
        recipes=aar.recipes,
        own={name: spec.methods[name] for name in aar.own},
        seed=aar.seed,
        tasks={task: campaign.root.public_task(task).absolute() for task in spec.tasks},
        home=run.aar(aar.name).absolute(),
        token_file=(run.tokens / aar.name).absolute(),
        supervisor_file=None
        if spec.joins_by_itself(aar)
        else (run.platform / "supervisors" / aar.name).absolute(),
        socket=run.socket.absolute(),
        models=campaign.root.models.absolute(),
        n_seeds=spec.seeds_per_submission,
        max_trials=sys.maxsize if submissions is None else submissions,
        trial_timeout_s=spec.trial_timeout_s,
        trial_memory_mb=spec.memory_of(aar),
        isolation=spec.isolation,
        uid=_uid(campaign, index, aar) if spec.isolation == "bubblewrap" else None,
        device_dollars_per_hour=spec.device_dollars_per_hour,
        language=spec.language_of(aar),
        external=spec.external_of(aar),
        prices=frozen_prices(run),
    )


def _uid(campaign: Campaign, index: int, aar: AarSpec) -> int | None:
    """The one it had before, if any: the files in its workspace are that one's."""
    uid, path = campaign_uid(campaign.run.path, index, AARS), config_path(campaign, aar)
    kept: int | None = (
        json.loads(path.read_text(encoding="utf-8"))["uid"] if uid and path.exists() else None
    )
    return kept or uid


def frozen_prices(run: RunDir) -> dict[str, Price]:
    """Those of the day on which the campaign was made, by model."""
    settings = json.loads(run.spec.read_text(encoding="utf-8")).get("settings", {})
    known = settings.get("prices", {})
    return {model: Price.model_validate(price) for model, price in known.items()}
