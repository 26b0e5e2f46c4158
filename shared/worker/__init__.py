"""The worker runtime: how a message becomes claimed, isolated, fenced work. loop.py opens with the order of things.

A service is ``main("exporter")`` and a handler for each of its task types (see context.py, ``Work``).
"""

from functools import partial
from typing import NoReturn

from shared.service import run_service
from shared.worker.loop import run_worker


def main(service: str) -> NoReturn:
    """Be the worker service of this name: the body of ``python -m services.{service}``."""
    run_service(service, partial(run_worker, service))
