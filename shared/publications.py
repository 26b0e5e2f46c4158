"""Adding collections: what may be called what, and what may be read; the same for every way to add one."""

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.db.models import Collection, RetrievalFrequency
from shared.errors import BowerbirdError, ConfigurationError
from shared.tasks import spec_of
from shared.views import SOURCE_ID

MAX_NAME_CHARACTERS = 100
_SUFFIXES = re.compile(r"(\.(json|jsonl|ndjson|csv|gz|bz2|xz|zip|tar|tgz))+$", re.IGNORECASE)


class InvalidCollectionError(BowerbirdError):
    """What a collection should be called, read or do is not possible; the text says what is."""


class CollectionExistsError(BowerbirdError):
    """The name is taken."""


def add_collection(
    session: Session,
    name: str,
    source: str,
    *,
    title: str = "",
    country: str = "",
    frequency: str = "",
    public: bool = True,
    options: Mapping[str, Any] | None = None,
    plan: Sequence[str] | None = None,
) -> Collection:
    """Insert a collection, in the caller's transaction.

    :param source: a path or a URL, as :func:`resolve_source` returns it.
    :param title: shown to people; empty: the name.
    :param frequency: a :class:`~shared.db.models.RetrievalFrequency`; empty: collected on request only.
    :param options: how plain records are read, such as ``id_field``; empty values are left out.
    :param plan: its own tasks, in order; None: the setting.
    :raises InvalidCollectionError: a value breaks its rule.
    :raises CollectionExistsError: the name is taken (also by a process that inserts it at the same moment).
    """
    check_name(name)
    values = {
        "source_id": name,
        "source": source,
        "title": title or name,
        "country": country,
        "retrieval_frequency": check_frequency(frequency),
        "public": public,
        "options": {key: value for key, value in (options or {}).items() if value},
        "tasks_plan": check_plan(plan) if plan else None,
    }
    statement = insert(Collection).values(values).on_conflict_do_nothing(index_elements=[Collection.source_id])
    collection: Collection | None = session.scalar(statement.returning(Collection))
    if collection is None:
        taken_by = session.scalar(select(Collection.source).where(Collection.source_id == name))
        raise CollectionExistsError(
            f"There is a collection {name!r} already; it reads {taken_by}. Choose another name."
        )
    return collection


def check_name(name: str) -> str:
    """Return the name. Raise :class:`InvalidCollectionError` saying the rule if it breaks it."""
    if SOURCE_ID.fullmatch(name) is None:
        hint = f" For example: {suggestion}." if (suggestion := slug(name)) else ""
        raise InvalidCollectionError(
            f"{name!r} cannot be a collection's name: it takes lower-case letters a to z, digits, '-' and '_', begins "
            f"with a letter or digit, and has at most {MAX_NAME_CHARACTERS} characters.{hint}"
        )
    return name


def check_frequency(frequency: str) -> RetrievalFrequency:
    """Return the frequency, in whatever case it was written. Raise :class:`InvalidCollectionError` if there is none."""
    try:
        return RetrievalFrequency(frequency.upper().replace("-", "_"))
    except ValueError:
        known = ", ".join(value.value for value in RetrievalFrequency if value)
        raise InvalidCollectionError(f"{frequency!r} is no frequency. Known: {known}.") from None


def check_plan(plan: Sequence[str]) -> list[str]:
    """Return the plan. Raise :class:`InvalidCollectionError` for an unknown or repeated task type."""
    try:
        for task_type in plan:
            spec_of(task_type)
    except ConfigurationError as error:
        raise InvalidCollectionError(str(error)) from error
    if len(set(plan)) < len(plan):
        raise InvalidCollectionError(f"A plan has each task once: {', '.join(plan)} repeats one.")
    return list(plan)


def resolve_source(source: str) -> str:
    """Return a URL unchanged, a path absolute. Raise :class:`InvalidCollectionError` for what cannot be read at all.

    A path must exist and be readable now; whether a URL answers is found out when it is collected.
    """
    scheme, separator, _ = source.partition("://")
    if separator:
        if scheme.lower() not in ("http", "https") or not urlsplit(source).hostname:
            raise InvalidCollectionError(f"{source} is no address to collect from: give a path, or an http(s):// URL.")
        return source
    path = Path(source).expanduser().absolute()
    if not path.exists():
        raise InvalidCollectionError(f"There is no file or directory {path}.")
    if not os.access(path, os.R_OK):
        raise InvalidCollectionError(f"{path} may not be read by this user.")
    return str(path)


def suggest_name(source: str) -> str:
    """Return a name for a source: of its file, directory or host; ``collection`` if nothing of it can be used."""
    if "://" in source:
        parts = urlsplit(source)
        last = parts.path.rstrip("/").rpartition("/")[2] or parts.hostname or ""
    else:
        last = Path(source).name
    return slug(_SUFFIXES.sub("", last)) or "collection"


def slug(text: str) -> str:
    """Return the text as a name: ``"Compras Públicas 2024"`` → ``compras-publicas-2024``; empty if nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:MAX_NAME_CHARACTERS].rstrip("-_")
