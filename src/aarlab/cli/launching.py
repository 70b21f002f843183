"""What the lobby may start and check: presets as text, faults of a spec by line, an estimate."""

import sys
from pathlib import Path

import yaml

from aarlab.campaign.checking import estimate, estimate_rows, faults
from aarlab.campaign.presets import PRESETS
from aarlab.campaign.reading import SpecText, read_yaml
from aarlab.campaign.runner import open_spec, server_argv
from aarlab.campaign.spec import CampaignSpec, read_spec
from aarlab.cli.settings import data_root
from aarlab.core.errors import BadInput, Fault, Faulty
from aarlab.core.layout import RunDir, embedded_names
from aarlab.server.lobby.processes import Checked, Commands

AARLAB = [sys.executable, "-m", "aarlab.cli"]


def commands() -> Commands:
    return Commands(
        presets={name: spec_text(make()) for name, make in PRESETS.items()},
        check=check_text,
        run=lambda spec, out: [*AARLAB, "campaign", "run", str(spec), "--out", str(out)],
        resume=resume_argv,
        serve=lambda run: server_argv(RunDir(run), data_root(), open_spec(RunDir(run)), True),
    )


def resume_argv(run: Path) -> list[str]:
    """Return the command that continues a campaign.

    A campaign that was launched and never froze its spec begins with it.
    """
    if RunDir(run).spec.exists():
        return [*AARLAB, "campaign", "resume", str(run)]
    return [*AARLAB, "campaign", "run", str(run / "launch.yaml"), "--out", str(run)]


def spec_text(spec: CampaignSpec) -> str:
    """Return what differs from the defaults, as YAML, in the order of the fields."""
    said = spec.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=90)


def check_text(text: str) -> Checked:
    """Check a spec's text as `aarlab campaign check` does: faults by line, else an estimate."""
    try:
        spec = read_spec(text, "the spec")
    except Faulty as error:
        return Checked(error.faults)
    except BadInput as error:
        return Checked((Fault(0, str(error)),))
    read = read_yaml(text)
    known = SpecText(None) if isinstance(read, list) else read
    if found := faults(spec, known, data_root(), embedded_names().__contains__):
        return Checked(tuple(found))
    return Checked(name=spec.name, estimate=tuple(estimate_rows(spec, estimate(spec))))
