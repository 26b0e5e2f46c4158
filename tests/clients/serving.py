"""The API in this process, on a port of its own: programs of others can ask it, and tests can count its statements."""

import contextlib
import threading
from collections.abc import Iterator

import uvicorn

from services.api.__main__ import listen
from services.api.app import create_app
from shared.settings import Settings


@contextlib.contextmanager
def served(settings: Settings, database_url: str) -> Iterator[str]:
    """Serve the API; yield its address."""
    listener = listen("127.0.0.1", 0)
    app = create_app(settings, database_url)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        # It listens already: a request that comes before the server runs waits for it.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
