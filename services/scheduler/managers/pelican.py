"""Pelican: checks the quality of a compiled collection, and counts what is in it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from services.scheduler.managers import UnitTaskManager
from shared import errands
from shared.db.models import Unit
from shared.errors import PermanentError
from shared.views import COUNTS


class Pelican(UnitTaskManager):
    """One unit, called again until the dataset is checked."""

    final_output = False

    def plan(self) -> Sequence[dict[str, Any]]:
        """Name the dataset, as the Data Registry does, and the compiled collection that it is made of."""
        crawl, process = self.job.context.get("collect", {}), self.job.context.get("process", {})
        compiled = process.get("compiled_collection_id")
        if not compiled:
            raise PermanentError("Nothing says which compiled collection to check. Restart from process.")
        return [{"name": f"{crawl['spider']}_{crawl['data_version']}_{self.job.id}", "collection": compiled}]

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Keep the counts."""
        (output,) = outputs
        for name in COUNTS:
            setattr(self.job, f"{name}_count", output["counts"][name])
        self._remember({"dataset_id": output["dataset_id"]})

    def wipe(self) -> bool:
        """Have the dataset deleted, once."""
        for unit in self.session.scalars(select(Unit).where(Unit.task_id == self.task.id)):
            if unit.start is not None and not unit.state.get("wiped"):
                params = {"name": unit.params["name"], "id": unit.state.get("id")}
                errands.plan(
                    self.session,
                    self.task.type,
                    self.task.backend,
                    "wipe",
                    job_id=self.job.id,
                    source_id=self.collection.source_id,
                    params=params,
                )
                unit.state = {**unit.state, "wiped": True}
        return True
