"""The task types: which service works on each, who manages it, what handles it. Adding a task type is one line here.

``manager`` is a class of the scheduler (see services/scheduler/managers), ``handler`` a function of the service that
does the work. Both are dotted strings, loaded by the process that needs them, so that services never import each
other. ``tests/unit/test_tasks.py`` checks that every one resolves.

A type may have other *backends*: other systems that do the task, with a manager and a handler of ours that talk to
them. Which one does it is chosen in the plan (``collect:scrapyd``) or by the collection, and fixed on the task's row
when its job is planned. All backends of a type have the same service, so a type has one queue.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.errors import ConfigurationError

NATIVE = "native"
OWN_TABLES, KINGFISHER_PROCESS = "Bowerbird's own tables", "Kingfisher Process"


@dataclass(frozen=True)
class TaskSpec:
    """One task type: the consuming service (its queue is named after it), ``module:name`` of manager and handler.

    ``reads_store``: the task reads collected or compiled records, which are deleted when its job is archived.

    ``reads``: the task types whose output it reads; None: whatever the tasks before it made. It says what must be done
    again with a task, and what need not (``bowerbird task restart``). Who says nothing is taken to depend on all.
    """

    service: str
    manager: str
    handler: str
    reads_store: bool = False
    reads: tuple[str, ...] | None = None
    store: str = ""
    """Where the records are that the task reads or writes, in words; empty: it does not care."""
    needs: tuple[str, ...] = ()
    """Task types that must come before it."""
    errand: str = ""
    """``module:name`` of the function that tells the peer to stop or to delete (shared/errands.py); empty: no peer."""
    stops: bool = False
    """Whether the peer must be told to stop when the task is cancelled or restarted."""
    of_collections: bool = True
    """Whether it can be in the plan of a collection."""
    name: str = NATIVE
    """Name of the backend."""
    backends: Mapping[str, "TaskSpec"] = field(default_factory=dict)
    """The other backends, by name."""


TASKS: dict[str, TaskSpec] = {
    "collect": TaskSpec(
        "collector",
        "services.scheduler.managers.collect:Collect",
        "services.collector.handlers:collect",
        reads=(),
        store=OWN_TABLES,
        backends={
            "scrapyd": TaskSpec(
                "collector",
                "services.scheduler.managers.scrapyd:Scrapyd",
                "services.collector.scrapyd:collect",
                store=KINGFISHER_PROCESS,
                errand="services.collector.scrapyd:run_errand",
                stops=True,
                name="scrapyd",
            )
        },
    ),
    "process": TaskSpec(
        "processor",
        "services.scheduler.managers.process:Process",
        "services.processor.handlers:process",
        reads_store=True,
        reads=("collect",),
        store=OWN_TABLES,
        backends={
            "kingfisher-process": TaskSpec(
                "processor",
                "services.scheduler.managers.kingfisher:KingfisherProcess",
                "services.processor.kingfisher:process",
                reads_store=True,
                store=KINGFISHER_PROCESS,
                needs=("collect",),
                errand="services.processor.kingfisher:run_errand",
                name="kingfisher-process",
            )
        },
    ),
    "check": TaskSpec(
        "processor",
        "services.scheduler.managers.check:Check",
        "services.processor.handlers:check",
        reads_store=True,
        reads=("process",),
    ),
    "export": TaskSpec(
        "exporter",
        "services.scheduler.managers.export:Export",
        "services.exporter.handlers:export",
        reads_store=True,
        reads=("process",),
        store=OWN_TABLES,
        backends={
            "kingfisher-process": TaskSpec(
                "exporter",
                "services.scheduler.managers.kingfisher:KingfisherExport",
                "services.exporter.kingfisher:export",
                reads_store=True,
                store=KINGFISHER_PROCESS,
                needs=("process",),
                name="kingfisher-process",
            )
        },
    ),
    "coverage": TaskSpec(
        "processor",
        "services.scheduler.managers.coverage:Coverage",
        "services.processor.handlers:coverage",
        reads=("export",),
    ),
    "flatten": TaskSpec(
        "flattener",
        "services.scheduler.managers.flatten:Flatten",
        "services.flattener.handlers:flatten",
        reads=("export",),
    ),
    "pelican": TaskSpec(
        "processor",
        "services.scheduler.managers.pelican:Pelican",
        "services.processor.pelican:check",
        reads_store=True,
        reads=("process",),
        store=KINGFISHER_PROCESS,
        needs=("process",),
        errand="services.processor.pelican:run_errand",
        name="pelican",
    ),
    "echo": TaskSpec(
        "processor",
        "services.scheduler.managers.echo:Echo",
        "services.processor.echo:echo",
        reads=(),
        of_collections=False,
    ),
}

WORKER_SERVICES: tuple[str, ...] = tuple(dict.fromkeys(spec.service for spec in TASKS.values()))


def spec_of(task_type: str, backend: str = "") -> TaskSpec:
    """Return the registration of a task type, for a backend. Raise :class:`ConfigurationError` for an unknown one.

    :param backend: empty: the type's own.
    """
    try:
        spec = TASKS[task_type]
    except KeyError:
        raise ConfigurationError(f"No such task type: {task_type!r}. Known: {', '.join(TASKS)}.") from None
    if backend in ("", spec.name):
        return spec
    try:
        return spec.backends[backend]
    except KeyError:
        known = ", ".join([spec.name, *spec.backends])
        raise ConfigurationError(f"{task_type} has no backend {backend!r}. Known: {known}.") from None


def specs_of(service: str) -> dict[str, TaskSpec]:
    """Return what a service does, by the names that :func:`entry_of` gives."""
    return {
        entry_of(task_type, each.name): each
        for task_type, spec in TASKS.items()
        if spec.service == service
        for each in (spec, *spec.backends.values())
    }


def entry_of(task_type: str, backend: str) -> str:
    """Return what a task of a backend is called: ``collect:scrapyd``, or only ``collect`` for the type's own."""
    return task_type if backend in ("", spec_of(task_type).name) else f"{task_type}:{backend}"


