"""Export: compiled records to JSON Lines, full and by year."""

from collections.abc import Sequence
from typing import Any

from services.scheduler.managers import UnitTaskManager
from shared.errors import TemporaryError
from shared.exports import Export as ExportFiles

MAX_SHARES = 100


class Export(UnitTaskManager):
    """One unit makes all JSON Lines files of the job; of a large one, several a share each, and one more joins them."""

    final_output = True

    def plan(self) -> Sequence[dict[str, Any]]:
        """Plan as many shares as the collected data has parts of the size in the settings."""
        collected = self.job.context.get("collect", {}).get("bytes", 0)
        shares = min(-(-collected // self.settings.export_share_bytes), MAX_SHARES)
        return [{"share": share, "of": shares} for share in range(1, shares + 1)] if shares > 1 else [{}]

    def last_step(self, outputs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """Join the shares, if there are any."""
        shares = sum("place" in output for output in outputs)
        return {"join": shares} if shares else None

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Keep the counts."""
        (output,) = (output for output in outputs if "place" not in output)
        self._remember({name: output[name] for name in ("records", "bytes")})

    def wipe(self) -> bool:
        """Delete the job's published files, of every format."""
        try:
            ExportFiles(self.settings.exports, self.collection.source_id, self.job.id).remove()
        except OSError as error:
            raise TemporaryError(f"The files of job {self.job.id} could not be deleted: {error}") from error
        return True
