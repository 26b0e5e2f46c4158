"""The JSON Lines file that is flattened: its size, its number of records, and its lines."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isal import igzip
from isal.igzip_lib import IsalError

from shared.errors import PermanentError

BLOCK_BYTES = 1 << 20


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


def batches(path: Path, size: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the lines in lists of at most ``size``, each with the number (from 1) of its first line."""
    number, lines = 1, []
    with igzip.open(path, "rb") as file:
        for line in file:
            lines.append(line)
            if len(lines) == size:
                yield number, lines
                number, lines = number + size, []
    if lines:
        yield number, lines
