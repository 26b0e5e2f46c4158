"""Field coverage by Cardinal (https://cardinal.readthedocs.io): in how many places each field has a value.

Cardinal skips a line that it cannot read, silently. So the lines are counted as well, and if Cardinal saw fewer than
there are, the first that it cannot read is looked for: a published count that leaves records out would be wrong.
"""

import gzip
import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import ocdscardinal
from isal import igzip
from isal.igzip_lib import IsalError

from shared.errors import PermanentError

BLOCK_BYTES = 1 << 20
BLOCK_LINES = 10_000

COUNTED = {
    "tenders": "/tender/",
    "tenderers": "/tender/tenderers[]/",
    "tenders_items": "/tender/items[]/",
    "parties": "/parties[]/",
    "awards": "/awards[]/",
    "awards_items": "/awards[]/items[]/",
    "awards_suppliers": "/awards[]/suppliers[]/",
    "contracts": "/contracts[]/",
    "contracts_items": "/contracts[]/items[]/",
    "contracts_transactions": "/contracts[]/implementation/transactions[]/",
    "plannings": "/planning/",
}
"""Count → the path whose coverage it is."""
SUMMED = ("documents", "milestones", "amendments")
"""Counts that are sums over every array of that name, wherever it is."""


@dataclass(frozen=True)
class Fields:
    """The coverage of a file, and how many lines it has."""

    coverage: dict[str, int]
    lines: int


def summarize(coverage: dict[str, int]) -> dict[str, int]:
    """Return the 14 counts of a job."""
    counts = {name: coverage.get(path, 0) for name, path in COUNTED.items()}
    for name in SUMMED:
        counts[name] = sum(count for path, count in coverage.items() if path.endswith(f"/{name}[]/"))
    return counts


def count_fields(path: Path, scratch: Path) -> Fields:
    """Return the coverage of a gzipped JSON Lines file; an empty one has none.

    :param scratch: a directory for the unpacked copy, which Cardinal reads.
    :raises PermanentError: the file is missing or damaged, or a line is not JSON; the text names it.
    """
    unpacked = scratch / path.name.removesuffix(".gz")
    lines = _unpack(path, unpacked)
    coverage: Counter[str] = Counter()
    for field, count in ocdscardinal.coverage(str(unpacked)).items():
        coverage[field.replace("\0", "\ufffd")] += count  # PostgreSQL's jsonb has no NUL
    # The path "" counts lines with a value; a line such as {} has none, and is no fault.
    if coverage[""] < lines:
        _check_lines(path, unpacked, scratch)
    unpacked.unlink()
    return Fields(dict(coverage), lines)


def _unpack(path: Path, unpacked: Path) -> int:
    lines, end = 0, b"\n"
    try:
        with igzip.open(path) as source, unpacked.open("wb") as target:
            while block := source.read(BLOCK_BYTES):
                target.write(block)
                lines += block.count(b"\n")
                end = block[-1:]
    except FileNotFoundError as error:
        raise PermanentError(f"{path.name} is missing ({path}). Run the job again from its export task.") from error
    except (gzip.BadGzipFile, EOFError, IsalError) as error:  # type: ignore[misc]  # its stub says instance
        raise PermanentError(
            f"{path.name} is damaged: {error} ({path}). Run the job again from its export task."
        ) from error
    return lines + (end != b"\n")


def _check_lines(path: Path, unpacked: Path, scratch: Path) -> None:
    """Raise :class:`PermanentError` naming the first line that Cardinal cannot read, if there is one."""
    probe = scratch / "probe.jsonl"
    with unpacked.open("rb") as file:
        first = 1
        while lines := list(itertools.islice(file, BLOCK_LINES)):
            if _lines_with_value(map(_in_array, lines), probe) < len(lines):
                _check_each(path, lines, first, probe)
            first += len(lines)
    probe.unlink(missing_ok=True)


def _check_each(path: Path, lines: Iterable[bytes], first: int, probe: Path) -> None:
    for number, line in enumerate(lines, first):
        # The array makes {} count, but is one more level of nesting.
        if not _lines_with_value([line, _in_array(line)], probe):
            raise PermanentError(
                f"{path.name}, line {number}: Cardinal cannot read this record. Either it is no JSON, or it is nested "
                "more than 127 levels deep, or a text has half a surrogate pair. Correct it at the source, or leave "
                "coverage out of the collection's tasks plan; then run the job again."
            )


def _in_array(line: bytes) -> bytes:
    return b"[0,%b]" % line.rstrip(b"\r\n")


def _lines_with_value(lines: Iterable[bytes], probe: Path) -> int:
    probe.write_bytes(b"\n".join(lines))  # blank lines in between do not matter
    return int(ocdscardinal.coverage(str(probe)).get("", 0))
