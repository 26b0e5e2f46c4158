"""Traces: what belongs to a job has its trace id, in log lines, in messages, and in spans if somebody collects them.

The model: a trace is a job's whole life, whatever is retried, restarted or replayed in it. Its spans form one tree:

    job (planned → ended)                       scheduler, or whoever cancels it
      task (started → ended)                    scheduler
        publish (a unit's message → confirmed)  whoever publishes it
          attempt (claim → settled)             worker
            handle, commit                      the worker's child
      job (restarted → ended)                   once more for each restart or replay
        task …

A span is named by a W3C ``traceparent`` (https://www.w3.org/TR/trace-context/). The row of a job has that of its newest
``job`` span; the first one's id is the beginning of the trace id, so that a restart knows its parent. A task's id is
computed from its job's, so that whoever starts, publishes and ends it agree without a column. Messages carry that of
the span that sent them.

Exporting: the standard's variables decide (``OTEL_EXPORTER_OTLP_ENDPOINT`` and its like), because they are what
operators and platforms set already. Without an endpoint nothing of the library is imported, and a span is an object
that is thrown away. With one, ended spans go to a queue in memory and from there, by a thread, to the collector: if
that is away, they are lost and counted, and no work waits. Ids and times are given to the library, as most spans begin
in one process and end in another.
"""

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared import metrics
from shared.logging import get_logger, mask
from shared.settings import trace_settings

FLUSH_SECONDS = 3.0
"""How long a process that ends waits for the collector to take its last spans."""
MAX_VALUE_CHARACTERS = 1_000
PROTOCOL = "http/protobuf"

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")

log = get_logger()


# Names of spans


def new_trace() -> str:
    """Return the name of a new job's span."""
    trace = os.urandom(16).hex()
    return _name(trace, trace[:16])


def continued(job: str) -> str:
    """Return the name of a span for another run of a job, in the same trace; of a new one if there is none."""
    return child_of(job) or new_trace()


def child_of(parent: str) -> str:
    """Return a name for a span under another; empty if there is none."""
    trace = trace_id(parent)
    return _name(trace, os.urandom(8).hex()) if trace else ""


def root_of(job: str) -> str:
    """Return the name of the first span of a job's trace."""
    trace = trace_id(job)
    return _name(trace, trace[:16]) if trace else ""


def task_of(job: str, task_id: int) -> str:
    """Return the name of a task's span, in the newest run of its job."""
    trace = trace_id(job)
    return _name(trace, hashlib.sha256(f"{job} {task_id}".encode()).hexdigest()[:16]) if trace else ""


def sender_of(message: str, otherwise: str) -> str:
    """Return the span that sent a message, if that is of the same trace as ``otherwise``, which is returned if not."""
    trace = trace_id(message)
    return message if trace and trace == trace_id(otherwise) else otherwise


def trace_id(name: str) -> str:
    """Return the trace id in a span's name, empty if it is none: messages may say anything."""
    match = _TRACEPARENT.fullmatch(name)
    return match[1] if match else ""


def shown(name: str) -> dict[str, str]:
    """Return the field ``trace`` of a log line; nothing if there is none."""
    trace = trace_id(name)
    return {"trace": trace} if trace else {}


def _name(trace: str, span: str) -> str:
    return f"00-{trace}-{span}-01"


# Spans


@dataclass
class Span:
    """Something that takes time. Times are nanoseconds since the epoch."""

    name: str
    trace: str
    """Its own ``traceparent``."""
    parent: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    start: int = field(default_factory=time.time_ns)
    end: int = 0
    error: str = ""

    def ended(self, *, error: str = "", **attributes: Any) -> "Span":
        """End it now; return it."""
        self.end, self.error = time.time_ns(), error
        self.attributes |= attributes
        return self

    def finish(self, *, error: str = "", **attributes: Any) -> None:
        """End it now, and export it."""
        export(self.ended(error=error, **attributes))


def begin(name: str, parent: str, **attributes: Any) -> Span:
    """Begin a span under another."""
    return Span(name, child_of(parent), parent, attributes)


def export(span: Span) -> None:
    """Have an ended span sent, if somebody collects them. Never waits, never fails."""
    if _exporter is not None and span.trace:
        _exporter.take(span)


def job_span(name: str, *, start: datetime) -> Span:
    """Return the span of a job's run. Of the first it is the root; others are its children."""
    root = root_of(name)
    return Span("job", name, "" if name == root else root, start=_nanoseconds(start))


def task_span(job: str, task_id: int, *, start: datetime | None) -> Span:
    """Return the span of a task whose job's span has this name; ``start``: None, if it never did."""
    span = Span("task", task_of(job, task_id), job)
    span.start = span.start if start is None else _nanoseconds(start)
    return span


def _nanoseconds(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6) * 1_000


# Exporting


