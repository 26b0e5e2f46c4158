"""A small disk of a test's own, to be filled up and made read-only: what root may do anywhere else."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests import backends
from tests.waiting import eventually

BLOCK_BYTES = 4096


class Disk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Take all room there is."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(BLOCK_BYTES))

    def free(self) -> None:
        """Give the room back."""
        self._filler.unlink()

    def resize(self, size: str) -> None:
        """Make the disk larger or smaller."""
        _run("mount", "-o", f"remount,size={size}", str(self.path))

    def make_read_only(self) -> None:
        """Refuse all writing, to everybody. Waits until no file is open for it."""
        eventually(lambda: _run("mount", "-o", "remount,ro", str(self.path), check=False) == 0, what="nobody writes")

    def make_writable(self) -> None:
        """Take that back."""
        _run("mount", "-o", "remount,rw", str(self.path))


@contextlib.contextmanager
def small_disk(path: Path, *, size: str = "4m") -> Iterator[Disk]:
    """Mount a disk at the path. Skips the test, by name, where that is not allowed."""
    path.mkdir()
    if os.geteuid() != 0 or _run(
        "mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(path), check=False
    ):
        backends.unavailable("small disk: run as root, where mounting a tmpfs is allowed")
    try:
        yield Disk(path)
    finally:
        _run("umount", "--lazy", str(path))


def _run(*command: str, check: bool = True) -> int:
    return subprocess.run(command, check=check, capture_output=True).returncode
