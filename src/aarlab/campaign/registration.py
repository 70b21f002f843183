"""Setup of a campaign before it runs, and what is saved with a spec to repeat it.

The setup makes accounts, workspaces and configs of the campaign's AARs.
"""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from aarlab import __version__
from aarlab.agents.config import AarConfig
from aarlab.agents.language.prompts import prompt_hash
from aarlab.agents.prices import Price, price_of, table_version
from aarlab.campaign.aars import AarSpec
from aarlab.campaign.executing import Listens
from aarlab.campaign.spec import CampaignSpec
from aarlab.campaign.students import Access
from aarlab.campaign.watch import EventLog
from aarlab.campaign.webhook import Webhook
from aarlab.client.operator import OperatorClient
from aarlab.core.clock import now_iso
from aarlab.core.files import write_atomic
from aarlab.core.hashing import content_hash
from aarlab.core.isolation import WITH_DEVICE, Isolation, is_isolated
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.registry import GROUPS, place_of
from aarlab.core.supervision import supervisor_key
from aarlab.core.wire import NewAar
from aarlab.executors.base import Executor
from aarlab.executors.local import LocalExecutor
from aarlab.sandbox.workspace import AARS, campaign_uid, prepare_workspace


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign on disk, where its tasks and models lie, and what its AARs run on."""

    run: RunDir
    root: DataRoot
    spec: CampaignSpec
    log: EventLog
    executor: Executor = field(default_factory=LocalExecutor)
    listens: Listens | None = None  # on TCP as well, for AARs on other machines
    webhook: Webhook | None = None
    students: Access | None = None  # None: a method's sandbox trains its own


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
        if config.kept:  # the pod prepares the workspace, on its machine
            config.home.mkdir(parents=True, exist_ok=True)
        else:
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
        isolation="none" if spec.joins_by_itself(aar) else _stamp(spec, aar),
    )


def _stamp(spec: CampaignSpec, aar: AarSpec) -> Isolation:
    return WITH_DEVICE if _has_devices(spec, aar) else spec.isolation


def _has_devices(spec: CampaignSpec, aar: AarSpec) -> bool:
    return spec.sandbox_devices and aar.researcher == "language"


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
        url=None if campaign.listens is None else campaign.listens.url,
        ca=None if campaign.listens is None else (run.tls / "ca.pem").absolute(),
        kept=spec.executor.state == "kept",
        models=campaign.root.models.absolute(),
        students=None if campaign.students is None else campaign.students.of(aar.name),
        n_seeds=spec.seeds_per_submission,
        max_trials=sys.maxsize if submissions is None else submissions,
        trial_timeout_s=spec.trial_timeout_s,
        trial_memory_mb=spec.memory_of(aar),
        isolation=spec.isolation,
        sandbox_devices=_has_devices(spec, aar),
        uid=_uid(campaign, index, aar) if is_isolated(spec.isolation) else None,
        device_dollars_per_hour=spec.device_dollars_per_hour,
        language=spec.language_of(aar),
        external=spec.external_of(aar),
        prices=frozen_prices(run),
    )


def _uid(campaign: Campaign, index: int, aar: AarSpec) -> int | None:
    """Return the uid it had before, if any: the files in its workspace belong to that one."""
    uid, path = campaign_uid(campaign.run.path, index, AARS), config_path(campaign, aar)
    kept: int | None = (
        json.loads(path.read_text(encoding="utf-8"))["uid"] if uid and path.exists() else None
    )
    return kept or uid


def frozen_prices(run: RunDir) -> dict[str, Price]:
    """Return the prices, by model, of the day on which the campaign was made."""
    settings = json.loads(run.spec.read_text(encoding="utf-8")).get("settings", {})
    known = settings.get("prices", {})
    return {model: Price.model_validate(price) for model, price in known.items()}


def run_settings(root: DataRoot) -> dict[str, object]:
    """Return versions, commit and machine: all but the spec that could change a figure."""
    extensions = [entry for group in GROUPS for entry in metadata.entry_points(group=group)]
    installed = {d.name.lower(): d.version for d in metadata.distributions() if d.name}
    return {
        "created_at": now_iso(),
        "aarlab": __version__,
        "commit": _commit(),
        "python": sys.version.split()[0],
        "packages_hash": content_hash(installed),
        "extensions": sorted(map(place_of, extensions)),
        "torch": installed.get("torch", "absent"),
        "numpy": installed["numpy"],
        "machine": platform.machine(),
        "cores": os.cpu_count() or 0,
        "data_root": str(root.path),
        "as_root": os.geteuid() == 0,
    }


def research_settings(spec: CampaignSpec) -> dict[str, object]:
    """Return the prompts of language-model AARs and what their calls cost, as of now.

    Raises NotFound where a model has no price.
    """
    if not spec.models:
        return {}
    prices = {model: price_of(model, spec.prices) for model in spec.models}
    return {
        "prompt_hash": prompt_hash(),
        "price_table": table_version(),
        "prices": {model: price.model_dump(mode="json") for model, price in prices.items()},
    }


def _commit() -> str:
    """Return the commit of a source checkout, `+dirty` if changed; `unknown` in an install."""
    folder = Path(__file__).parent
    asked = ["git", "-C", str(folder), "describe", "--always", "--dirty=+dirty", "--abbrev=40"]
    done = subprocess.run(
        [*asked, "--exclude=*"], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    return done.stdout.strip() or "unknown"
