"""Pages, parts of pages and JSON out of the same facts, with the headers that all of them carry."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aarlab.core.canonical import sha256_hex
from aarlab.core.showing import signed
from aarlab.server.dashboard.assets import versioned
from aarlab.server.dashboard.session import Viewer, base_of
from aarlab.server.markdown import render_markdown

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
    made.filters["when"] = lambda at: at[:16].replace("T", " ")
    made.filters["markdown"] = lambda text: Markup(render_markdown(text))
    made.filters["pgr"] = pgr_text
    made.filters["big"] = amount
    made.filters["brief"] = lambda text: text if len(text) <= BRIEF else f"{text[: BRIEF - 1]}…"
    made.globals["asset"] = versioned
    return made


def pgr_text(value: float | None) -> str:
    """Format a PGR with its sign; never "-0.00". None is shown as a dash."""
    if value is None:
        return "–"
    text = signed(value)
    return f"+{text}" if value > 0 and float(f"{value:.2f}") else text


def amount(value: float) -> str:
    """A budget's figure: whole from a hundred on, else with what matters of its decimals."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


PAGES = environment()


def page(request: Request, viewer: Viewer, name: str, facts: Facts, status: int = 200) -> Response:
    """The page, or its facts as JSON with `?format=json`."""
    if request.query_params.get("format") == "json":
        return JSONResponse(plain(facts), status, headers=HEADERS)
    return html(f"{name}.html", {**_shared(request, viewer), "here": name, **facts}, status)


def part(request: Request, viewer: Viewer, name: str, facts: Facts) -> Response:
    """A part of a page that a script asks for again; 304 where nothing changed."""
    text = PAGES.get_template(f"parts/{name}.html").render({**_shared(request, viewer), **facts})
    return tagged(request, HTMLResponse(text))


def tagged(request: Request, answer: Response) -> Response:
    """With an ETag of the body; without the body where the browser has it."""
    tag = f'"{sha256_hex(bytes(answer.body))[:32]}"'
    headers = {**HEADERS, "Cache-Control": "private, no-cache", "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    answer.headers.update(headers)
    return answer


def html(template: str, facts: Facts, status: int = 200) -> Response:
    return HTMLResponse(PAGES.get_template(template).render(facts), status, headers=HEADERS)


def bare(request: Request, template: str, facts: Facts, status: int) -> Response:
    """A page for somebody who is not logged in."""
    return html(template, {"base": base_of(request), **facts}, status)


def _shared(request: Request, viewer: Viewer) -> dict[str, Any]:
    def here_with(**changes: Any) -> str:
        """This page's address with other parameters; None takes one away."""
        given = {n: v for n, v in request.query_params.items() if n != "format"} | changes
        query = urlencode({name: value for name, value in given.items() if value not in (None, "")})
        return f"{viewer.base}{request.url.path}" + (f"?{query}" if query else "")

    return {
        "base": viewer.base,
        "viewer": viewer,
        "query": request.query_params,
        "here_with": here_with,
    }


def plain(value: Any) -> Any:
    """Facts as JSON: tuples and markup become lists and text."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Markup) else value
