"""Waiting for facts: poll a condition until it holds, fail with what was last seen."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, seconds: float = 30, what: str = "") -> T:
    """Return the condition's first true value; fail after the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}; last seen: {value!r}")
        time.sleep(0.02)
    return value
