"""Flatten: each JSON Lines file to CSV and Excel."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from services.scheduler.managers import UnitTaskManager
from shared.db.models import File
from shared.exports import JSONL


class Flatten(UnitTaskManager):
    """One unit a JSON Lines file: one that fails does not stop the others. Export's wipe deletes what it makes."""

    final_output = True

    def plan(self) -> Sequence[dict[str, Any]]:
        """Plan a unit for each JSON Lines file of the job, the largest first: the last to end started early."""
        names = self.session.scalars(
            select(File.name)
            .where(File.job_id == self.job.id, File.name.endswith(f".{JSONL}"))
            .order_by(File.size.desc(), File.name)
        )
        return [{"name": name} for name in names]

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Keep the number of rows of each table of the full file."""
        full = next((output for output in outputs if output["name"].startswith("full.")), None)
        if full is not None:
            self._remember({"tables": full["tables"]})
