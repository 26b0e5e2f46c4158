"""Every metric of the suite: name, kind, labels, meaning. docs/metrics.md has what ``python -m shared.metrics`` prints.

The model: a metric is declared here, once, and used wherever something is counted:
``UNITS_CLAIMED.inc(task="export")``. Until :func:`enable` is called, which a service does when it has somewhere to show
them, every such call does nothing and prometheus-client is not even imported: commands, child processes and services
without a port pay nothing for them.

Two kinds of things are measured. What a process has *seen* itself since it started is counted in it. The *state* of the
suite is in the database and the broker; the scheduler reads it when it is asked (services/scheduler/state.py), so that
it is told once and not by every worker.

Labels have few values, known beforehand: task types, queues, statuses, routes. Never the number of a job nor the name
of a collection: each value of a label is a series of its own, and is kept for months.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, Literal

from shared.messages import EVENTS_QUEUE, MESSAGES, work_queue
from shared.tasks import TASKS, WORKER_SERVICES

Told = Literal["every service", "scheduler, worker", "worker", "scheduler", "api", "state"]
"""Who tells of a metric; ``state``: the scheduler, from the database and the broker, when it is asked."""

UNIT_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400)
TICK_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

DELIVERY_OUTCOMES = ("delivered", "put off", "given up")
OUTCOMES = ("ok", "put off", "failed", "dropped", "stopped", "handed back")
"""How an attempt ends: done; tried again later; given up; done, but too late: the claim was lost; stopped while it ran,
because the claim was lost or the job cancelled; interrupted by the end of its worker."""


@dataclass(frozen=True)
class Metric:
    """A metric. ``labels`` are names, ``told`` is who tells of it."""

    kind: ClassVar[str] = ""
    name: str
    help: str
    told: Told
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds, of a histogram only."""

    def _series(self, labels: dict[str, Any]) -> Any:
        """Return prometheus-client's object for these labels; None while metrics are off."""
        if _shown is None:
            return None
        metric = _shown.metrics[self.name]
        return metric.labels(**labels) if labels else metric

    def prepare(self, **labels: Any) -> None:
        """Show a series from the start, at nought: the first step of one that appears with it would go unseen."""
        self._series(labels)


class Counter(Metric):
    """Only grows, until its process ends."""

    kind = "counter"

    def inc(self, amount: float = 1, **labels: Any) -> None:
        """Count."""
        if (series := self._series(labels)) is not None:
            series.inc(amount)


class Gauge(Metric):
    """A value that goes up and down."""

    kind = "gauge"

    def set(self, value: float, **labels: Any) -> None:
        """Set the value."""
        if (series := self._series(labels)) is not None:
            series.set(value)

    def ask(self, value: Callable[[], float], **labels: Any) -> None:
        """Have the value asked for whenever somebody looks."""
        if (series := self._series(labels)) is not None:
            series.set_function(value)


class Histogram(Metric):
    """Counts values by size."""

    kind = "histogram"

    def observe(self, value: float, **labels: Any) -> None:
        """Count a value; one below nought, which two clocks can make of a short time, counts as nought."""
        if (series := self._series(labels)) is not None:
            series.observe(max(0.0, value))


# Every service

BUILD = Gauge(
    "bowerbird_build_info", "Always 1: which version of which service runs.", "every service", ("service", "version")
)
DISK_FREE = Gauge(
    "bowerbird_disk_free_bytes",
    "Room left on the file system of a directory: `data` (BOWERBIRD_DATA_DIR) or `exports`.",
    "every service",
    ("directory",),
)
DISK_SIZE = Gauge("bowerbird_disk_size_bytes", "Size of that file system.", "every service", ("directory",))
SPANS_LOST = Counter("bowerbird_spans_lost_total", "Spans that the collector of traces did not take.", "every service")

# Services with a loop

HEARTBEAT_AGE = Gauge("bowerbird_heartbeat_age_seconds", "Time since the service's loop turned.", "scheduler, worker")
BROKER_CONNECTED = Gauge(
    "bowerbird_broker_connected", "1 while the service's consumer has a connection to the broker.", "scheduler, worker"
)
BROKER_RECONNECTIONS = Counter(
    "bowerbird_broker_reconnections_total", "Times that a consumer's connection was made anew.", "scheduler, worker"
)
MESSAGES_REJECTED = Counter(
    "bowerbird_messages_rejected_total",
    "Messages that were not understood: dead letters.",
    "scheduler, worker",
    ("queue",),
)

