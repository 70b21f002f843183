"""One AAR: what it does, what it has used, what people asked of it; and the forms that ask."""

import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from aarlab.core.errors import BadInput
from aarlab.core.wire_ledger import Control, NewControl
from aarlab.server.auth import OPERATOR
from aarlab.server.dashboard.desk import Desk, DeskDep
from aarlab.server.dashboard.forms import Form, FormDep, form_key, go_to
from aarlab.server.dashboard.rendering import page, part
from aarlab.server.dashboard.session import OperatorViewer, Viewer
from aarlab.server.dashboard.views.aar import aar_facts
from aarlab.server.writes import write_once, writing
from aarlab.store import controls

router = APIRouter(include_in_schema=False)
LIMITS = {
    **{"hours": float, "dollars": float, "device_s": float},
    **{"tokens": int, "submissions": int, "methods": int},
}


@router.get("/aars/{name}")
async def aar(name: str, request: Request, desk: DeskDep, viewer: OperatorViewer) -> Response:
    async with desk.platform.store.database.read() as tx:
        facts = await aar_facts(tx, desk, name)
    return page(request, viewer, "aar", {**facts, "key": secrets.token_hex(16)})


@router.get("/live/aars/{name}")
async def live_aar(name: str, request: Request, desk: DeskDep, viewer: OperatorViewer) -> Response:
    async with desk.platform.store.database.read() as tx:
        facts = await aar_facts(tx, desk, name)
    return part(request, viewer, "aar", facts)


@router.post("/aars/control")
async def control_all(
    request: Request, desk: DeskDep, viewer: OperatorViewer, form: FormDep
) -> Response:
    """The whole campaign."""
    await _steer(request, desk, None, _control(form, viewer), form)
    return go_to(viewer, "/")


@router.post("/aars/{name}/control")
async def control(
    name: str, request: Request, desk: DeskDep, viewer: OperatorViewer, form: FormDep
) -> Response:
    await _steer(request, desk, name, _control(form, viewer), form)
    return go_to(viewer, f"/aars/{name}" if form.get("back") == "aar" else "/")


def _control(form: Form, viewer: Viewer) -> NewControl:
    """Raises BadInput, saying what is missing."""
    given: dict[str, Any] = {"action": form.get("action", ""), "text": form.get("text", "")}
    given["by"] = form.get("by") or viewer.name or "operator"
    try:
        if given["action"] == "extend":
            fields = {name: kind(form[name]) for name, kind in LIMITS.items() if form.get(name)}
            given["add"] = fields
        return NewControl.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        if first["loc"][:1] == ("add",):
            said = f"{first['loc'][-1]}: what is added is a finite number above 0"
        raise BadInput(f"that cannot be asked of an AAR: {said}") from None
    except ValueError:
        raise BadInput("limits are numbers; submissions and tokens whole ones") from None


async def _steer(
    request: Request, desk: Desk, name: str | None, new: NewControl, form: Form
) -> None:
    wanted = writing(desk.platform, OPERATOR, form_key(form), request, new)
    await write_once(wanted, Control, lambda tx: controls.add(tx, name, new))
    desk.platform.known.clear()  # limits may have changed
