"""Scripts and styles: read once, served from memory, named by their content.

`static/vendor` holds files of npm packages as they were published; `vendored.json` says of which,
and a test compares their checksums. Nothing is built, nothing is fetched.
"""

from pathlib import Path

from fastapi import APIRouter, Request, Response

from aarlab.core.canonical import sha256_hex
from aarlab.core.errors import NotFound

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
    """The path of a file, with its hash: it may be kept for ever."""
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
    """What browsers ask for where a page names none."""
    return Response(FILES["icon.svg"], media_type=TYPES[".svg"])
