"""Virtual environments of their own for programs that the tests run beside the suite, and that it does not need.

An environment is made once, beside the one that the tests run in, from a list of pinned packages. Where it cannot be
made the tests that need it are skipped by name, which is an error when ``CI`` is set.
"""

import fcntl
import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests import backends


@functools.cache
def python(name: str, requirements: Path) -> str:
    """Return the Python that has the packages listed in a file, made if need be.

    :param name: what is installed: the beginning of the environment's name, and the reason given where it fails.
    """
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    place = Path(sys.prefix if os.access(sys.prefix, os.W_OK) else Path.home() / ".cache") / f"{name}-{digest}"
    place.mkdir(parents=True, exist_ok=True)
    command, stamp = place / "bin" / "python", place / "complete"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two runs of the tests at once, one makes it
        if not stamp.exists():
            for step in (
                [sys.executable, "-m", "venv", str(place)],
                [str(command), "-m", "pip", "--disable-pip-version-check", "-q", "install", "-r", str(requirements)],
            ):
                done = subprocess.run(step, capture_output=True, text=True, check=False)
                if done.returncode:
                    backends.unavailable(f"{name}: it cannot be installed: {done.stderr.strip()[-1000:]}")
            stamp.touch()
    return str(command)
