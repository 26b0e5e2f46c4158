"""Where the API is: below a prefix, if ``BOWERBIRD_API_PREFIX`` says so.

With one, everything is below it and nothing else is answered, except for what machines ask that watch over the
process: probes, metrics and ping stay where they are, and are below it too.
"""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.api.problems import nothing_here, problem

PING = "/_mgmt/ping"
OUTSIDE = frozenset({"/health/live", "/health/ready", "/metrics", PING})
"""What is answered without the prefix too."""

router = APIRouter(include_in_schema=False)


@router.head(PING)
@router.get(PING)
async def ping() -> Response:
    """Say that the process is alive, in the words of rs-dpr-service, whatever the database's state."""
    return JSONResponse("Healthy", headers={"Cache-Control": "no-store"})


class Prefixed:
    """The middleware that takes the prefix away before a route is looked for, and puts it into every address."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http" or not self.prefix:
            await self.app(scope, receive, send)
            return
        root: str = scope.get("root_path", "") + self.prefix
        path: str = scope["path"]
        below = path == root or path.startswith(f"{root}/")
        # In place: the middleware outside this one also makes addresses.
        scope["root_path"] = root
        if path == root:
            scope["path"] = f"{root}/"
        if below or path.removeprefix(root.removesuffix(self.prefix)) in OUTSIDE:
            await self.app(scope, receive, send)
            return
        await problem(Request(scope), nothing_here())(scope, receive, send)
