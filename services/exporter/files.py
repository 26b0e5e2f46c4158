"""The files of an export, and what they are called."""

from shared.exports import JSONL

FULL = f"full.{JSONL}"


def name_of(year: int | None) -> str:
    """Return the name of the file for a year, or for the records without one."""
    return f"undated.{JSONL}" if year is None else f"{year:04d}.{JSONL}"
