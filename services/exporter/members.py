"""Gzip files written as members: each block is compressed once and appended to two files.

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

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO, Self

from isal import isal_zlib

LEVEL = 2
GZIP_WINDOW = 16 + isal_zlib.MAX_WBITS
"""zlib's way to ask for a gzip header; it carries neither time nor name, so equal text gives equal bytes."""
PENDING_BYTES = 16 << 20


def compress(block: bytes) -> bytes:
    """Return one gzip member; ``b""`` gives a valid file of no bytes. Releases the interpreter lock."""
    member: bytes = isal_zlib.compress(block, LEVEL, GZIP_WINDOW)
    return member


class MemberWriter:
    """Compresses blocks in a second thread and appends each member to its own file and to the full one, in order.

    Holds at most about ``PENDING_BYTES`` of text. A context manager; leaving it stops the thread. It opens no files:
    they are the caller's.
    """

    def __init__(self, full: BinaryIO) -> None:
        self._full = full
        self._pool = ThreadPoolExecutor(1, "compress")
        self._pending: deque[tuple[Future[bytes], int, BinaryIO]] = deque()
        self._pending_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, block: bytes, part: BinaryIO) -> None:
        """Append a block to ``part`` and to the full file, soon."""
        self._pending.append((self._pool.submit(compress, block), len(block), part))
        self._pending_bytes += len(block)
        while self._pending_bytes > PENDING_BYTES:
            self._write_oldest()

    def flush(self) -> None:
        """Write all that was added. Call before closing a part."""
        while self._pending:
            self._write_oldest()

    def _write_oldest(self) -> None:
        member, size, part = self._pending.popleft()
        self._pending_bytes -= size
        compressed = member.result()
        part.write(compressed)
        self._full.write(compressed)
