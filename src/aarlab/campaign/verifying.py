"""Verification pods as the campaign sees them: their jobs, and what they are started with."""

import sys

from aarlab.campaign.aars import VERIFIERS
from aarlab.campaign.executing import verifier_resources
from aarlab.campaign.node import PodBoot, sealed
from aarlab.campaign.pods import pod_log
from aarlab.campaign.processes import Child
from aarlab.campaign.registration import Campaign
from aarlab.campaign.settings import PodSettings
from aarlab.campaign.spec import CampaignSpec
from aarlab.core.files import write_atomic
from aarlab.core.supervision import verifier_key


def devices_of_verifier(spec: CampaignSpec) -> int:
    """Return the number of student servers of a verification pod: one for each of its devices."""
    if spec.student_server is None or spec.executor.verifiers is None:
        return 0
    return max(1, spec.executor.verifiers.gpus or 0)


def boot_of(campaign: Campaign, name: str) -> PodBoot:
    """Return what a pod is started with. Its key lies in a file of mode 600, or is sealed.

    Raises BadInput where no folder is shared and there is no secret to seal with.
    """
    run, tcp = campaign.run, campaign.listens
    token = (run.tokens / "operator").read_text(encoding="utf-8").strip()
    key = verifier_key(token, name)
    boot = PodBoot(
        name=name,
        root=campaign.root.path.absolute(),
        devices=devices_of_verifier(campaign.spec),
        socket=run.socket.absolute() if tcp is None else None,
        url=None if tcp is None else tcp.url,
        ca="" if tcp is None else (run.tls / "ca.pem").read_text(encoding="utf-8"),
    )
    if tcp is not None and campaign.spec.executor.state == "kept":
        secret = PodSettings().secret.get_secret_value()
        return boot.model_copy(update={"key": sealed(key, secret)})
    place = run.platform.absolute() / "pods" / name
    place.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomic(place, key + "\n", 0o600)
    return boot.model_copy(update={"key_file": place})


def verifier_pods(campaign: Campaign) -> list[Child]:
    """Return the jobs of the campaign's verification pods, which are not started yet.

    They never finish: they wait for re-runs until the campaign ends them.
    """
    wanted, found = campaign.spec.executor.verifiers, list[Child]()
    if wanted is None:
        return found
    for number in range(1, wanted.pods + 1):
        name = f"{VERIFIERS}{number}"
        argv = [sys.executable, "-m", "aarlab.campaign.verifier_pod"]
        found.append(
            Child(
                name,
                [*argv, boot_of(campaign, name).model_dump_json()],
                pod_log(campaign, name),
                executor=campaign.executor,
                resources=verifier_resources(wanted),
                endless=True,
            )
        )
    return found
