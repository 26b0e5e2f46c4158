"""Process by Kingfisher Process, and export from its database."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import select

from services.scheduler.managers import UnitTaskManager
from services.scheduler.managers.export import Export
from services.scheduler.managers.scrapyd import crawls_of
from shared import errands
from shared.db.models import Task, Unit
from shared.errors import PermanentError

WIPED = "wiped_collections"


class KingfisherProcess(UnitTaskManager):
    """One unit, called again until the collection is compiled. It starts nothing: the crawl made the collection."""

    final_output = False

    def plan(self) -> Sequence[dict[str, Any]]:
        """Name the collection that the crawl made."""
        collection = self.job.context.get("collect", {}).get("process_id")
        if not collection:
            raise PermanentError("No crawl of this job named a collection in Kingfisher Process. Restart from collect.")
        return [{"collection": collection}]

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Keep the ids, and what Kingfisher Process says of the data."""
        (output,) = outputs
        for name in ("date_from", "date_to"):
            day = output[name]
            setattr(self.job, name, date.fromisoformat(day) if day else None)
        for name in ("ocid_prefix", "license", "publication_policy"):
            setattr(self.job, name, output[name])
        self._remember({name: output[name] for name in ("collection_id", "compiled_collection_id")})

    def failure(self, outputs: Sequence[dict[str, Any]]) -> str:
        """Return why there is nothing to export."""
        return str(outputs[0]["failure"])

    def wipe(self) -> bool:
        """Have the collections deleted that crawls of this job made, once each; also if this task never started."""
        done = self.job.context.get(WIPED, [])
        found = [name for name in dict.fromkeys(self._collections()) if name not in done]
        if found:
            errands.plan(
                self.session,
                self.task.type,
                self.task.backend,
                "wipe",
                job_id=self.job.id,
                source_id=self.collection.source_id,
                params={"collections": found},
            )
            self.job.context = {**self.job.context, WIPED: [*done, *found]}
        return True

    def _collections(self) -> list[str]:
        units = self.session.scalars(select(Unit).where(Unit.task_id == self.task.id)).all()
        collects = select(Unit).join(Task, Task.id == Unit.task_id)
        crawled = self.session.scalars(collects.where(Unit.job_id == self.job.id, Task.type == "collect")).all()
        names = [unit.params.get("collection") for unit in units]
        names += [crawl.get("process_id") for crawl in crawls_of(crawled)]
        names.append(self.job.context.get("collect", {}).get("process_id"))
        return [name for name in names if name]


class KingfisherExport(Export):
    """One unit reads the compiled releases from Kingfisher Process's database; it may take several calls."""

    def plan(self) -> Sequence[dict[str, Any]]:
        """Name the compiled collection."""
        compiled = self.job.context.get("process", {}).get("compiled_collection_id")
        if not compiled:
            raise PermanentError("Nothing says which compiled collection to export. Restart from process.")
        return [{"collection": compiled}]