# Workers

SLOTS = Gauge("bowerbird_slots", "Units that the process can work on at once.", "worker")
SLOTS_BUSY = Gauge("bowerbird_slots_busy", "Units that it works on now.", "worker")
UNITS_CLAIMED = Counter("bowerbird_units_claimed_total", "Units claimed: attempts begun.", "worker", ("task",))
UNIT_WAIT = Histogram(
    "bowerbird_unit_wait_seconds",
    "How long a unit waited for its claim: since its task started, or since its next attempt was due.",
    "worker",
    ("task",),
    UNIT_SECONDS,
)
ATTEMPTS = Counter(
    "bowerbird_attempts_total",
    "Attempts ended, by outcome: `ok`; `put off` (tried again later); `failed` (given up: a dead letter); `dropped` "
    "(done too late: the claim was lost); `stopped` (claim lost, or job cancelled, while it ran); `handed back` (the "
    "worker was stopped).",
    "worker",
    ("task", "outcome"),
)
UNIT_DURATION = Histogram(
    "bowerbird_unit_duration_seconds", "How long attempts took that ended well.", "worker", ("task",), UNIT_SECONDS
)
MESSAGES_UNCLAIMED = Counter(
    "bowerbird_messages_unclaimed_total",
    "Messages whose unit could not be claimed: `held` by a living worker, or `over` (or paused, or unknown).",
    "worker",
    ("queue", "reason"),
)
FILES_PUBLISHED = Counter("bowerbird_files_published_total", "Files published.", "worker", ("format",))
BYTES_PUBLISHED = Counter("bowerbird_published_bytes_total", "Bytes of the files published.", "worker", ("format",))
RECORDS_PUBLISHED = Counter(
    "bowerbird_records_published_total",
    "Records in the files published. A record is in the file of its year and in the full one.",
    "worker",
    ("format",),
)

# The scheduler

TICK_DURATION = Histogram("bowerbird_tick_duration_seconds", "How long a tick took.", "scheduler", (), TICK_SECONDS)
EVENTS = Counter("bowerbird_events_total", "Events handled.", "scheduler", ("type",))
JOBS_PLANNED = Counter(
    "bowerbird_jobs_planned_total",
    "Jobs planned because a collection was due. Not those that people ask for.",
    "scheduler",
)
JOBS_COMPLETED = Counter(
    "bowerbird_jobs_completed_total", "Jobs that ended by themselves; cancelled ones do not.", "scheduler", ("result",)
)
JOB_DURATION = Histogram(
    "bowerbird_job_duration_seconds",
    "Time from the start of a job, or its restart, to its end.",
    "scheduler",
    ("result",),
    UNIT_SECONDS,
)
TASKS_COMPLETED = Counter("bowerbird_tasks_completed_total", "Tasks ended.", "scheduler", ("task", "result"))
TASK_DURATION = Histogram(
    "bowerbird_task_duration_seconds", "Time from the start of a task to its end.", "scheduler", ("task",), UNIT_SECONDS
)
UNITS_PUBLISHED = Counter(
    "bowerbird_units_published_total",
    "Messages of units that the broker confirmed, repeated ones too.",
    "scheduler",
    ("task",),
)
UNITS_TAKEN_BACK = Counter(
    "bowerbird_units_taken_back_total", "Units taken back because their worker fell silent for a lease.", "scheduler"
)
DELIVERIES = Counter(
    "bowerbird_deliveries_total",
    "Attempts to tell a webhook or a callback, by how they end: `delivered`, `put off`, `given up`. The last also "
    "counts what was pending for a webhook that is turned off because it has failed for too long.",
    "scheduler",
    ("receiver", "outcome"),
)

# The API

