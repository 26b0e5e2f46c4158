"""Tables of jobs, tasks and files, as several commands show them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.cli.output import duration, show_table, size
from shared.cli.watch import trouble
from shared.db.models import Result
from shared.exports import NO_COLLECTION, Export
from shared.settings import Settings
from shared.views import FileView, JobSummary, JobView


def show_jobs(jobs: Sequence[JobSummary], *, empty: str) -> None:
    """Print a table of jobs."""
    show_table(
        ["job>", "collection", "state", "task", "start (UTC)", "time>"],
        [
            (
                str(job.id),
                job.about,
                job.result or job.status,
                job.task or "",
                job.start,
                duration(job.duration_seconds),
            )
            for job in jobs
        ],
        empty=empty,
    )


def show_tasks(job: JobView) -> None:
    """Print a table of a job's tasks."""
    show_table(
        ["task", "state", "time>", "attempts>", ""],
        [
            (task.type, task.result or task.status, duration(task.duration_seconds), task.attempts, trouble(task))
            for task in job.tasks
        ],
        empty="The job has no tasks.",
    )


def show_files(job: JobView) -> None:
    """Print a table of a job's files."""
    show_table(
        ["file", "records>", "size>"],
        [(file.name, file.records, size(file.size)) for file in job.files],
        empty=f"Job {job.id} has published no files.",
    )


def export_of(settings: Settings, job: JobSummary) -> Export:
    """Return where a job's files are on this machine."""
    return Export(settings.exports, job.source_id or NO_COLLECTION, job.id)


def file_facts(file: FileView, directory: Path) -> dict[str, Any]:
    """Return a file for programs: its facts, and where it is."""
    return {**file.model_dump(mode="json"), "path": str(directory / file.name)}


def why_failed(job: JobView) -> str:
    """Return, in words, why a job did not end well; empty if it did."""
    for task in job.tasks:
        if task.result == Result.FAILED:
            return f"{task.type}: {task.note or 'failed without saying why'}"
    return "" if job.result == Result.OK else f"job {job.id} was cancelled"