def split_entry(entry: str) -> tuple[str, str]:
    """Return task type and backend of an entry of a plan: ``collect:scrapyd``, or ``collect``, which leaves it open."""
    task_type, _, backend = entry.partition(":")
    return task_type.strip(), backend.strip()


def resolve_plan(
    plan: Sequence[str], *, own_plan: Sequence[str] | None = None, backends: Mapping[str, str] | None = None
) -> list[tuple[str, TaskSpec]]:
    """Return the tasks of a job, in order, each with the backend that does it.

    :param plan: the setting's entries, each a type or ``type:backend``.
    :param own_plan: the collection's own task types, which go before those of the setting.
    :param backends: the collection's own choice, type → backend, which goes before the setting's.
    :raises ConfigurationError: an unknown type or backend, or backends that do not go together.
    """
    chosen = dict(map(split_entry, plan))
    types = list(own_plan) if own_plan else list(chosen)
    chosen |= dict(backends or {})
    tasks = [(task_type, spec_of(task_type, chosen.get(task_type, ""))) for task_type in types]
    check_together(tasks)
    return tasks


def check_together(tasks: Sequence[tuple[str, TaskSpec]]) -> None:
    """Raise :class:`ConfigurationError` if a task would not find the records that those before it leave."""
    before: list[str] = []
    first: tuple[str, TaskSpec] | None = None
    for task_type, spec in tasks:
        if not spec.of_collections:
            raise ConfigurationError(f"{task_type} is no task of a collection; leave it out of the plan.")
        missing = [needed for needed in spec.needs if needed not in before]
        if missing:
            raise ConfigurationError(
                f"{task_type}:{spec.name} goes on with what {missing[0]} left in {spec.store}, and the plan has no "
                f"{missing[0]} before it. Add it, or choose another backend for {task_type}."
            )
        if spec.store and first is not None and spec.store != first[1].store:
            raise ConfigurationError(
                f"{first[0]}:{first[1].name} keeps its records in {first[1].store}, and {task_type}:{spec.name} reads "
                f"{spec.store}. Choose backends that go together: collect:scrapyd, process:kingfisher-process and "
                "export:kingfisher-process; or native for all three."
            )
        if spec.store and first is None:
            first = task_type, spec
        before.append(task_type)


def readers_of(task_type: str, later: Sequence[str]) -> list[str]:
    """Return which of the tasks after it read what a task makes, directly or through one another, in their order."""
    made_anew, readers = {task_type}, []
    for candidate in later:
        reads = spec_of(candidate).reads
        if reads is None or not made_anew.isdisjoint(reads):
            made_anew.add(candidate)
            readers.append(candidate)
    return readers


def load(dotted: str) -> Any:
    """Import ``module:name``."""
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)
