"""Handlers whose work is done by a peer: they start it, look at it, and say "not yet" until it is done.

A crawl takes days, a slot is for minutes: so such a handler looks once and is called again later, with the small state
that it keeps (:class:`~shared.units.Later`). :func:`polling` makes a handler of a function that looks, and adds what
all need:

- questions a few seconds apart at first, then half as far again each time, up to ``poll_cap_seconds``;
- a peer that does not answer is no failure of the work, which goes on there: the unit waits, showing why, for up to
  ``peer_patience_hours`` in a row. Only then do attempts count, as for everything else.
"""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.backoff import delay_before
from shared.errors import TemporaryError
from shared.logging import get_logger
from shared.peers import Caller
from shared.units import Later
from shared.worker.context import Work

log = get_logger()

FIRST_POLL_SECONDS = 2.0
POLL_GROWTH = 1.5


@dataclass(frozen=True)
class NotYet:
    """The peer is still at work: look again. ``note`` says to people what it does.

    ``at_once``: there is something to do now, once the state is safe; ``waiting``: the peer has not begun.
    """

    note: str
    waiting: bool = False
    at_once: bool = False
    done: int | None = None
    of: str = "records"


Look = Callable[[Work, dict[str, Any]], dict[str, Any] | NotYet]
"""Takes the state and changes it in place; returns the unit's output, or that there is none yet.

If the peer does not answer, the state stays as it was before.
"""


def polling(look: Look) -> Callable[[Work], dict[str, Any] | Later]:
    """Make a handler of a function that looks once."""

    @functools.wraps(look)
    def handler(work: Work) -> dict[str, Any] | Later:
        before = {name: value for name, value in work.state.items() if name not in ("away", "polls")}
        state = copy.deepcopy(before)
        try:
            found = look(work, state)
        except TemporaryError as error:
            return _wait_for_answer(work, before, error)
        return _look_again(work, state, found) if isinstance(found, NotYet) else found

    return handler


def caller_of(work: Work) -> Caller:
    """Return for whom the peer is asked."""
    return Caller(work.assignment.source_id, work.job_id, work.assignment.task_type)


def _look_again(work: Work, state: dict[str, Any], found: NotYet) -> Later:
    polls = 0 if found.at_once else int(work.state.get("polls", 0))
    seconds = 0.0 if found.at_once else FIRST_POLL_SECONDS * POLL_GROWTH ** min(polls, 100)
    delay = timedelta(seconds=min(seconds, work.settings.poll_cap_seconds))
    state = state | {"polls": polls + (0 if found.at_once else 1)}
    return Later(delay, state, note=found.note, waiting=found.waiting, done=found.done, of=found.of)


def _wait_for_answer(work: Work, state: dict[str, Any], error: TemporaryError) -> Later:
    now = datetime.now(UTC)
    away = work.state.get("away") or {"since": now.isoformat(timespec="seconds"), "times": 0}
    since = datetime.fromisoformat(away["since"])
    if now - since >= timedelta(hours=work.settings.peer_patience_hours):
        raise error
    times = away["times"] + 1
    delay = delay_before(
        times + 1,
        base_seconds=work.settings.retry_base_seconds,
        cap_seconds=work.settings.poll_cap_seconds,
        retry_after=error.retry_after,
    )
    log.warning("a peer does not answer", error=str(error), times=times, delay_seconds=delay.total_seconds())
    state = state | {"polls": 0, "away": away | {"times": times}}
    return Later(delay, state, note=f"Waiting for an answer since {since:%Y-%m-%d %H:%M} UTC.", error=str(error))
