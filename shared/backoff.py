"""How long to wait before trying again."""

import random
from datetime import timedelta

FACTOR = 4
# Each delay is drawn from the upper half of its range, so that a thousand units that failed together spread out.
JITTER = 0.5


def delay_before(
    attempt: int, *, base_seconds: float, cap_seconds: float, retry_after: float | None = None
) -> timedelta:
    """Return the delay before an attempt, growing fourfold from ``base_seconds`` up to ``cap_seconds``, jittered.

    :param attempt: the number of the attempt to come; 2 is the first repetition.
    :param retry_after: seconds that the peer asked for; a lower bound, itself bounded by the cap: what an operator
        calls the longest delay is not a stranger's to exceed. A peer that asks for longer is asked again after the cap,
        and may say the same; raise the cap for sources that mean it.
    """
    full = min(cap_seconds, base_seconds * FACTOR ** max(0, attempt - 2))
    seconds = full * (1 - JITTER * random.random())  # noqa: S311  spreads load, guards nothing
    return timedelta(seconds=max(seconds, min(retry_after or 0.0, cap_seconds)))
