"""Export: compiled records to JSON Lines, full and by year."""

from collections.abc import Sequence
from typing import Any

from services.scheduler.managers import UnitTaskManager
from shared.errors import TemporaryError
from shared.exports import Export as ExportFiles


class Export(UnitTaskManager):
    """One unit makes all JSON Lines files of the job."""

    final_output = True

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Keep the counts."""
        (output,) = outputs
        self._remember({name: output[name] for name in ("records", "bytes")})

    def wipe(self) -> bool:
        """Delete the job's published files, of every format."""
        try:
            ExportFiles(self.settings.exports, self.collection.source_id, self.job.id).remove()
        except OSError as error:
            raise TemporaryError(f"The files of job {self.job.id} could not be deleted: {error}") from error
        return True