API_REQUESTS = Counter("bowerbird_api_requests_total", "Requests answered.", "api", ("method", "route", "status"))
API_DURATION = Histogram(
    "bowerbird_api_request_duration_seconds",
    "Time from a request to the end of its answer; downloads and streams of events are not counted, as they take as "
    "long as their client.",
    "api",
    ("route",),
    REQUEST_SECONDS,
)
API_DOWNLOADED = Counter("bowerbird_api_downloaded_bytes_total", "Bytes of files sent to clients.", "api")
EVENT_STREAMS = Gauge("bowerbird_event_streams", "Streams of events that are open.", "api")
EVENT_STREAMS_CUT = Counter(
    "bowerbird_event_streams_cut_total", "Streams ended because their client took too little, too slowly.", "api"
)
API_REFUSED = Counter(
    "bowerbird_api_requests_refused_total",
    "Requests refused because there were too many: `reads`, `actions`, `wrong-keys`.",
    "api",
    ("limit",),
)

# The state of the suite

STATE_UP = Gauge(
    "bowerbird_state_up",
    "1 if the state could be read from the `database` and the `broker`; if not, its metrics are missing.",
    "state",
    ("source",),
)
QUEUE_MESSAGES = Gauge(
    "bowerbird_queue_messages",
    "Messages in a queue: `ready` to be taken, `waiting` for a next attempt, `dead` copies of dead letters.",
    "state",
    ("queue", "state"),
)
UNITS = Gauge("bowerbird_units", "Units that are not completed.", "state", ("task", "status"))
UNIT_WAIT_OLDEST = Gauge(
    "bowerbird_unit_wait_oldest_seconds",
    "How long the unit waits that waits longest for a worker, paused ones and those put off aside; 0: none waits.",
    "state",
    ("task",),
)
LEASE_OLDEST = Gauge(
    "bowerbird_lease_age_oldest_seconds", "Time since the lease was renewed that was renewed longest ago.", "state"
)
LEASES_EXPIRED = Gauge(
    "bowerbird_leases_expired", "Units whose lease is over, and that are not taken back yet.", "state"
)
DEAD_LETTERS = Gauge(
    "bowerbird_dead_letters", "Dead letters neither replayed nor discarded.", "state", ("queue", "kind")
)
JOBS = Gauge("bowerbird_jobs", "Jobs that are not completed.", "state", ("status",))
TASKS_OPEN = Gauge(
    "bowerbird_tasks",
    "Tasks that are not completed: `PLANNED`, `WAITING` (started, and no unit claimed yet), `RUNNING`.",
    "state",
    ("task", "status"),
)
PAUSES = Gauge("bowerbird_pauses", "What is paused: collections, queues.", "state", ("kind",))
COLLECTIONS_OVERDUE = Gauge(
    "bowerbird_collections_overdue",
    "Collections that are collected by the calendar, neither frozen nor paused, whose last success is longer ago than "
    "their retrieval frequency.",
    "state",
)
OVERDUE_OLDEST = Gauge(
    "bowerbird_collection_overdue_oldest_seconds", "How long the collection is overdue that is so longest.", "state"
)
LAST_SUCCESS = Gauge(
    "bowerbird_last_success_timestamp_seconds", "When the last job succeeded whose files are published.", "state"
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in list(globals().values()) if isinstance(metric, Metric)}


# Showing them


@dataclass(frozen=True)
class Sample:
    """A value of a metric of the state; ``labels`` in the metric's order."""

    metric: Gauge
    value: float
    labels: tuple[str, ...] = ()


class _Shown:
    """prometheus-client's registry and the metrics in it."""

    def __init__(self) -> None:
        import prometheus_client  # noqa: PLC0415  only where metrics are shown
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.client: Any = prometheus_client
        self.choose_encoder = choose_encoder
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.GCCollector(registry=self.registry)
        self.metrics = {metric.name: self._make(metric) for metric in METRICS.values() if metric.told != "state"}

    def _make(self, metric: Metric) -> Any:
        # A metric without labels shows at once, wherever it is registered: this process may never set it.
        arguments: dict[str, Any] = {"buckets": metric.buckets} if metric.buckets else {}
        return getattr(self.client, metric.kind.capitalize())(
            metric.name, metric.help, metric.labels, registry=None, **arguments
        )

    def register(self, told: Iterable[Told]) -> None:
        """Show the metrics that are told by these."""
        for metric in METRICS.values():
            if metric.told in told:
                self.registry.register(self.metrics[metric.name])


_shown: _Shown | None = None


