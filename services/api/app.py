"""The application: routes, errors, cross-origin reads, and its description, around one pool of connections."""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from services.api import openapi, problems, routes
from shared.db import make_engine, make_sessions
from shared.db.migrate import head_revision
from shared.settings import Settings

POOL_SIZE = 10
EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Link",
    "Repr-Digest",
    "Retry-After",
)


def create_app(settings: Settings, database_url: str) -> FastAPI:
    """Return the read API on a database. It connects when it is first asked."""
    engine = make_engine(database_url, application_name="bowerbird api", pool_size=POOL_SIZE)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        engine.dispose()

    app = FastAPI(
        title=f"{routes.TITLE} read API",
        version=version("bowerbird"),
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # one address for each thing; a redirect would also leave the public URL
    )
    app.state.context = routes.Context(
        sessions=make_sessions(engine),
        exports=settings.exports,
        page_size=settings.page_size,
        public_url=settings.public_url,
        database_url=database_url,
        head_revision=head_revision(),
    )
    app.include_router(routes.router)
    problems.install(app)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=problems.METHODS,
        allow_headers=["*"],
        expose_headers=[*EXPOSED_HEADERS, problems.REQUEST_ID],
    )
    describe = functools.partial(openapi.describe, app, server=settings.public_url or "/", page_size=settings.page_size)
    app.openapi = functools.cache(describe)  # type: ignore[method-assign]
    return app
