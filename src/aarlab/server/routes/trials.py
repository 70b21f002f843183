"""Run methods in the platform's sandbox for AARs that have none: a check and a trial."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from aarlab.core.errors import SandboxUnavailable
from aarlab.core.wire_task import MethodCheck, NewCheck, NewTrial, Trial
from aarlab.server.auth import AarDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.platform import Platform
from aarlab.server.writes import KeyDep, writing

try:
    from aarlab.server.trials import Trials as Trials
except ModuleNotFoundError as missing:  # without the extra `sandbox` no method is run here
    if missing.name != "psutil":
        raise
    Trials = None  # type: ignore[assignment, misc]

router = APIRouter(prefix="/v1", route_class=StrictRoute)


def trials_for(platform: Platform) -> "Trials | None":
    """Return the trials of a platform; None without the extra `sandbox`."""
    return None if Trials is None else Trials(platform)


def needed(trials: "Trials | None") -> "Trials":
    """Return `trials`; raises SandboxUnavailable if the server cannot run methods."""
    if trials is None:
        raise SandboxUnavailable("this server runs no methods: it lacks the extra aarlab[sandbox]")
    return trials


async def trials_of(request: Request) -> "Trials":
    return needed(request.app.state.trials)


TrialsDep = Annotated["Trials", Depends(trials_of)]


@router.post("/checks", responses={402: {}})
async def check(
    new: NewCheck,
    request: Request,
    aar: AarDep,
    platform: PlatformDep,
    key: KeyDep,
    trials: TrialsDep,
) -> MethodCheck:
    """Run a method on toy tasks in the platform's sandbox; costs the device seconds it takes."""
    return await trials.check(aar, writing(platform, aar.name, key, request, new), new)


@router.post("/trials", responses={402: {}})
async def trial(
    new: NewTrial,
    request: Request,
    aar: AarDep,
    platform: PlatformDep,
    key: KeyDep,
    trials: TrialsDep,
) -> Trial:
    """Run a snapshot on a task's public rows in the platform's sandbox; costs device seconds."""
    return await trials.trial(aar, writing(platform, aar.name, key, request, new), new)
