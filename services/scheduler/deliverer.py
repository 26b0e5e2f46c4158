"""Telling webhooks and callbacks what they are to be told: some threads beside the scheduler's loop.

Each claims a delivery, sends it without a transaction, and settles it (shared/deliveries.py). So a receiver that is
slow keeps one thread for a while, and no job. Several schedulers share the work, as they claim.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from shared import callbacks, deliveries, metrics, signing, webhooks
from shared.backoff import delay_before
from shared.db import make_engine, make_sessions
from shared.db.errors import is_temporary
from shared.deliveries import Claimed
from shared.errors import PermanentError, TemporaryError
from shared.logging import get_logger
from shared.sending import Answer, send
from shared.settings import Settings

THREADS = 4
LOOK_SECONDS = 1.0
BASE_SECONDS = 5.0
CAP_SECONDS = 6 * 3600.0
"""Delays grow fourfold from 5 s on, up to 6 h."""
HOLD = timedelta(minutes=5)
HOLD_TIMEOUTS = 5
"""A delivery that was claimed by a scheduler which died is tried again after so long, or so many timeouts."""

log = get_logger()


@dataclass(frozen=True)
class Message:
    """What is sent, and to whom."""

    url: str
    body: bytes
    secrets: tuple[str, ...]


class UndeliverableError(PermanentError):
    """A delivery has become pointless; the text says why."""


class Deliverer:
    """Makes one attempt at a time; may be used by several threads.

    :param clock: seconds since 1970, for signatures.
    """

    def __init__(
        self, settings: Settings, sessions: sessionmaker[Session], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._sessions, self._clock = settings, sessions, clock
        self._timeout = timedelta(seconds=settings.webhook_timeout_seconds)

    def run(self, stop: threading.Event) -> None:
        """Deliver until asked to stop."""
        while not stop.is_set():
            try:
                found = self.run_one()
            except DBAPIError as error:
                found = False
                if not is_temporary(error):
                    log.exception("deliveries not made: the database refused")
            except Exception:  # the thread's edge
                found = False
                log.exception("deliveries not made")
            if not found:
                stop.wait(LOOK_SECONDS)

    def run_one(self) -> bool:
        """Make an attempt at the delivery that is due for longest, if any; return whether there was one."""
        with self._sessions.begin() as session:
            claimed = deliveries.claim(session, hold=max(HOLD, HOLD_TIMEOUTS * self._timeout))
        if claimed is None:
            return False
        try:
            with self._sessions() as session:
                message = self._message(session, claimed)
            answer = self._send(claimed, message)
        except TemporaryError as error:
            self._failed(claimed, str(error))
        except PermanentError as error:
            self._give_up(claimed, str(error))
        except DBAPIError:
            raise
        except Exception as error:  # a defect costs this delivery its attempts, and no other
            log.exception("delivery not made", **_names(claimed))
            self._failed(claimed, f"Unexpected {type(error).__name__}: {error}")
        else:
            self._answered(claimed, answer)
        return True

    # What is sent

    def _message(self, session: Session, claimed: Claimed) -> Message:
        if claimed.webhook_id is None:
            body = callbacks.body_of(session, claimed.type, claimed.job_id or 0, base_url=self._settings.api_url)
            if body is None:
                raise UndeliverableError("The job is deleted: nothing is left to be told of it.")
            return Message(claimed.url, _encoded(body), ())
        receiver = webhooks.receiver(session, claimed.webhook_id)
        if receiver is None or not receiver.active:
            raise UndeliverableError("The webhook is removed, or turned off: `bowerbird webhook list` shows which.")
        return Message(receiver.url, _encoded(self._event(claimed)), tuple(receiver.secrets))

    def _event(self, claimed: Claimed) -> dict[str, Any]:
        link = f"{self._settings.api_url}/jobs/{claimed.job_id}"
        linked = {"link": link} if claimed.job_id is not None else {}
        moment = claimed.created.isoformat().replace("+00:00", "Z")
        return {"type": claimed.type, "timestamp": moment, "data": claimed.data | linked}

    def _send(self, claimed: Claimed, message: Message) -> Answer:
        headers = signing.headers(message.secrets, claimed.message_id, int(self._clock()), message.body)
        return send(message.url, message.body, headers, settings=self._settings)

    # What becomes of it

    def _answered(self, claimed: Claimed, answer: Answer) -> None:
        if not answer.ok:
            self._failed(claimed, str(answer), retry_after=answer.retry_after, gone=answer.gone)
            return
        with self._sessions.begin() as session:
            deliveries.delivered(session, claimed)
            if claimed.webhook_id is not None:
                webhooks.note_success(session, claimed.webhook_id)
        _count(claimed, "delivered")

    def _failed(self, claimed: Claimed, error: str, *, retry_after: float | None = None, gone: bool = False) -> None:
        if gone or claimed.attempts >= self._settings.webhook_attempts:
            self._give_up(claimed, error)
        else:
            self._put_off(claimed, error, retry_after)
        if claimed.webhook_id is not None:
            self._doubt(claimed.webhook_id, error, gone=gone)

    def _put_off(self, claimed: Claimed, error: str, retry_after: float | None) -> None:
        delay = delay_before(
            claimed.attempts + 1, base_seconds=BASE_SECONDS, cap_seconds=CAP_SECONDS, retry_after=retry_after
        )
        with self._sessions.begin() as session:
            deliveries.put_off(session, claimed, error=error, delay=delay)
        log.warning("delivery put off", **_names(claimed), error=error, delay_seconds=round(delay.total_seconds(), 1))
        _count(claimed, "put off")

    def _give_up(self, claimed: Claimed, error: str) -> None:
        with self._sessions.begin() as session:
            deliveries.give_up(session, claimed, error=error)
        log.warning("delivery given up", **_names(claimed), error=error)
        _count(claimed, "given up")

    def _doubt(self, webhook_id: int, error: str, *, gone: bool) -> None:
        """Turn a webhook off that has failed for too long, or wants no more."""
        patience = timedelta(days=self._settings.webhook_patience_days)
        given_up = 0
        with self._sessions.begin() as session:
            long = webhooks.note_failure(session, webhook_id, patience=patience)
            hopeless = long is not None and (long or gone)
            if hopeless:
                given_up = deliveries.give_up_pending(session, webhook_id, error=f"The webhook is turned off: {error}")
                webhooks.turn(session, webhook_id, on=False, actor=webhooks.SCHEDULER)
        if hopeless:
            log.error("webhook turned off", webhook=webhook_id, error=error)
            metrics.DELIVERIES.inc(given_up, receiver="webhook", outcome="given up")


@contextlib.contextmanager
def delivering(settings: Settings, database_url: str) -> Iterator[None]:
    """Deliver while the block runs."""
    engine = make_engine(database_url, application_name="bowerbird scheduler deliveries", pool_size=THREADS)
    deliverer, stop = Deliverer(settings, make_sessions(engine)), threading.Event()
    # Daemons: one that waits for a receiver does not keep the process; its delivery is made again.
    threads = [
        threading.Thread(target=deliverer.run, args=[stop], name="deliveries", daemon=True) for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(LOOK_SECONDS)
        engine.dispose()


def _encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _names(claimed: Claimed) -> dict[str, Any]:
    return {"message": claimed.message_id, "webhook": claimed.webhook_id, "job": claimed.job_id, "type": claimed.type}


def _count(claimed: Claimed, outcome: str) -> None:
    receiver = "callback" if claimed.webhook_id is None else "webhook"
    metrics.DELIVERIES.inc(receiver=receiver, outcome=outcome)
