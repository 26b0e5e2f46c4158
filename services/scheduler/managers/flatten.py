"""Flatten: each JSON Lines file to CSV and Excel."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.scheduler.managers import UnitTaskManager
from shared import filing
from shared.exports import JSONL

FULL = f"full.{JSONL}"
FILE_BYTES = 1 << 17
"""A file costs as much as so many bytes more: its archive, its workbook, and the pieces of each table."""


class Flatten(UnitTaskManager):
    """One unit for the full file and those that it consists of; one for each file, if it does not seem to.

    Of a large job, units that each read some of the files, and one more that makes the full file of what they read. A
    file that cannot be flattened does not stop the others. Export's wipe deletes what it makes.
    """

    final_output = True

    def plan(self) -> Sequence[dict[str, Any]]:
        """Plan the units, the largest first: the last to end started early."""
        sizes = filing.current_sizes(self.session, self.job.id, JSONL)
        return plan_units(sizes, self.settings.flatten_share_bytes)

    def last_step(self, outputs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """Make the full file of the shares, if there are any and nothing failed."""
        shares = [output for output in outputs if "name" not in output]
        whole = shares and not any("failed" in output for output in shares)
        return {"name": FULL, "join": len(shares)} if whole else None

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Keep the number of rows of each table of the full file."""
        full = next((output for output in outputs if output.get("name") == FULL), None)
        if full is not None:
            self._remember({"tables": full["tables"]})

    def failure(self, outputs: Sequence[dict[str, Any]]) -> str:
        """Return why a file could not be flattened, where its unit went on with others."""
        failures = [reason for output in outputs for reason in output.get("failed", {}).values()]
        of = f" ({len(failures)} files failed)" if len(failures) > 1 else ""
        return f"{failures[0]}{of}" if failures else ""


def plan_units(sizes: Mapping[str, int], share_bytes: int) -> list[dict[str, Any]]:
    """Return the parameters of the units for files of so many bytes, of which a unit reads so many."""
    # Our exporter's years go before "undated", which is in order; and their sizes add up, for the full file is those of
    # the years one after the other. The handlers compare them byte by byte.
    parts = sorted(name for name in sizes if name != FULL)
    if not parts or sizes.get(FULL) != sum(sizes[name] for name in parts):
        return [{"name": name} for name in sizes]
    shares = _shares(parts, sizes, share_bytes)
    if len(shares) == 1:
        return [{"name": FULL, "parts": parts}]
    units = [{"share": share, "of": len(shares), "parts": some} for share, some in enumerate(shares, 1)]
    return sorted(units, key=lambda unit: -sum(sizes[name] for name in shares[unit["share"] - 1]))


def _shares(parts: Sequence[str], sizes: Mapping[str, int], share_bytes: int) -> list[list[str]]:
    """Return runs of files of about as many bytes each, in their order."""
    count = min(-(-sum(sizes[part] for part in parts) // share_bytes), len(parts))
    whole = sum(sizes[part] + FILE_BYTES for part in parts)
    shares: list[list[str]] = [[] for _ in range(max(count, 1))]
    done = 0
    for part in parts:
        cost = sizes[part] + FILE_BYTES
        # The share that the file's middle is in.
        shares[(2 * done + cost) * len(shares) // (2 * whole)].append(part)
        done += cost
    return [share for share in shares if share]
