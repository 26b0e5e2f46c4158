"""The JSON Lines file that is flattened: its size, its number of records, and its lines."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isal import igzip
from isal.igzip_lib import IsalError

from shared.errors import PermanentError

BLOCK_BYTES = 1 << 20
LINES_BYTES = 1 << 22
"""Lines that are flattened at once."""


@dataclass(frozen=True)
class Source:
    """A gzip file of JSON Lines.

    :param size: bytes, uncompressed.
    :param records: lines.
    """

    path: Path
    size: int
    records: int


def measure(path: Path) -> Source:
    """Read the whole file once. Raise :class:`PermanentError` if it is missing, cut short or not gzip.

    A gzip file does not know its size: each of its members has a length of 32 bits.
    """
    size = records = 0
    try:
        with igzip.open(path, "rb") as file:
            while block := file.read(BLOCK_BYTES):
                size += len(block)
                records += block.count(b"\n")
    except FileNotFoundError:
        raise PermanentError(f"{path.name} is not there. Restart the job from its export task.") from None
    except (EOFError, gzip.BadGzipFile, IsalError) as error:  # type: ignore[misc]  # stubbed as an instance
        raise PermanentError(
            f"{path.name} is not a complete gzip file ({error}). Restart the job from its export task."
        ) from error
    return Source(path, size, records)


def blocks(path: Path) -> Iterator[bytes]:
    """Yield the lines, many at once."""
    rest = b""
    with igzip.open(path, "rb") as file:
        while block := file.read(LINES_BYTES):
            end = block.rfind(b"\n") + 1
            if end:
                yield rest + block[:end]
                rest = block[end:]
            else:
                rest += block
    if rest:
        yield rest


def joined(whole: Path, parts: list[Path]) -> bool:
    """Return whether a file is, byte for byte, those of some others one after the other."""
    if not all(path.exists() for path in (whole, *parts)):
        return False
    with whole.open("rb") as file:
        for part in parts:
            with part.open("rb") as other:
                while block := other.read(BLOCK_BYTES):
                    if file.read(len(block)) != block:
                        return False
        return not file.read(1)
