"""Echo: the task of the process that gives back what it is given (shared/processes.py)."""

from collections.abc import Sequence
from typing import Any

from services.scheduler.managers import UnitTaskManager


class Echo(UnitTaskManager):
    """One unit, which is told the inputs."""

    final_output = True

    def plan(self) -> Sequence[dict[str, Any]]:
        """Return the inputs of the execution."""
        return [dict(self.job.request.get("inputs", {}))]

    def failure(self, outputs: Sequence[dict[str, Any]]) -> str:
        """Return the failure that was asked for. The unit is OK all the same: it is nothing for operators to mend."""
        return str(outputs[0].get("failure", ""))
