"""Which collections? Conditions that people write, the same for listing and for changing many at once.

A condition is a name, or ``name=value``; ``not-`` before it turns it round. Several must all be met:
``["public", "not-licence", "frequency=monthly"]``.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, not_, or_, select

from shared.db.models import (
    TRANSLATED,
    Collection,
    Job,
    JobStatus,
    Licence,
    Region,
    RetrievalFrequency,
    SettingsBundle,
    UpdateFrequency,
)
from shared.errors import BowerbirdError
from shared.pauses import collection_is_paused
from shared.search import mentions

DESCRIBED_BY = ("description", "country", "region", "language", "source_url", "retrieval_frequency")
"""What a publication that is described completely has, beside a known update frequency."""
_DAYS = re.compile(r"([0-9]{1,5})d")


class UnknownConditionError(BowerbirdError):
    """A condition that does not exist, or a value that it cannot have; the text says which do."""


@dataclass(frozen=True)
class Condition:
    """What it means, for people, and how it is asked: of a value where it takes one, else of an empty text."""

    meaning: str
    ask: Callable[[str], ColumnElement[bool]]
    value: str = ""
    """What stands for its value in help texts; empty: it takes none. In brackets: it may be left out."""


def _one_of(column: Any, values: Any) -> Callable[[str], ColumnElement[bool]]:
    def ask(value: str) -> ColumnElement[bool]:
        wanted = "" if value.lower() == "none" else value.upper().replace("-", "_")
        if wanted not in list(values):
            raise UnknownConditionError(f"{value!r} is none of: {', '.join(each or 'none' for each in values)}.")
        return column == wanted  # type: ignore[no-any-return]

    return ask


def _name(pattern: str) -> ColumnElement[bool]:
    escaped = re.sub(r"([\\%_])", r"\\\1", pattern).replace("*", "%").replace("?", "_")
    return Collection.source_id.like(escaped)


def _untranslated(language: str) -> ColumnElement[bool]:
    language = language.lower()
    if not re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", language):
        raise UnknownConditionError(f"{language!r} is no language. Write es, or pt-br.")
    texts = Collection.translations[language]
    missing = (
        and_(getattr(Collection, field) != "", func.coalesce(texts[field].astext, "") == "") for field in TRANSLATED
    )
    return or_(*missing)


def _unreviewed(value: str) -> ColumnElement[bool]:
    try:
        match = _DAYS.fullmatch(value)
        since = func.current_date() - timedelta(days=int(match[1])) if match else date.fromisoformat(value)
    except ValueError:
        raise UnknownConditionError(f"{value!r} is no time. Write 365d, or 2026-01-31.") from None
    return or_(Collection.last_reviewed.is_(None), Collection.last_reviewed < since)


def _related(column: Any, table: type[Licence] | type[SettingsBundle]) -> Callable[[str], ColumnElement[bool]]:
    def ask(name: str) -> ColumnElement[bool]:
        if not name:
            return column.is_not(None)  # type: ignore[no-any-return]
        wanted = table.name == name
        if name.isdecimal() and len(name) <= 18:
            wanted = or_(wanted, table.id == int(name))
        return column.in_(select(table.id).where(wanted).correlate(None))  # type: ignore[no-any-return]

    return ask


def _incomplete(_value: str) -> ColumnElement[bool]:
    blank = [getattr(Collection, field) == "" for field in DESCRIBED_BY]
    return or_(*blank, Collection.update_frequency == UpdateFrequency.UNKNOWN)


CONDITIONS: dict[str, Condition] = {
    "name": Condition("its name; `*` and `?` stand for any characters, any one", _name, "PATTERN"),
    "search": Condition(
        "all of these words, or parts of words, are in its texts, in any language, whatever accents and case",
        mentions,
        "TEXT",
    ),
    "public": Condition("everyone may see it", lambda _: Collection.public.is_(True)),
    "frozen": Condition("it is not collected for now", lambda _: Collection.frozen.is_(True)),
    "paused": Condition("an operator paused it", lambda _: collection_is_paused()),
    "published": Condition("it has an active job", lambda _: Collection.active_job_id.is_not(None)),
    "running": Condition(
        "a job of it is not completed",
        lambda _: (
            select(Job.id)
            .where(Job.collection_id == Collection.id, Job.status != JobStatus.COMPLETED)
            .correlate(Collection)
            .exists()
        ),
    ),
    "licence": Condition("it names a licence, or this one", _related(Collection.licence_id, Licence), "[NAME|NUMBER]"),
    "bundle": Condition(
        "it has a settings bundle, or this one",
        _related(Collection.settings_bundle_id, SettingsBundle),
        "[NAME|NUMBER]",
    ),
    "summary": Condition("it has a quality summary", lambda _: Collection.summary != ""),
    "incomplete": Condition(
        "no description, country, region, language, source URL or retrieval frequency, or the update frequency unknown",
        _incomplete,
    ),
    "untranslated": Condition("some of its texts have no translation into a language", _untranslated, "LANGUAGE"),
    "unreviewed": Condition("its summary was not confirmed for so long, or since", _unreviewed, "365d|DATE"),
    "country": Condition("its country", lambda value: func.lower(Collection.country) == value.lower(), "NAME"),
    "region": Condition("its region", _one_of(Collection.region, Region), "REGION"),
    "frequency": Condition(
        "how often it is collected (none: on request)",
        _one_of(Collection.retrieval_frequency, RetrievalFrequency),
        "FREQUENCY",
    ),
    "update-frequency": Condition(
        "how often its source updates", _one_of(Collection.update_frequency, UpdateFrequency), "FREQUENCY"
    ),
    "imported": Condition("it came from a Data Registry", lambda _: Collection.registry_id.is_not(None)),
}


def conditions(texts: Iterable[str]) -> list[ColumnElement[bool]]:
    """Return what was written as conditions about :class:`Collection`.

    :raises UnknownConditionError: one does not exist, lacks its value, or has one that it cannot have.
    """
    return [_condition(text) for text in texts]


def _condition(text: str) -> ColumnElement[bool]:
    name, equals, value = text.partition("=")
    negative = name.startswith("not-")
    name = name.removeprefix("not-").strip().lower()
    condition = CONDITIONS.get(name)
    if condition is None:
        raise UnknownConditionError(f"{text!r} is no condition. Known: {', '.join(CONDITIONS)}; not- before it.")
    if equals and not condition.value:
        raise UnknownConditionError(f"{name} takes no value: write {name}, or not-{name}.")
    if not value and condition.value and not condition.value.startswith("["):
        raise UnknownConditionError(f"{name} takes a value: {name}={condition.value}.")
    asked = condition.ask(value.strip())
    return not_(func.coalesce(asked, false())) if negative else asked  # NULL: there is nothing to compare
