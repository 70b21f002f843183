"""What `aarlab aar` and `aarlab campaign` share: pause, resume, stop, message, extend."""

import getpass
from pathlib import Path

from aarlab.campaign.runner import open_spec, reached
from aarlab.campaign.status import is_running, wanted_of
from aarlab.cli.settings import data_root
from aarlab.cli.terminal import Console
from aarlab.core.errors import BadInput
from aarlab.core.layout import RunDir
from aarlab.core.wire_ledger import Action, Limits, NewControl


def steer(folder: Path, aar: str | None, action: Action, by: str | None, text: str = "") -> None:
    """Record a control, whether the campaign runs just now or not; it is an entry of the log."""
    run = RunDir(folder.absolute())
    new = NewControl(action=action, text=text, by=by or getpass.getuser())
    with reached(run, data_root()) as operator:
        made = operator.control(aar, new)
    _say(f"{action} {aar or 'the campaign'}, by {made.by}; the log has it ({_when(run)})")


def extend(folder: Path, aar: str | None, by: str | None, more: dict[str, float | None]) -> None:
    """Raise limits by what is given; a limit that is not there cannot be raised."""
    run = RunDir(folder.absolute())
    given = {name: amount for name, amount in more.items() if amount is not None}
    if not given:
        raise BadInput(f"say by how much: {', '.join(f'--{name}' for name in more)}")
    with reached(run, data_root()) as operator:
        if aar is None:
            limits = operator.budget().limits.model_dump()
        else:
            records = [record for record in operator.aars() if record.name == aar]
            limits = records[0].limits.model_dump() if records else {}
        new = {name: _raised(name, limits.get(name), amount) for name, amount in given.items()}
        asked = NewControl(
            action="extend", limits=Limits.model_validate(new), by=by or getpass.getuser()
        )
        operator.control(aar, asked)
    raised = ", ".join(f"{name} to {amount:g}" for name, amount in new.items())
    _say(f"extended {aar or 'the campaign'}: {raised} ({_when(run)})")


def _raised(name: str, limit: float | None, amount: float) -> float:
    if limit is None:
        raise BadInput(f"there is no limit of {name} to extend")
    return limit + amount


def go_on(run: RunDir) -> bool:
    """Take back a pause of the whole campaign; True where it runs and needs no more."""
    open_spec(run)  # says where there is no campaign
    with reached(run, data_root()) as operator:
        paused = wanted_of(operator.controls()) == "pause"
        if paused:
            operator.control(None, NewControl(action="resume", by=getpass.getuser()))
    return paused and is_running(run)


def _when(run: RunDir) -> str:
    return "the AAR sees it at its next step" if is_running(run) else "it counts on resume"


def _say(text: str) -> None:
    Console(soft_wrap=True, highlight=False).print(text, markup=False)
