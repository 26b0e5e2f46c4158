"""The task types: which service works on each, who manages it, what handles it. Adding a task type is one line here.

``manager`` is a class of the scheduler (see services/scheduler/managers), ``handler`` a function of the service that
does the work. Both are dotted strings, loaded by the process that needs them, so that services never import each
other. ``tests/unit/test_tasks.py`` checks that every one resolves.
"""

import importlib
from dataclasses import dataclass
from typing import Any

from shared.errors import ConfigurationError


@dataclass(frozen=True)
class TaskSpec:
    """One task type: the consuming service (its queue is named after it), ``module:name`` of manager and handler.

    ``reads_store``: the task reads collected or compiled records, which are deleted when its job is archived.
    """

    service: str
    manager: str
    handler: str
    reads_store: bool = False


TASKS: dict[str, TaskSpec] = {
    "collect": TaskSpec(
        "collector", "services.scheduler.managers.collect:Collect", "services.collector.handlers:collect"
    ),
    "process": TaskSpec(
        "processor",
        "services.scheduler.managers.process:Process",
        "services.processor.handlers:process",
        reads_store=True,
    ),
    "export": TaskSpec(
        "exporter",
        "services.scheduler.managers.export:Export",
        "services.exporter.handlers:export",
        reads_store=True,
    ),
    "coverage": TaskSpec(
        "processor", "services.scheduler.managers.coverage:Coverage", "services.processor.handlers:coverage"
    ),
    "flatten": TaskSpec(
        "flattener", "services.scheduler.managers.flatten:Flatten", "services.flattener.handlers:flatten"
    ),
}

WORKER_SERVICES: tuple[str, ...] = tuple(dict.fromkeys(spec.service for spec in TASKS.values()))


def spec_of(task_type: str) -> TaskSpec:
    """Return the registration of a task type. Raise :class:`ConfigurationError` for an unknown one."""
    try:
        return TASKS[task_type]
    except KeyError:
        raise ConfigurationError(f"No such task type: {task_type!r}. Known: {', '.join(TASKS)}.") from None


def load(dotted: str) -> Any:
    """Import ``module:name``."""
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)
