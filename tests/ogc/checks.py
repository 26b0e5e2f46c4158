"""What a check is, and how the checks are found."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.ogc.server import Server

MODULES = ("common", "processes", "execution", "results", "jobs", "dismissal", "callbacks", "definition")
"""Those with checks, in the order in which they are run."""


@dataclass(frozen=True)
class Check:
    """One question to a server. ``ask`` raises AssertionError, whose text says what is wrong."""

    requirements: tuple[str, ...]
    """What the standard calls them, without ``/req/``; ``habit/…``: the official test suite, or sense, asks for it."""
    ask: Callable[[Server], None]

    @property
    def name(self) -> str:
        """Return a name for people."""
        return f"{self.ask.__name__.replace('_', ' ')} ({', '.join(self.requirements)})"


class NotOfferedError(Exception):
    """The server does not offer what is asked about, and need not; the text names it."""


_CHECKS: list[Check] = []


def requirement(*names: str) -> Callable[[Callable[[Server], None]], Callable[[Server], None]]:
    """Make a check of a function, for one or more requirements."""

    def add(ask: Callable[[Server], None]) -> Callable[[Server], None]:
        _CHECKS.append(Check(names, ask))
        return ask

    return add


def all_checks() -> list[Check]:
    """Return every check."""
    for module in MODULES:
        importlib.import_module(f"tests.ogc.{module}")
    return list(_CHECKS)
