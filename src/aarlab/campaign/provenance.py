"""What is saved beside a spec so that a campaign can be repeated."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from aarlab import __version__
from aarlab.agents.language.prompts import prompt_hash
from aarlab.agents.prices import price_of, table_version
from aarlab.campaign.spec import CampaignSpec
from aarlab.core.canonical import content_hash
from aarlab.core.clock import now_iso
from aarlab.core.layout import DataRoot


def run_settings(root: DataRoot) -> dict[str, object]:
    """Versions, commit, machine: everything but the spec that could change a figure."""
    installed = {d.name.lower(): d.version for d in metadata.distributions() if d.name}
    return {
        "created_at": now_iso(),
        "aarlab": __version__,
        "commit": _commit(),
        "python": sys.version.split()[0],
        "packages_hash": content_hash(installed),
        "torch": installed.get("torch", "absent"),
        "numpy": installed["numpy"],
        "machine": platform.machine(),
        "cores": os.cpu_count() or 0,
        "data_root": str(root.path),
        "as_root": os.geteuid() == 0,
    }


def research_settings(spec: CampaignSpec) -> dict[str, object]:
    """What language-model AARs are told, and what their calls cost, as of now.

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
    """The commit of a source checkout, `+dirty` where it was changed; `unknown` in an install."""
    folder = Path(__file__).parent
    asked = ["git", "-C", str(folder), "describe", "--always", "--dirty=+dirty", "--abbrev=40"]
    done = subprocess.run(
        [*asked, "--exclude=*"], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    return done.stdout.strip() or "unknown"
