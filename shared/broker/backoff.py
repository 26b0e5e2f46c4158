"""How long to wait before connecting again: doubling, and jittered, so that many clients do not return at once."""

import random
import time
from collections.abc import Callable

FIRST_SECONDS = 0.5
CAP_SECONDS = 30.0


class Backoff:
    """Says when the next attempt is due. A new one is due at once.

    The n-th failure in a row makes it wait between half of and the whole of ``FIRST_SECONDS`` · 2ⁿ⁻¹, the whole never
    over ``CAP_SECONDS``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._due = clock()

    @property
    def remaining(self) -> float:
        """Seconds until the next attempt is due, 0 if it is."""
        return max(0.0, self._due - self._clock())

    def failed(self) -> None:
        """Put the next attempt off."""
        whole = min(CAP_SECONDS, FIRST_SECONDS * 2 ** min(self._failures, 10))
        self._failures += 1
        self._due = self._clock() + random.uniform(whole / 2, whole)  # noqa: S311  jitter, not a secret

    def succeeded(self) -> None:
        """Start again from the shortest wait."""
        self._failures = 0
        self._due = self._clock()
