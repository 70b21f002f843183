"""Pages, parts of pages and JSON from the same facts, with the headers that all of them carry.

Fields of a form are checked to come from the session's own page.

Scripts and styles are read once, served from memory and named by their content. `static/vendor`
holds files of npm packages as they were published. `vendored.json` names the packages, and a test
compares the checksums. Nothing is built and nothing is fetched.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.hashing import sha256_hex
from aarlab.core.showing import moment, number_of, signed
from aarlab.server.dashboard.session import OperatorViewer, Viewer, base_of, check_form
from aarlab.server.markdown import render_markdown

STATIC = Path(__file__).parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
YEAR = "public, max-age=31536000, immutable"
router = APIRouter(include_in_schema=False)


def _read() -> dict[str, bytes]:
    found = (path for path in STATIC.rglob("*") if path.suffix in TYPES)
    return {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in found}


FILES = _read()
HASHES = {name: sha256_hex(content)[:12] for name, content in FILES.items()}


def versioned(name: str) -> str:
    """Return the path of a file, with its hash. It may be cached for ever."""
    return f"/static/{name}?v={HASHES[name]}"


@router.get("/static/{name:path}")
async def static(name: str, request: Request) -> Response:
    """Open to all: there is nothing of a campaign in it."""
    if name not in FILES:
        raise NotFound("no such file")
    fresh = request.query_params.get("v") == HASHES[name]
    kind = TYPES[Path(name).suffix]
    caching = YEAR if fresh else "no-cache"
    headers = {"Cache-Control": caching, "X-Content-Type-Options": "nosniff"}
    return Response(FILES[name], media_type=kind, headers=headers)


@router.get("/favicon.ico")
async def favicon() -> Response:
    """Return the icon that browsers ask for if a page does not name one."""
    return Response(FILES["icon.svg"], media_type=TYPES[".svg"])


HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}
BRIEF = 60
Facts = Mapping[str, Any]


def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("aarlab.server.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["when"] = moment
    made.filters["many"] = number_of
    made.filters["markdown"] = lambda text: Markup(render_markdown(text))
    made.filters["pgr"] = pgr_text
    made.filters["big"] = amount
    made.filters["brief"] = lambda text: text if len(text) <= BRIEF else f"{text[: BRIEF - 1]}…"
    made.globals["asset"] = versioned
    return made


def pgr_text(value: float | None) -> str:
    """Format a PGR with its sign, never as "-0.00". None is shown as a dash."""
    if value is None:
        return "–"
    text = signed(value)
    return f"+{text}" if value > 0 and float(f"{value:.2f}") else text


def amount(value: float) -> str:
    """Format a budget's figure: whole from a hundred on, else with the decimals that matter."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


PAGES = environment()


def page(request: Request, viewer: Viewer, name: str, facts: Facts, status: int = 200) -> Response:
    """Return the page, or its facts as JSON with `?format=json`."""
    if request.query_params.get("format") == "json":
        return JSONResponse(plain(facts), status, headers=HEADERS)
    return html(f"{name}.html", {**_shared(request, viewer), "here": name, **facts}, status)


def part(request: Request, viewer: Viewer, name: str, facts: Facts) -> Response:
    """Return a part of a page that a script asks for again; 304 if nothing changed."""
    text = PAGES.get_template(f"parts/{name}.html").render({**_shared(request, viewer), **facts})
    return tagged(request, HTMLResponse(text))


def tagged(request: Request, answer: Response) -> Response:
    """Add an ETag of the body. The body is left out if the browser has it."""
    tag = f'"{sha256_hex(bytes(answer.body))[:32]}"'
    headers = {**HEADERS, "Cache-Control": "private, no-cache", "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    answer.headers.update(headers)
    return answer


def html(template: str, facts: Facts, status: int = 200) -> Response:
    return HTMLResponse(PAGES.get_template(template).render(facts), status, headers=HEADERS)


def bare(request: Request, template: str, facts: Facts, status: int) -> Response:
    """Return a page for somebody who is not logged in."""
    return html(template, {"base": base_of(request), **facts}, status)


def _shared(request: Request, viewer: Viewer) -> dict[str, Any]:
    def here_with(**changes: Any) -> str:
        """Return the page's address with other parameters. None removes one."""
        given = {n: v for n, v in request.query_params.items() if n != "format"} | changes
        query = urlencode({name: value for name, value in given.items() if value not in (None, "")})
        return f"{viewer.base}{request.url.path}" + (f"?{query}" if query else "")

    return {
        "base": viewer.base,
        "viewer": viewer,
        "query": request.query_params,
        "here_with": here_with,
        "problem": request.app.state.desk.problem,
    }


def plain(value: Any) -> Any:
    """Return facts as JSON: tuples and markup become lists and text."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Markup) else value


MAX_FORM = 64_000
Form = dict[str, str]
Text = Annotated[str | None, Query(max_length=200)]
PageNumber = Annotated[int, Query(ge=0, le=10_000)]


async def fields(request: Request) -> Form:
    """Return the fields of a form, stripped; the first of each name."""
    body = await request.body()
    if len(body) > MAX_FORM:
        raise BadInput(f"the form is over {MAX_FORM:,} bytes")
    try:
        found = parse_qs(body.decode(), max_num_fields=30)
    except ValueError:
        raise BadInput("the form is not as a browser sends it") from None
    return {name: values[0].strip() for name, values in found.items()}


async def operator_fields(request: Request, viewer: OperatorViewer) -> Form:
    """Return the fields of a form of the operator's session. Raises Forbidden for any other."""
    form = await fields(request)
    check_form(viewer.form, form.get("form", ""), request)
    return form


def form_key(form: Form) -> str:
    """Return the key that makes a form count once if it is sent twice."""
    return f"form-{form.get('key', '')[:90] or secrets.token_hex(16)}"


def go_to(viewer: Viewer, path: str) -> Response:
    return RedirectResponse(f"{viewer.base}{path}", 303, headers=HEADERS)


FormDep = Annotated[Form, Depends(operator_fields)]
