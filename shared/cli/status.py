"""``bowerbird status``: what is running, what is waiting, what went wrong."""

import time
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text
from sqlalchemy.orm import Session, sessionmaker

from shared.broker import Broker, open_broker
from shared.cli.database import command_settings, database, sessions_on
from shared.cli.errors import explain
from shared.cli.output import cell, new_table, out, printable, show_json
from shared.cli.watch import pace, read_job
from shared.db.models import JobStatus
from shared.dead_letters import count_open
from shared.errands import list_errands
from shared.errors import BrokerUnavailableError
from shared.health import is_alive_anywhere
from shared.logging import mask
from shared.messages import queues
from shared.pauses import list_pauses
from shared.settings import Settings
from shared.supervisor import SERVICES, SupervisorLock, answers, base_url
from shared.views import JobView, TaskView, list_jobs

REFRESH_SECONDS = 1.0
MAX_JOBS = 50
"""Jobs in progress that are shown; there may be more."""
SHOWN_STUCK = 5


def status(*, watch: bool, as_json: bool) -> None:
    """Show it once, or again every second until Ctrl-C."""
    settings = command_settings()
    with database(settings) as url, sessions_on(url) as sessions:
        broker = open_broker(settings, url)
        try:
            _show(settings, url, sessions, broker, watch=watch, as_json=as_json)
        finally:
            broker.close()


def _show(
    settings: Settings, url: str, sessions: sessionmaker[Session], broker: Broker, *, watch: bool, as_json: bool
) -> None:
    def look() -> dict[str, Any]:
        return facts(settings, url, sessions, broker)

    if as_json:
        show_json(look())
    elif not watch:
        out().print(_picture(look()))
    else:
        with Live(console=out(), auto_refresh=False) as live:
            while True:
                live.update(_picture(look()), refresh=True)
                time.sleep(REFRESH_SECONDS)


def facts(settings: Settings, url: str, sessions: sessionmaker[Session], broker: Broker) -> dict[str, Any]:
    """Return the state of the suite, as ``--json`` prints it.

    ``services`` are those that share the data directory, seen by their heartbeats; the API is asked itself.
    ``queues`` is None, with the reason in ``broker_error``, while the broker is away.
    """
    supervisor = SupervisorLock(settings).read()
    depths, broker_error = _depths(broker)
    with sessions() as session:
        incomplete = [
            summary.id
            for state in (JobStatus.RUNNING, JobStatus.PLANNED)
            for summary in list_jobs(session, public_only=False, status=state, limit=MAX_JOBS)
        ]
        stuck = [
            summary.id
            for summary in list_jobs(session, public_only=False, stuck_after=settings.stuck_after, limit=MAX_JOBS)
        ]
        pauses = list_pauses(session)
        dead = count_open(session)
        errands = list_errands(session)
    return {
        "database": mask(url),
        "broker": mask(settings.broker_url or url),
        "broker_error": broker_error,
        "data_dir": str(settings.data_dir),
        "supervisor": supervisor,
        "services": {service: _is_alive(settings, service, supervisor) for service in SERVICES},
        "queues": depths,
        "dead_letters": dead,
        "errands": errands,
        "paused": pauses,
        "stuck": stuck,
        "jobs": [read_job(sessions, job_id) for job_id in incomplete],
    }


def _depths(broker: Broker) -> tuple[dict[str, dict[str, int]] | None, str | None]:
    try:
        broker.declare()
        depths = {queue: broker.depth(queue) for queue in queues()}
    except BrokerUnavailableError as error:
        return None, explain(error)
    return {
        queue: {"ready": depth.ready, "waiting": depth.waiting, "dead": depth.dead} for queue, depth in depths.items()
    }, None


def _is_alive(settings: Settings, service: str, supervisor: dict[str, Any] | None) -> bool:
    if service != "api":
        return is_alive_anywhere(settings, service)
    url = (supervisor or {}).get("api_url") or base_url(settings.api_host, settings.api_port) + settings.api_prefix
    return answers(f"{url}/health/ready")


def _picture(state: dict[str, Any]) -> RenderableType:
    return Group(
        _services(state),
        Text(),
        _queues(state),
        *_trouble(state),
        Text(),
        _jobs(state["jobs"]),
    )


def _services(state: dict[str, Any]) -> RenderableType:
    table = new_table(["service", "on this machine"])
    for service, alive in state["services"].items():
        table.add_row(cell(service), cell("alive" if alive else "not seen"))
    supervisor = state["supervisor"]
    if supervisor is None:
        hint = "No supervisor runs on this data directory. Start everything: bowerbird up"
        return Group(table, Text(hint, style="yellow"))
    return Group(
        table, Text(f"Supervised by process {supervisor.get('pid')}; API: {supervisor.get('api_url') or 'none'}")
    )


def _queues(state: dict[str, Any]) -> RenderableType:
    if state["queues"] is None:
        return Text(printable(f"The broker is away: {state['broker_error']}"), style="red")
    table = new_table(["queue", "ready>", "waiting>", "dead>"])
    for queue, depth in state["queues"].items():
        dead = Text(str(depth["dead"]), style="red" if depth["dead"] else "")
        table.add_row(cell(queue), cell(depth["ready"]), cell(depth["waiting"]), dead)
    return table


def _trouble(state: dict[str, Any]) -> list[Text]:
    lines = [
        Text(
            printable(f"Paused: {pause.kind} {pause.name}, since {pause.since:%Y-%m-%d %H:%M} UTC, by {pause.actor}"),
            style="yellow",
        )
        for pause in state["paused"]
    ]
    for errand in state["errands"]:
        trouble = f": {errand.error}" if errand.error else ""
        text = f"To {errand.action} at {errand.backend}: {errand.source_id}, job {errand.job_id}{trouble}"
        lines.append(Text(printable(text), style="yellow"))
    if dead := state["dead_letters"]:
        lines.append(Text(f"Dead letters: {dead:,}. See them: bowerbird dead list", style="red"))
    if stuck := state["stuck"]:
        numbers = ", ".join(map(str, stuck[:SHOWN_STUCK])) + (", …" if len(stuck) > SHOWN_STUCK else "")
        lines.append(Text(f"Stuck: job {numbers}. See them: bowerbird jobs --stuck", style="red"))
    return lines


def _jobs(jobs: list[JobView]) -> RenderableType:
    if not jobs:
        return Text("No jobs in progress.")
    table = new_table(["job>", "collection", "task", "state", "progress"])
    for job in jobs:
        task = next((task for task in job.tasks if task.type == job.task), None)
        table.add_row(
            cell(str(job.id)), cell(job.about), cell(job.task), cell(task.status if task else None), _progress(task)
        )
    return table


def _progress(task: TaskView | None) -> Text:
    if task is None or task.progress is None:
        return cell(task.error if task else "")
    progress = task.progress
    total = f" of {progress.total:,}" if progress.total is not None else ""
    return Text(f"{progress.done:,}{total} {progress.of}  {pace(progress)}".rstrip())
