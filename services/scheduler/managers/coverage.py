"""Coverage: in how many places each field of the export has a value."""

from collections.abc import Sequence
from typing import Any

from services.scheduler.managers import UnitTaskManager


class Coverage(UnitTaskManager):
    """One unit reads the full JSON Lines file."""

    final_output = True

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Keep the coverage and the counts that are columns of the job."""
        (output,) = outputs
        self.job.coverage = output["coverage"]
        for name, count in output["counts"].items():
            setattr(self.job, f"{name}_count", count)
