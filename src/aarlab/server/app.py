"""The platform's app, and the one place of the server that opens the vault."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from starlette.routing import Route

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.hashing import sha256_hex
from aarlab.core.scoring import Scoring
from aarlab.core.wire_kept import FILE_BYTES
from aarlab.server.auth import operator_token
from aarlab.server.dashboard.site import add_dashboard
from aarlab.server.mcp_mount import McpMount, mcp_installed
from aarlab.server.middleware import Door, ETags, Pace, SharedPace
from aarlab.server.openapi import openapi_router
from aarlab.server.platform import Platform, Store
from aarlab.server.problems import add_handlers
from aarlab.server.recorded import Recorded
from aarlab.server.routes import (
    findings,
    kept,
    me,
    methods,
    operator_aars,
    operator_export,
    operator_verifications,
    pods,
    snapshots,
    submissions,
    task_data,
    tools,
    trials,
    verifiers,
)
from aarlab.server.service.extras import installed_tools
from aarlab.server.service.kept import mirror_all
from aarlab.server.settings import ServerSettings
from aarlab.server.steering import Steering
from aarlab.store import shared
from aarlab.store.blobs import Folder
from aarlab.store.database import Database
from aarlab.store.direct import check_store
from aarlab.store.repository import SnapshotRepo
from aarlab.store.shared import Rate
from aarlab.vault.scorer import Scorer
from aarlab.vault.vault import Vault

SNAPSHOTS = "repository of snapshots"

ROUTERS = (
    me.router,
    me.ledger_router,
    submissions.router,
    snapshots.router,
    findings.router,
    methods.router,
    methods.verified_router,
    task_data.router,
    trials.router,
    tools.router,
    operator_aars.router,
    operator_aars.controls_router,
    operator_aars.tokens_router,
    operator_verifications.methods_router,
    operator_aars.ledger_router,
    operator_verifications.router,
    operator_verifications.audits_router,
    operator_export.router,
    operator_export.log_router,
)


def create_app(settings: ServerSettings, store: Store, scorer: Scoring) -> FastAPI:
    """Return the app over an open store. It describes itself to token holders.

    The description is at /v1/openapi.json.
    """
    platform = Platform(
        settings=settings,
        store=store,
        scorer=scorer,
        operator_token=operator_token(settings.run_dir.tokens),
        pace=Pace(settings.requests_per_s, settings.request_burst),
        requests=SharedPace(
            store.database, Rate("requests", settings.requests_per_s, settings.request_burst)
        ),
        posts=SharedPace(
            store.database,
            Rate("findings, comments and votes", settings.posts_per_s, settings.post_burst),
        ),
        steering=Steering(store.database, settings.longest_wait_s),
        extras=installed_tools(),
    )
    mcp = McpMount(platform) if mcp_installed() else None

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            opened.callback(platform.runs.closed.set)
            await mirror_all(platform)
            if mcp is not None:
                await opened.enter_async_context(mcp.running())
            looking = asyncio.create_task(platform.steering.run())
            opened.callback(looking.cancel)
            yield

    app = FastAPI(
        lifespan=lifespan,
        title="aarlab platform",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # Traces carry exceptions and their values: none may leave, whatever the environment says.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.platform = platform
    # Pods and kept states are a campaign's own: their routes are in no description.
    own = (pods.router, kept.router, verifiers.router)
    for router in (*ROUTERS, *own, openapi_router(ROUTERS)):
        app.include_router(router)
    app.add_api_route("/health", _health, include_in_schema=False)
    if mcp is not None:
        app.router.routes.append(Route("/mcp", endpoint=mcp))
    add_handlers(app)
    add_dashboard(app, platform)
    app.add_middleware(ETags)
    larger = {kept.BLOBS: max(FILE_BYTES, settings.max_body_bytes)}
    app.add_middleware(Door, max_body_bytes=settings.max_body_bytes, larger=larger)
    return app


async def _health() -> dict[str, str]:
    return {"status": "ok"}


def open_scorer(settings: ServerSettings) -> Scoring:
    """Open the vault and return the scorer.

    Raises on loose file modes and on a development task that cannot be scored. At rest, a missing
    task or vault is not an error: the figures of the last export are used.
    """
    root = settings.data_root
    try:
        scorer = Scorer(Vault(root))
        for task in settings.tasks or scorer.tasks():
            root.check_task(task)
            scorer.check(task)
    except NotFound:
        if not settings.at_rest:
            raise
        opened = Scorer(Vault(root)) if root.vault.is_dir() else None
        return Recorded(settings, opened)
    if not scorer.tasks():
        raise BadInput(f"{root.vault} holds no task: aarlab task build")
    return scorer


def open_store(settings: ServerSettings) -> Store:
    """Return the run's folders and repository. The database is opened inside the event loop.

    Raises BadInput or Unavailable for a store of blobs that cannot be used as it is asked for.
    """
    run = settings.run_dir
    run.platform.mkdir(mode=0o700, parents=True, exist_ok=True)
    run.platform.chmod(0o700)
    blobs = Folder(run.platform if settings.blobs is None else settings.blobs)
    if settings.blobs_direct:
        check_store(blobs, direct=True)
    repo = SnapshotRepo(blobs.sub(run.snapshots.name))
    repo.open()
    return Store(Database(settings.place(run)), repo, blobs)


async def join_servers(store: Store, token: str, public_key: str) -> None:
    """Raise Conflict if this server would not act as one with the others of its database."""
    async with store.database.write() as tx:
        await shared.claim(tx, "operator token", sha256_hex(token))
        await shared.claim(tx, "signing key", public_key)
        # Under the write lock, so that servers which start together name the repository once.
        mark = await asyncio.to_thread(store.snapshots.mark)
        if mark is None and await shared.claimed(tx, SNAPSHOTS) is None:
            mark = await asyncio.to_thread(store.snapshots.set_mark)
        await shared.claim(tx, SNAPSHOTS, mark or "none")
