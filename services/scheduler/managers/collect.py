"""Collect: bring the source's records into the record store."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from services.scheduler.managers import UnitTaskManager
from shared.db.models import Record


class Collect(UnitTaskManager):
    """One unit: the whole source, in one transaction, so that nothing is ever half collected."""

    final_output = False

    def host(self) -> str:
        """Return the source's host, if it is on the web."""
        source = self.collection.source
        return (urlsplit(source).hostname or "") if "://" in source else ""

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Keep the counts, and what the packages say of themselves."""
        (output,) = outputs
        self.job.license = output["license"]
        self.job.publication_policy = output["publication_policy"]
        facts = {name: output[name] for name in ("records", "kinds", "files", "bytes")}
        self._remember(facts | {"extensions": output.get("extensions", [])})  # a worker of an older version has none

    def wipe(self) -> bool:
        """Delete collected records."""
        return self._delete_rows(Record)
