"""A worker service for tests: ``python -m tests.integration.tester``. Its handler does what the unit's params say.

Spawned children import this module too (as ``__mp_main__``), and so know the task type.
"""

import os
import signal
import time
from pathlib import Path

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
    if behave == "wait":
        while not (place / "go").exists():
            time.sleep(POLL_SECONDS)
    elif behave == "temporary":
        raise TemporaryError("the source is busy")
    elif behave == "permanent":
        raise PermanentError("the source is wrong")
    elif behave == "defect":
        {}["missing"]
    elif behave == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_text(f"made in attempt {attempt}")
    work.publish(path, "full.jsonl.gz", records=1)
    work.progress(1, 1)
    work.note("made", attempt=attempt)
    (place / f"done-{attempt}").touch()
    return {"attempt": attempt}


if __name__ == "__main__":
    main("tester")
