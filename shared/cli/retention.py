"""Deleting old jobs now: the scheduler does it after each success, with the same rules."""

from shared.cli.collections import actor
from shared.cli.services import run_service


def delete_jobs(*, dry_run: bool) -> None:
    """Have the scheduler decide about every job, print a line for each, and delete what is to go."""
    run_service("scheduler", "--delete-jobs", actor(), *(["--dry-run"] if dry_run else []))
