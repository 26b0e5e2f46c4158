"""The application: routes, errors, cross-origin reads, and its description, around one pool of connections."""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from services.api import (
    administration,
    collections,
    control,
    control_openapi,
    definition,
    description,
    events,
    execution,
    feeds,
    harvest,
    harvest_openapi,
    jobs,
    openapi,
    prefix,
    problem_pages,
    problems,
    processes,
    processes_openapi,
    quality,
    results,
    routes,
    webhooks,
)
from services.api.compression import Compressed
from services.api.counting import Counted
from services.api.feed import Feed
from services.api.prefix import Prefixed
from services.api.rates import Limited
from services.api.streams import Live, Places
from services.api.validation import Validated
from shared import metrics
from shared.db import make_engine, make_sessions
from shared.db.revision import head_revision
from shared.probes import show_disks
from shared.processes_file import offered
from shared.settings import Settings

POOL_SIZE = 10
PREFLIGHT_SECONDS = 7200
"""How long a browser may keep what it was told; Chromium keeps it no longer anyway."""
EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "Deprecation",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Repr-Digest",
    "Retry-After",
    "Sunset",
    "WWW-Authenticate",
)
ROUTERS = (
    routes.router,
    jobs.router,
    processes.router,
    execution.router,
    results.router,
    collections.router,
    harvest.router,
    feeds.router,
    quality.router,
    events.router,
    definition.router,
    control.router,
    administration.router,
    webhooks.router,
    problem_pages.router,
    description.router,
    prefix.router,
)


def create_app(settings: Settings, database_url: str) -> FastAPI:
    """Return the API on a database. It connects when it is first asked."""
    metrics.enable("api")
    show_disks(settings)
    engine = make_engine(database_url, application_name="bowerbird api", pool_size=POOL_SIZE)

    sessions = make_sessions(engine)
    live = Live(
        Feed(database_url, sessions),
        Places(total=settings.api_streams, per_address=settings.api_streams_per_address),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        live.feed.close()
        engine.dispose()

    app = FastAPI(
        title=f"{routes.TITLE} API",
        version=version("bowerbird"),
        lifespan=lifespan,
        openapi_url=None,  # description.py serves it, and a page that loads nothing from elsewhere
        # It would send traces, metrics and logs of its own accord wherever OTEL_… says: ours say what is to be said.
        telemetry={"auto_configure": False},
        redirect_slashes=False,  # one address for each thing; a redirect would also leave the public URL
    )
    app.state.live = live
    app.state.context = routes.Context(
        sessions=sessions,
        exports=settings.exports,
        page_size=settings.page_size,
        public_url=settings.public_url,
        database_url=database_url,
        head_revision=head_revision(),
        settings=settings,
        processes=offered(settings),
    )
    for router in ROUTERS:
        app.include_router(router)
    describe = functools.partial(
        openapi.describe,
        app,
        server=settings.public_url or settings.api_prefix or "/",
        page_size=settings.page_size,
        tags=control_openapi.TAGS + processes_openapi.TAGS + harvest_openapi.TAGS,
        examples=control_openapi.EXAMPLES | processes_openapi.EXAMPLES | harvest_openapi.EXAMPLES,
        models=control_openapi.models() | processes_openapi.models() | harvest_openapi.models(),
        security_schemes=control_openapi.SECURITY_SCHEMES,
    )
    app.openapi = functools.cache(  # type: ignore[method-assign]
        lambda: processes.illustrate(describe(), app.state.context.processes)
    )
    _surround(app, settings)
    return app


def _surround(app: FastAPI, settings: Settings) -> None:
    """Add the middleware. The last one added is the outermost."""
    if settings.api_validation != "off":
        app.add_middleware(Validated, describe=app.openapi, strict=settings.api_validation == "fail")
    app.add_middleware(Limited, settings=settings)
    app.add_middleware(Prefixed, prefix=settings.api_prefix)
    problems.install(app)
    # Reads only: a browser asks before it sends anything else to another origin, and is told no. Control needs a key in
    # a header, which no page of another origin can make a browser send without asking.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=problems.METHODS,
        allow_headers=["*"],
        expose_headers=[*EXPOSED_HEADERS, problems.REQUEST_ID],
        max_age=PREFLIGHT_SECONDS,
    )
    app.add_middleware(Compressed)
    app.add_middleware(Counted)
