"""Process: compile the releases of each contracting process into one record."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from services.scheduler.managers import UnitTaskManager
from shared.db.models import Compiled


class Process(UnitTaskManager):
    """One unit, in one transaction."""

    final_output = False

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Keep the counts, the period and the ocid prefix."""
        (output,) = outputs
        self.job.date_from = _date(output["date_from"])
        self.job.date_to = _date(output["date_to"])
        self.job.ocid_prefix = output["ocid_prefix"]
        facts = {name: output[name] for name in ("records", "compiled", "years")}
        self._remember(facts | {"identities": output.get("identities", [])})  # a worker of an older version has none

    def wipe(self) -> bool:
        """Delete compiled records."""
        return self._delete_rows(Compiled)


def _date(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None
