"""What a browser sends: fields of a form, checked to be of the session's own page."""

import secrets
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from aarlab.core.errors import BadInput
from aarlab.server.dashboard.rendering import HEADERS
from aarlab.server.dashboard.session import OperatorViewer, Viewer, check_form

MAX_FORM = 64_000
Form = dict[str, str]
Text = Annotated[str | None, Query(max_length=200)]
PageNumber = Annotated[int, Query(ge=0, le=10_000)]


async def fields(request: Request) -> Form:
    """Fields of a form, stripped; the first of each name."""
    body = await request.body()
    if len(body) > MAX_FORM:
        raise BadInput(f"the form is over {MAX_FORM:,} bytes")
    try:
        found = parse_qs(body.decode(), max_num_fields=30)
    except ValueError:
        raise BadInput("the form is not as a browser sends it") from None
    return {name: values[0].strip() for name, values in found.items()}


async def operator_fields(request: Request, viewer: OperatorViewer) -> Form:
    """Fields of a form of the operator's session; Forbidden for any other."""
    form = await fields(request)
    check_form(viewer.form, form.get("form", ""), request)
    return form


def form_key(form: Form) -> str:
    """What makes a form that is sent twice count once."""
    return f"form-{form.get('key', '')[:90] or secrets.token_hex(16)}"


def go_to(viewer: Viewer, path: str) -> Response:
    return RedirectResponse(f"{viewer.base}{path}", 303, headers=HEADERS)


FormDep = Annotated[Form, Depends(operator_fields)]
