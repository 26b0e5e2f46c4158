"""Structured logs: a fixed sentence plus fields, one line each, on standard error.

INFO tells a job's story in about five lines, WARNING is trouble the suite deals with by itself, ERROR means a person
should look. Fields bound with ``structlog.contextvars`` (job, task, unit, attempt) appear on every line of that work.
"""

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from shared.settings import Settings

MAX_VALUE_CHARACTERS = 2_000
MAX_EXCEPTION_CHARACTERS = 20_000
# user:password@ in any URL, wherever it stands in a text. The scheme's length is bounded, as otherwise a long word
# without any URL would take time in the square of its length.
_CREDENTIALS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,30}+://)(?P<user>[^\s:/@]*):[^\s@/]+@")


def mask(text: str) -> str:
    """Replace the passwords of all URLs in a text by ``***``."""
    return _CREDENTIALS.sub(r"\g<scheme>\g<user>:***@", text)


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
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    # pika logs each connection's every step, and each failed connection several times, with tracebacks; the broker
    # module says once what happened. Alembic announces every run.
    for noisy, level in (("pika", logging.CRITICAL), ("alembic", logging.WARNING), ("urllib3", logging.WARNING)):
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
