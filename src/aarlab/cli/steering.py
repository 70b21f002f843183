"""What `aarlab aar` and `aarlab campaign` share: pause, resume, stop, message, extend."""

import getpass
from pathlib import Path

from pydantic import ValidationError

from aarlab.campaign.runner import open_spec, reached
from aarlab.campaign.status import is_running, wanted_of
from aarlab.cli.settings import data_root
from aarlab.cli.terminal import Console
from aarlab.core.errors import BadInput
from aarlab.core.layout import RunDir
from aarlab.core.showing import amount_text, limits_text
from aarlab.core.wire_ledger import MOST, Action, Limits, NewControl


def steer(folder: Path, aar: str | None, action: Action, by: str | None, text: str = "") -> None:
    """Record a control, whether the campaign runs just now or not; it is an entry of the log."""
    run = RunDir(folder.absolute())
    new = NewControl(action=action, text=text, by=by or getpass.getuser())
    with reached(run, data_root()) as operator:
        made = operator.control(aar, new)
    _say(f"{action} {aar or 'the campaign'}, by {made.by}; recorded in the log ({_when(run)})")


def extend(folder: Path, aar: str | None, by: str | None, more: dict[str, float | None]) -> None:
    """Add the given amounts to the limits of an AAR or of the campaign.

    Only an existing limit can be extended. Raises BadInput if no amount or an invalid one is given.
    """
    run = RunDir(folder.absolute())
    given = {name: amount for name, amount in more.items() if amount is not None}
    options = ", ".join(f"--{name.replace('_', '-')}" for name in more)
    if not given:
        raise BadInput(f"say how much to add: {options}")
    try:
        asked = NewControl(
            action="extend", add=Limits.model_validate(given), by=by or getpass.getuser()
        )
    except ValidationError as error:
        raise BadInput(f"{options}: finite numbers above 0, at most {MOST:,}") from error
    with reached(run, data_root()) as operator:
        operator.control(aar, asked)
        if aar is None:
            limits = operator.budget().limits.model_dump()
        else:
            limits = next(r.limits.model_dump() for r in operator.aars() if r.name == aar)
    added = ", ".join(
        f"{limits_text({name: amount})}, now {amount_text(limits[name])}"
        for name, amount in given.items()
    )
    _say(f"added to the limits of {aar or 'the campaign'}: {added} ({_when(run)})")


def go_on(run: RunDir) -> bool:
    """Take back a pause of the whole campaign; True where it runs and needs no more."""
    open_spec(run)  # says where there is no campaign
    with reached(run, data_root()) as operator:
        paused = wanted_of(operator.controls()) == "pause"
        if paused:
            operator.control(None, NewControl(action="resume", by=getpass.getuser()))
    return paused and is_running(run)


def _when(run: RunDir) -> str:
    return "takes effect at the AAR's next step" if is_running(run) else "takes effect on resume"


def _say(text: str) -> None:
    Console(soft_wrap=True, highlight=False).print(text)
