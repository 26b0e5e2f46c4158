"""Gzip files written as members: each block is compressed once and appended to its files.

Gzip members concatenate (RFC 1952, 2.2: a file is "a series of members"), so the member that ends up in a year's file
is, byte for byte, also a part of the full file. Members begin and end at line ends, so a reader may take them apart.

The compressor is ISA-L's, at level 2. On 96 MB of compiled releases, in blocks of 2 MiB, by processor time:

    ==================  ======  ==========
    compressor            MB/s  % of input
    ==================  ======  ==========
    ISA-L level 1          980        13.5
    ISA-L level 2          950        13.4
    ISA-L level 3          280        13.5
    zlib-ng level 6        155        10.6
    libdeflate level 6     145        10.5
    zlib level 6            66        10.6
    zlib level 9            37        10.3
    ==================  ======  ==========

The database gives some 300 MB/s: of these, only ISA-L keeps up with it on one core.
"""

import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from shared.packing import gzip_member

PENDING_BYTES = 16 << 20


class HashedFile:
    """A new file that knows the SHA-256 of what was written to it, so that nobody has to read it again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb", buffering=0)
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of what was written so far, hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append to the file."""
        self._hash.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sink(Protocol):
    """What a member is appended to."""

    def write(self, data: bytes, /) -> object:
        """Append."""


class MemberWriter:
    """Compresses blocks in a second thread, which appends each member to its files, in order.

    Holds at most about ``PENDING_BYTES`` of text. A context manager; leaving it stops the thread. It opens no files:
    they are the caller's, who must :meth:`flush` before closing one.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "compress")
        self._pending: deque[tuple[Future[None], int]] = deque()
        self._pending_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, block: bytes, files: Sequence[Sink]) -> None:
        """Append a block to files, soon."""
        self._pending.append((self._pool.submit(_append, block, files), len(block)))
        self._pending_bytes += len(block)
        while self._pending_bytes > PENDING_BYTES:
            self._wait_for_oldest()

    def flush(self) -> None:
        """Wait until all that was added is written. Raise what went wrong."""
        while self._pending:
            self._wait_for_oldest()

    def _wait_for_oldest(self) -> None:
        future, size = self._pending.popleft()
        self._pending_bytes -= size
        future.result()


def _append(block: bytes, files: Sequence[Sink]) -> None:
    member = gzip_member(block)
    for file in files:
        file.write(member)
