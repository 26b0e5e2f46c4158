"""A worker service for tests: ``python -m tests.integration.tester``. Its handler does what the unit's params say.

Spawned children import this module too (as ``__mp_main__``), and so know the task type.
"""

import os
import resource
import signal
import time
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text

from shared import cli
from shared.errors import PermanentError, TemporaryError
from shared.tasks import TASKS, TaskSpec
from shared.units import Later
from shared.worker import main

TASKS["test"] = TaskSpec(
    "tester",
    "tests.integration.tester:handle",
    "tests.integration.tester:handle",
    errand="tests.integration.tester:run_errand",
    stops=True,
)
POLL_SECONDS = 0.02
BLOCK_BYTES = 4 * 1024**2
MANY_BLOCKS = 250
REFUSED_BYTES = 600 * 1024**2


def handle(work):
    """Leave a trace of each attempt, then behave: every step is a file others can wait for."""
    place = Path(work.params["place"])
    path = work.staging / "made"
    attempt = work.assignment.attempt
    (place / f"started-{attempt}-{os.getpid()}-{os.getppid()}").touch()
    behave = work.params.get("behave", {}).get(str(attempt), "succeed")
    if behave == "wait with a lock":
        with work.lock("full.jsonl.gz"):
            _wait(place)
            path.write_text("x" * 100_000)
    elif behave.startswith("wait"):
        _wait(place)
    calls = work.state.get("calls", 0)
    if behave == "later" and calls < 3:
        work.session.execute(text("UPDATE unit SET error = 'written by a call that was no end'"))
        (place / f"called-{calls}").touch()
        later = {"note": "The other system is at it.", "waiting": calls == 0, "done": calls}
        return Later(timedelta(seconds=0.2 * calls), {"calls": calls + 1}, **later)
    _end_badly(behave, place)
    path.write_text(f"made in attempt {attempt}")
    work.publish(path, "full.jsonl.gz", records=1)
    work.progress(1, 1)
    work.note("made", attempt=attempt)
    (place / f"done-{attempt}").touch()
    return {"attempt": attempt}


def _end_badly(behave, place):
    """Fail, die or take too much, if that is asked for."""
    if behave == "wait and fail":
        raise PermanentError("its directory is gone")
    if behave == "temporary":
        raise TemporaryError("the source is busy")
    if behave == "permanent":
        raise PermanentError("the source is wrong")
    if behave == "defect":
        {}["missing"]
    elif behave == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif behave == "allocate":
        _allocate(place)
    elif behave == "be refused memory":
        resource.setrlimit(resource.RLIMIT_AS, (REFUSED_BYTES, REFUSED_BYTES))
        _allocate(place)


def run_errand(errand, _settings):
    """Leave a trace; be away, or be broken, for as long as a file says so."""
    place = Path(errand.params["place"])
    (place / f"errand-{errand.action}-{errand.attempts}").touch()
    if (place / "away").exists():
        raise TemporaryError("the other system is away")
    if (place / "broken").exists():
        {}["missing"]
    return [("test", "native", {"place": str(place)})] if errand.params.get("follow") else []


def command():
    """Be the command ``bowerbird``, which thereby knows the task type."""
    cli.main()


def _wait(place):
    while not (place / "go").exists():
        time.sleep(POLL_SECONDS)


def _allocate(place):
    """Take memory, block by block, and much of it."""
    blocks = []
    while len(blocks) < MANY_BLOCKS and not (place / "go").exists():
        blocks.append(b"x" * BLOCK_BYTES)
        time.sleep(POLL_SECONDS / 10)


if __name__ == "__main__":
    main("tester")
