"""A worker service for tests: ``python -m tests.integration.tester``. Its handler does what the unit's params say.

Spawned children import this module too (as ``__mp_main__``), and so know the task type.
"""

import os
import signal
import time
from functools import partial
from pathlib import Path

from shared import exports
from shared.errors import PermanentError, TemporaryError
from shared.tasks import TASKS, TaskSpec
from shared.worker import main

TASKS["test"] = TaskSpec("tester", "tests.integration.tester:handle", "tests.integration.tester:handle")
POLL_SECONDS = 0.02


def handle(work):
    """Leave a trace of each attempt, then behave: every step is a file others can wait for."""
    place = Path(work.params["place"])
    path = work.staging / "made"
    attempt = work.assignment.attempt
    (place / f"started-{attempt}-{os.getpid()}-{os.getppid()}").touch()
    behave = work.params.get("behave", {}).get(str(attempt), "succeed")
    if behave.startswith("wait"):
        while not (place / "go").exists():
            time.sleep(POLL_SECONDS)
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
    elif behave == "freeze in commit":
        exports.replace_text = partial(_freeze, place, exports.replace_text)
    path.write_text(f"made in attempt {attempt}")
    work.publish(path, "full.jsonl.gz", records=1)
    work.progress(1, 1)
    work.note("made", attempt=attempt)
    (place / f"done-{attempt}").touch()
    return {"attempt": attempt}


def _freeze(place, then, *args, **options):
    """Stand in for what writes the manifest: while the rows are locked, stop, and go on when told to."""
    exports.replace_text = then
    (place / f"frozen-{os.getpid()}").touch()
    os.kill(os.getpid(), signal.SIGSTOP)
    then(*args, **options)


if __name__ == "__main__":
    main("tester")
