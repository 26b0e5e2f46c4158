"""The thread of a worker that does errands (shared/errands.py): a few short requests, or a directory to delete.

A thread beside the loop and not a unit: what is stopped or wiped is over, and has no unit any more; and it must not
wait until a slot is free. It holds no transaction while it waits for the other system.
"""

import threading
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from shared import errands
from shared.backoff import delay_before
from shared.db.errors import is_temporary
from shared.errands import Claimed
from shared.errors import BowerbirdError
from shared.logging import get_logger
from shared.settings import Settings
from shared.tasks import load, spec_of, specs_of

log = get_logger()

LOOK_SECONDS = 2.0
HOLD = timedelta(minutes=10)
"""How long an errand belongs to a worker; one that deletes for longer is repeated by another, which is harmless."""

Follow = tuple[str, str, dict[str, Any]]
"""An errand that follows from another: task type, backend, params; to wipe."""
Run = Callable[[Claimed, Settings], list[Follow]]


class Errands:
    """Starts the thread if the service has anybody to talk to."""

    def __init__(self, settings: Settings, service: str, sessions: sessionmaker[Session]) -> None:
        self._settings, self._service, self._sessions = settings, service, sessions
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="errands", daemon=True)
        if any(spec.errand for spec in specs_of(service).values()):
            self._thread.start()

    def close(self) -> None:
        """Stop soon: what is not done is done by the next worker."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                found = self.run_one()
            except DBAPIError as error:
                if not is_temporary(error):
                    log.exception("errand not done: the database refused")
                found = False
            except Exception:  # the thread's edge
                log.exception("errand not done")
                found = False
            if not found:
                self._stop.wait(LOOK_SECONDS)

    def run_one(self) -> bool:
        """Do the errand that is due for longest, if any; return whether there was one."""
        with self._sessions.begin() as session:
            errand = errands.claim(session, self._service, hold=HOLD)
        if errand is None:
            return False
        names = {"action": errand.action, "backend": errand.backend, "job": errand.job_id}
        try:
            run: Run = load(spec_of(errand.task_type, errand.backend).errand)
            follow = run(errand, self._settings)
        except Exception as error:  # noqa: BLE001  whatever it is, it is kept and tried again
            self._put_off(errand, error)
            return True
        with self._sessions.begin() as session:
            errands.done(session, errand)
            job_id, source_id = errand.job_id, errand.source_id
            for task_type, backend, params in follow:
                errands.plan(session, task_type, backend, "wipe", job_id=job_id, source_id=source_id, params=params)
        log.info("errand done", **names, collection=errand.source_id)
        return True

    def _put_off(self, errand: Claimed, error: Exception) -> None:
        known = isinstance(error, BowerbirdError | OSError)
        text = str(error) if known else f"Unexpected {type(error).__name__}: {error}"
        delay = delay_before(
            errand.attempts + 1,
            base_seconds=self._settings.retry_base_seconds,
            cap_seconds=self._settings.retry_cap_seconds,
        )
        with self._sessions.begin() as session:
            errands.put_off(session, errand, error=text, delay=delay)
        names = {"action": errand.action, "backend": errand.backend, "job": errand.job_id}
        more = {} if known else {"traceback": traceback.format_exc()}
        log.warning("errand put off", **names, error=text, delay_seconds=round(delay.total_seconds(), 1), **more)
