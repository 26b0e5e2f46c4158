"""Structured logs: a fixed sentence plus fields, one line each, on standard error.

INFO tells a job's story in about five lines, WARNING is trouble the suite deals with by itself, ERROR means a person
should look. Fields bound with ``structlog.contextvars`` (job, task, unit, attempt, trace) appear on every line of that
work.
"""

import logging
import re
import sys
import textwrap
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from shared.settings import Settings

MAX_VALUE_CHARACTERS = 2_000
MAX_EXCEPTION_CHARACTERS = 20_000
# user:password@ in any URL, wherever it stands in a text. The scheme's length is bounded, as otherwise a long word
# without any URL would take time in the square of its length.
_CREDENTIALS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,30}+://)(?P<user>[^\s:/@]*):[^\s@/]+@")
_API_KEY = re.compile(r"(bowerbird_[0-9a-f]{12}_)[0-9a-f]+", re.IGNORECASE)
# What a terminal acts on, or shows as another order or as a new line. Line ends and tabs are the renderers' to write.
_CONTROL = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]")


def mask(text: str) -> str:
    """Replace the passwords of all URLs in a text, and the secrets of API keys, by ``***``."""
    return _API_KEY.sub(r"\1***", _CREDENTIALS.sub(r"\g<scheme>\g<user>:***@", text))


def configure_logging(settings: Settings, service: str) -> None:
    """Set up logging for the process. Call once, from an entry point.

    :param service: bound to every line.
    """
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # The console's own tracebacks show the values of variables: slow to draw, and not masked.
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _clean,
                *([renderer, _visible_json] if as_json else [_one_line, renderer]),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    # pika logs each connection's every step, and each failed connection several times, with tracebacks; the broker
    # module says once what happened. So does shared/tracing.py of what the exporter says of each batch. Alembic
    # announces every run.
    for noisy, level in (
        ("pika", logging.CRITICAL),
        ("opentelemetry.exporter", logging.CRITICAL),
        ("alembic", logging.WARNING),
        ("urllib3", logging.WARNING),
    ):
        logging.getLogger(noisy).setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def get_logger() -> Any:
    """Return a logger; its methods take a fixed sentence and fields: ``log.info("unit completed", unit=7)``."""
    return structlog.stdlib.get_logger()


def _clean(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Mask secrets and bound the length of every text: a log line must never carry a password or a whole record."""
    for key, value in event.items():
        if value is None or isinstance(value, int | float):
            continue
        text = value if isinstance(value, str) else str(value)
        bounded = _end(text) if key == "exception" else _beginning(text)
        if isinstance(value, str) or bounded != text:
            event[key] = bounded
    return event


def _beginning(text: str) -> str:
    # Masked first, so that no password is cut in two; of twice as much, as the rest of a megabyte is not worth it.
    shown = _printable(mask(text[: 2 * MAX_VALUE_CHARACTERS]))
    return shown if len(text) <= MAX_VALUE_CHARACTERS else f"{shown[:MAX_VALUE_CHARACTERS]}… ({len(text)} characters)"


def _end(text: str) -> str:
    shown = _printable(mask(text[-2 * MAX_EXCEPTION_CHARACTERS :]))
    return shown if len(text) <= MAX_EXCEPTION_CHARACTERS else f"…{shown[-MAX_EXCEPTION_CHARACTERS:]}"


def _printable(text: str) -> str:
    """Replace halves of surrogate pairs, which no stream takes."""
    return text.encode("utf-8", "replace").decode()


def _visible(text: str) -> str:
    """Write out control characters, the way that JSON has them too."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _one_line(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Keep the start of a line for our lines: no text of a request or a record can pass for one of them on a console.

    Fields need nothing: the console has them as ``repr`` does.
    """
    event["event"] = _visible(str(event["event"])).replace("\n", "\\n")
    if "exception" in event:
        event["exception"] = textwrap.indent(_visible(event["exception"]), "    ")
    return event


def _visible_json(_logger: Any, _method: str, line: Any) -> str:
    """Escape what JSON may have as it is, and a terminal acts on."""
    return _visible(line)