def enable(service: str) -> None:
    """Begin to count, in a process that is this service. Call once, before anything is counted."""
    global _shown  # noqa: PLW0603  one process is one service, and counts for itself
    told: dict[str, tuple[Told, ...]] = {
        "scheduler": ("every service", "scheduler, worker", "scheduler"),
        "api": ("every service", "api"),
    }
    _shown = _Shown()
    _shown.register(told.get(service, ("every service", "scheduler, worker", "worker")))
    BUILD.set(1, service=service, version=version("bowerbird"))
    _prepare(service)


def _prepare(service: str) -> None:
    """Show the series whose first step matters from the start."""
    if service == "scheduler":
        _prepare_scheduler()
    elif service in WORKER_SERVICES:
        _prepare_worker(service)


def _prepare_scheduler() -> None:
    MESSAGES_REJECTED.prepare(queue=EVENTS_QUEUE)
    for result in ("OK", "FAILED"):
        JOBS_COMPLETED.prepare(result=result)
        JOB_DURATION.prepare(result=result)
        for task in TASKS:
            TASKS_COMPLETED.prepare(task=task, result=result)
    for task in TASKS:
        UNITS_PUBLISHED.prepare(task=task)
    for receiver in ("webhook", "callback"):
        for outcome in DELIVERY_OUTCOMES:
            DELIVERIES.prepare(receiver=receiver, outcome=outcome)
    for event in MESSAGES.keys() - {"RunUnit"}:
        EVENTS.prepare(type=event)


def _prepare_worker(service: str) -> None:
    MESSAGES_REJECTED.prepare(queue=work_queue(service))
    for reason in ("held", "over"):
        MESSAGES_UNCLAIMED.prepare(queue=work_queue(service), reason=reason)
    for task in (name for name, spec in TASKS.items() if spec.service == service):
        for metric in (UNITS_CLAIMED, UNIT_WAIT, UNIT_DURATION):
            metric.prepare(task=task)
        for outcome in OUTCOMES:
            ATTEMPTS.prepare(task=task, outcome=outcome)


def is_enabled() -> bool:
    """Return whether this process counts."""
    return _shown is not None


def add_state(read: Callable[[], Iterable[Sample]]) -> None:
    """Have the state of the suite read whenever somebody looks. ``read`` is called from any thread, at any time."""
    if _shown is not None:
        _shown.registry.register(_State(_shown.client, read))


class _State:
    """A collector, in prometheus-client's terms."""

    def __init__(self, client: Any, read: Callable[[], Iterable[Sample]]) -> None:
        self._family: Any = client.metrics_core.GaugeMetricFamily
        self._read = read

    def collect(self) -> Iterable[Any]:
        families: dict[str, Any] = {}
        for sample in self._read():
            metric = sample.metric
            if metric.name not in families:
                families[metric.name] = self._family(metric.name, metric.help, labels=metric.labels)
            families[metric.name].add_metric(sample.labels, sample.value)
        return families.values()


def exposition(accept: str) -> tuple[bytes, str]:
    """Return all metrics of this process, and the media type they are in.

    :param accept: the request's ``Accept`` header.
    """
    assert _shown is not None
    encode, media_type = _shown.choose_encoder(accept)
    return encode(_shown.registry), media_type


# Describing them

_TELLERS: Sequence[tuple[Told, str, str]] = (
    ("every service", "Every service", ""),
    ("scheduler, worker", "Scheduler and workers", ""),
    ("worker", "Workers", ""),
    ("scheduler", "Scheduler", ""),
    ("api", "API", ""),
    (
        "state",
        "The state of the suite",
        (
            "Told by the scheduler alone, which reads it from the database and the broker when it is asked, at most "
            "once in ten seconds. Several schedulers tell the same: take `max` of them, not `sum`.\n"
        ),
    ),
)


def page() -> str:
    """Return the tables of docs/metrics.md."""
    lines: list[str] = []
    for told, title, words in _TELLERS:
        lines += [f"### {title}", "", *([words] if words else []), "| metric | kind | labels | meaning |"]
        lines += ["| --- | --- | --- | --- |"]
        for metric in METRICS.values():
            if metric.told == told:
                labels = ", ".join(f"`{label}`" for label in metric.labels)
                lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201  what it is run for
