"""Following a job until it ends: a live table on a terminal, a line for every change elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from shared.cli.database import revive
from shared.cli.errors import CommandError, explain
from shared.cli.output import cell, duration, err, new_table, printable, say
from shared.db.errors import is_temporary
from shared.db.models import JobStatus
from shared.settings import Settings
from shared.views import JobView, Progress, TaskView, get_job

POLL_SECONDS = 0.1
BAR_WIDTH = 24


def follow_job(
    settings: Settings, sessions: sessionmaker[Session], job_id: int, *, tend: Callable[[], None] = lambda: None
) -> JobView:
    """Show a job on standard error until it ends; return how it ended.

    A database that does not answer for a while is waited for: the job is not hurt, so neither are we.

    :param tend: called several times a second; what it raises ends the wait.
    """
    away = False
    with _display(err()) as update:
        while True:
            tend()
            try:
                job = read_job(sessions, job_id)
            except DBAPIError as error:
                if not is_temporary(error):
                    raise
                if not away:
                    say(f"Waiting: {explain(error)}", style="yellow")
                away = True
                revive(settings)
            else:
                away = False
                update(job)
                if job.status == JobStatus.COMPLETED:
                    return job
            time.sleep(POLL_SECONDS)


def read_job(sessions: sessionmaker[Session], job_id: int) -> JobView:
    """Return a job. Raise :class:`CommandError` if there is none."""
    with sessions() as session:
        job = get_job(session, job_id, public_only=False)
    if job is None:
        raise CommandError(f"There is no job {job_id}. `bowerbird jobs` lists them.")
    return job


@contextmanager
def _display(console: Console) -> Iterator[Callable[[JobView], None]]:
    if console.is_terminal:
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            yield lambda job: live.update(job_table(job))
    else:
        yield _Lines(console).update


class _Lines:
    """Prints a line whenever a task changes its state or fails an attempt."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[str, tuple[str, ...]] = {}

    def update(self, job: JobView) -> None:
        for task in job.tasks:
            state = (task.status, task.result, task.error, task.waits_for)
            if self._shown.get(task.type, ("PLANNED", "", "", "")) != state:
                self._shown[task.type] = state
                time_taken = f" in {duration(task.duration_seconds)}" if task.result and task.start else ""
                line = f"job {job.id}  {task.type:<9} {task.result or task.status}{time_taken}"
                self._console.print(printable(f"{line}  {trouble(task)}".rstrip()), soft_wrap=True)


def job_table(job: JobView) -> RenderableType:
    """Return a job's tasks as a table: state, how far, how long; what went wrong below it."""
    table = new_table(["task", "state", "progress", "time>"])
    for task in job.tasks:
        table.add_row(
            cell(task.type), cell(task.result or task.status), _progress(task), duration(task.duration_seconds)
        )
    troubles = [
        Text(printable(f"{task.type}: {text}"), style="yellow") for task in job.tasks if (text := trouble(task))
    ]
    return Group(table, *troubles)


def trouble(task: TaskView) -> str:
    """Return what is wrong with a task: why it failed, or why its last attempt did; else what it waits for."""
    if task.note or not task.error:
        return task.note or task.waits_for
    return (
        f"{task.waits_for} {task.error}"
        if task.waits_for
        else f"attempt {task.attempts} failed, trying again: {task.error}"
    )


def pace(progress: Progress) -> str:
    """Return how fast a task is and how long the rest takes: ``12,300/s, 4 min 05 s left``; empty if nobody knows."""
    if progress.per_second is None:
        return ""
    rate = f"{progress.per_second:,.1f}/s" if progress.per_second < 10 else f"{progress.per_second:,.0f}/s"
    return rate if progress.seconds_left is None else f"{rate}, {duration(progress.seconds_left)} left"


def _progress(task: TaskView) -> RenderableType:
    progress = task.progress
    if progress is None:
        return Text("")
    speed = f"  {pace(progress)}".rstrip()
    if not progress.total:
        return Text(f"{progress.done:,} {progress.of}{speed}")
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(
        ProgressBar(total=progress.total, completed=progress.done, width=BAR_WIDTH),
        Text(f"{progress.done:,} of {progress.total:,} {progress.of}{speed}"),
    )
    return grid
