"""The status of a job as OGC API - Processes has it: for the API, streams of events, webhooks and callbacks alike."""

from typing import Any

from shared.db.models import JobStatus, Result, TaskStatus
from shared.views import STATE_OF_RESULT, JobState, JobSummary

PROCESS = "process"
"""The only type of job that there is."""


def status_info(view: JobSummary) -> dict[str, Any]:
    """Return the members that the standard has (R: /req/core/job-success), those included that are not known (None)."""
    return {
        "jobID": str(view.id),
        "type": PROCESS,
        "processID": view.process,
        "status": view.state,
        "message": view.message or None,
        "progress": view.progress,
        "created": view.created,
        "started": view.start,
        "finished": view.end,
        "updated": view.updated,
    }


def word_of(status: JobStatus | TaskStatus, result: Result) -> JobState:
    """Return status and result of a job in one word of the standard."""
    if status == JobStatus.COMPLETED:
        return STATE_OF_RESULT[result]
    return JobState.ACCEPTED if status == JobStatus.PLANNED else JobState.RUNNING
