"""From ``COPY … TO STDOUT (FORMAT binary)`` to blocks of lines.

The binary format gives a value's bytes as they are: there is nothing to escape and un-escape, which makes it both
exact and faster than the text format (355 against 225 MB/s of records of 2 kB, PostgreSQL 15). Its layout is documented
(https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"): a header, then for each row the number of its
fields (16 bits) and for each field its length (32 bits) and bytes, then -1 in place of a number of fields.
"""

import struct
from collections.abc import Callable

from shared.errors import PermanentError

BLOCK_BYTES = 2 << 20
"""A block is emitted once it is this long: large enough to compress well, small enough for a processor's cache."""

SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
HEADER = struct.Struct(f">{len(SIGNATURE)}sII")
ROW = struct.Struct(">hi")
TRAILER = struct.pack(">h", -1)
LINE_FEED = 0x0A
"""As a number: looking for one byte is several times faster than looking for bytes of length one."""


class LineBlocks:
    """A file to COPY into: takes the binary format of rows of one text column, in pieces of any size.

    :param emit: called with each block, whole lines ended by ``\\n``, and the number of its lines.
    """

    def __init__(self, emit: Callable[[bytes, int], None]) -> None:
        self.lines = 0
        self._emit = emit
        self._in_header = True
        self._rest = b""
        self._values: list[bytes] = []
        self._size = 0

    def write(self, piece: bytes) -> int:
        """Take in a piece (libpq gives one row at a time); emit a block when there is enough for one."""
        data = self._rest + piece if self._rest else piece
        if self._in_header and len(data) < HEADER.size:
            self._rest = data
            return len(piece)
        start = self._skip_header(data) if self._in_header else 0
        while start + ROW.size <= len(data):
            fields, length = ROW.unpack_from(data, start)
            if fields != 1 or length < 0:
                raise ValueError(f"COPY gave a row of {fields} fields, {length} bytes; one text was expected")
            end = start + ROW.size + length
            if end > len(data):
                break
            self.take(data[start + ROW.size : end])
            start = end
        self._rest = data[start:]
        return len(piece)

    def finish(self) -> None:
        """Emit the last lines. Raise ValueError if the stream has no proper end."""
        self.flush()
        if self._rest != TRAILER:
            raise ValueError(f"COPY ended early, after {self.lines} rows")

    def _skip_header(self, data: bytes) -> int:
        signature, flags, extension = HEADER.unpack_from(data)
        if signature != SIGNATURE or flags or extension:
            raise ValueError("COPY gave an unknown header; is this PostgreSQL's binary format?")
        self._in_header = False
        return HEADER.size

    def take(self, value: bytes) -> None:
        """Add a value to the block."""
        self.lines += 1
        if LINE_FEED in value:
            raise PermanentError(
                f"Record {self.lines} has a line break in its text, so it cannot be a line of JSON Lines. "
                "Compile the records again: restart the job from its process task."
            )
        self._values.append(value)
        self._size += len(value) + 1
        if self._size >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Emit what there is."""
        if self._values:
            block = b"\n".join([*self._values, b""])
            lines = len(self._values)
            self._values, self._size = [], 0
            self._emit(block, lines)
