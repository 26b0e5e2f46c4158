"""Check: judge the compiled records, and hold the job back if too few pass."""

from collections.abc import Sequence
from typing import Any

from services.scheduler.managers import State, UnitTaskManager
from shared import quality
from shared.db.models import QualityCheck, TaskStatus

NAMED_BREACHES = 3
"""Checks that a failed task's note tells of in full."""


class Check(UnitTaskManager):
    """One unit judges all compiled records. Its report goes with the job."""

    final_output = True

    def get_status(self) -> State:
        """Return FAILED if a check is under a threshold of the collection, unless an operator has said to go on.

        The unit is OK all the same: its report is what was asked for, and there is nothing to replay.
        """
        state = super().get_status()
        if state.status != TaskStatus.COMPLETED or state.failure or quality.IGNORED in self.job.context:
            return state
        breaches = quality.breaches(self.session, self.job.id)
        return State(state.status, self._describe(breaches)) if breaches else state

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Keep how much was judged, and how many checks have failures."""
        (output,) = outputs
        self._remember({"records": output["records"], "failing": output["failing"]})

    def _describe(self, breaches: Sequence[QualityCheck]) -> str:
        sentences = "; ".join(quality.describe_breach(row) for row in breaches[:NAMED_BREACHES])
        more = len(breaches) - NAMED_BREACHES
        others = f"; and {more} more" if more > 0 else ""
        job = self.job.id
        return (
            f"Not good enough to be published. {sentences}{others}. What was published before stays. See all: "
            f"bowerbird quality {job}. Have the source corrected and run it again; or lower the threshold and restart "
            f"the job; or let this one pass: bowerbird job restart {job} --ignore-thresholds"
        )