@contextlib.contextmanager
def exporting(service: str) -> Iterator[None]:
    """Export spans while the block runs, if the standard's variables say where to."""
    global _exporter  # noqa: PLW0603  one process is one service
    if not _is_wanted(trace_settings()):
        yield
        return
    _exporter = exporter = _Exporter(service)
    try:
        yield
    finally:
        _exporter = None
        exporter.close()


def _is_wanted(given: dict[str, str]) -> bool:
    """Return whether to export. What we cannot do is said and is no reason not to work: platforms set these for all."""
    endpoint = given.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or given.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if endpoint is None or given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    kind = given.get("OTEL_TRACES_EXPORTER", "otlp")
    protocol = given.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or given.get("OTEL_EXPORTER_OTLP_PROTOCOL", PROTOCOL)
    if kind == "none":
        return False
    if kind != "otlp" or protocol != PROTOCOL:
        log.warning("traces are not exported: only OTLP over HTTP is spoken", exporter=kind, protocol=protocol)
        return False
    if not endpoint.startswith(("http://", "https://")):
        log.warning("traces are not exported: the endpoint is no http(s) URL", endpoint=endpoint)
        return False
    return True


class _Exporter:
    """Gives spans to the library, which is imported with the first: a command that makes none does not wait for it."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._library: _Library | None = None
        self._broken = False

    def take(self, span: Span) -> None:
        """Have a span sent, soon."""
        with self._lock:
            if self._broken:
                return
            try:
                self._library = self._library or _Library(self._service)
                self._library.take(span)
            except Exception:  # whatever is wrong with traces, the work goes on
                self._broken = True
                log.exception("traces are not exported any more")

    def close(self) -> None:
        """Send what is left, for some seconds at most."""
        if self._library is not None:
            closing = threading.Thread(target=self._library.close, daemon=True)
            closing.start()
            closing.join(FLUSH_SECONDS)


class _Library:
    """OpenTelemetry's SDK, and its exporter of OTLP over HTTP."""

    def __init__(self, service: str) -> None:
        from opentelemetry import trace  # noqa: PLC0415  only where spans are exported
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult  # noqa: PLC0415
        from opentelemetry.sdk.trace.id_generator import IdGenerator  # noqa: PLC0415

        wanted = threading.local()

        class Given(IdGenerator):
            """Gives a span the ids that it has already."""

            def generate_span_id(self) -> int:
                return int(wanted.span)

            def generate_trace_id(self) -> int:
                return int(wanted.trace)

        class Watched(SpanExporter):
            """Counts what is lost, and says once that it is: the library says it for every batch."""

            def __init__(self) -> None:
                self._inner = OTLPSpanExporter()
                self._failing = False

            def export(self, spans: Any) -> SpanExportResult:
                result = self._inner.export(spans)
                failed = result is not SpanExportResult.SUCCESS
                if failed:
                    metrics.SPANS_LOST.inc(len(spans))
                if failed and not self._failing:
                    log.warning("spans are lost: the collector of traces does not take them", spans=len(spans))
                if self._failing and not failed:
                    log.info("the collector of traces takes spans again")
                self._failing = failed
                return result

            def shutdown(self) -> None:
                self._inner.shutdown()  # type: ignore[no-untyped-call]

        self._api, self._wanted = trace, wanted
        self._processor = BatchSpanProcessor(Watched())
        names = Resource.create({"service.name": f"bowerbird-{service}", "service.namespace": "bowerbird"})
        resource = names.merge(OTELResourceDetector().detect())  # what OTEL_SERVICE_NAME and its like say goes before
        provider = TracerProvider(id_generator=Given(), resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("bowerbird")

    def take(self, span: Span) -> None:
        api = self._api
        self._wanted.trace, self._wanted.span = _ids(span.trace)
        context = api.set_span_in_context(api.INVALID_SPAN)
        if span.parent:
            trace, parent = _ids(span.parent)
            remote = api.SpanContext(trace, parent, is_remote=True, trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED))
            context = api.set_span_in_context(api.NonRecordingSpan(remote))
        kinds = {"publish": api.SpanKind.PRODUCER, "attempt": api.SpanKind.CONSUMER}
        exported = self._tracer.start_span(
            span.name,
            context=context,
            kind=kinds.get(span.name, api.SpanKind.INTERNAL),
            attributes={name: _value(value) for name, value in span.attributes.items()},
            start_time=span.start,
        )
        if span.error:
            exported.set_status(api.Status(api.StatusCode.ERROR, _value(span.error)))
        exported.end(max(span.start, span.end))

    def close(self) -> None:
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _ids(name: str) -> tuple[int, int]:
    _, trace, span, _ = name.split("-")
    return int(trace, 16), int(span, 16)


def _value(value: Any) -> Any:
    """Return an attribute as it may be shown: no passwords, no whole records."""
    return mask(value)[:MAX_VALUE_CHARACTERS] if isinstance(value, str) else value


_exporter: _Exporter | None = None
