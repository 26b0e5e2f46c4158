"""Changing collections: what may be changed and to what, for one or many, seen before it is done, and audited.

A change is prepared first: values are checked, and looked up where they name something. What it would do to a
collection is then compared, not done, so that a preview shows just what will happen. The audit keeps both texts.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from shared.db.models import (
    TRANSLATED,
    Audit,
    Collection,
    Job,
    JobStatus,
    Licence,
    Region,
    Result,
    RetrievalFrequency,
    SettingsBundle,
    Task,
    UpdateFrequency,
    Wiping,
)
from shared.logging import get_logger
from shared.publications import (
    InvalidCollectionError,
    check_frequency,
    check_options,
    check_plan,
    check_priority,
    check_schedule,
    is_web_address,
    read_cron,
    resolve_source,
)

log = get_logger()

LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")

Translations = Mapping[str, Mapping[str, str]]
Named = TypeVar("Named", Licence, SettingsBundle)


@dataclass(frozen=True)
class Edit:
    """What a change means for one collection: column → (before, after), of those that would differ."""

    collection: Collection
    source_id: str
    """Its name, also after its session has ended."""
    changes: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Wanted:
    """A prepared change: checked values for columns; translations and options to be merged into what there is."""

    values: dict[str, Any] = field(default_factory=dict)
    translations: Translations = field(default_factory=dict)
    """Language → field → text; a blank text takes the translation away."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """A blank value takes the option away."""


def prepare(
    session: Session,
    given: Mapping[str, Any],
    *,
    translations: Translations | None = None,
    options: Mapping[str, Any] | None = None,
    default_language: str,
) -> Wanted:
    """Check what is to be changed.

    :param given: what :data:`FIELDS` names, as people write it: texts, and booleans for ``public`` and ``frozen``.
    :param default_language: of the columns themselves: not one to translate into.
    :raises InvalidCollectionError: a value breaks its rule, or names what is not there.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in FIELDS:
            raise InvalidCollectionError(f"A collection has no {name!r} to change. Known: {', '.join(FIELDS)}.")
        values.update(FIELDS[name](session, name, value))
    return Wanted(
        values, check_translations(translations or {}, TRANSLATED, default_language=default_language), options or {}
    )


def compare(collection: Collection, wanted: Wanted) -> Edit:
    """Return what a change would do to a collection. Raise :class:`InvalidCollectionError` if the result cannot be."""
    values = dict(wanted.values)
    if wanted.translations:
        values["translations"] = merge_translations(collection.translations, wanted.translations)
    # A frequency takes the place of a schedule, and the other way round.
    if values.get("cron"):
        values.setdefault("retrieval_frequency", RetrievalFrequency.NONE)
    elif values.get("retrieval_frequency") or values.get("cron") == "":
        values |= {"cron": "", "time_zone": ""}
    if wanted.options:
        values["options"] = check_options({**collection.options, **wanted.options})
    changes = {
        name: (before, after) for name, after in values.items() if (before := getattr(collection, name)) != after
    }
    _check_dates(collection, changes)
    _check_schedule(collection, changes)
    return Edit(collection, collection.source_id, changes)


def apply(session: Session, edit: Edit, *, actor: str) -> None:
    """Change a collection, which the caller has locked, and note it in the audit."""
    if not edit.changes:
        return
    _check_active_job(session, edit)
    for name, (_, after) in edit.changes.items():
        setattr(edit.collection, name, after)
    if not edit.changes.keys().isdisjoint(WHEN):
        edit.collection.look_at = datetime.now(UTC)
    changes = {name: {"from": _plain(before), "to": _plain(after)} for name, (before, after) in edit.changes.items()}
    details = {"collection": edit.source_id, "changes": changes}
    session.add(Audit(actor=actor, action="collection edit", details=details))
    log.info("collection changed", collection=edit.source_id, fields=list(changes), actor=actor)


def chosen(session: Session, where: Sequence[ColumnElement[bool]], *, lock: bool = False) -> Sequence[Collection]:
    """Return collections that meet all conditions, by id; not those that are being deleted."""
    statement = select(Collection).where(~Collection.removing, *where).order_by(Collection.id)
    return session.scalars(statement.with_for_update(key_share=True) if lock else statement).all()


def named(session: Session, table: type[Named], ref: str) -> Named:
    """Return the licence or settings bundle that a number or a name means. Raise :class:`InvalidCollectionError`."""
    kind = "licence" if table is Licence else "settings bundle"
    wanted = table.name == ref
    if ref.isdecimal() and len(ref) <= 18:
        wanted = or_(wanted, table.id == int(ref))
    found = session.scalars(select(table).where(wanted).order_by(table.id)).all()
    if not found:
        command = "licence" if table is Licence else "bundle"
        raise InvalidCollectionError(f"There is no {kind} {ref!r}. See: bowerbird {command} list")
    if len(found) > 1:
        numbers = ", ".join(str(row.id) for row in found)
        raise InvalidCollectionError(f"Several are called {ref!r}: name the {kind} by its number ({numbers}).")
    return found[0]


def check_translations(
    translations: Translations, fields: Sequence[str], *, default_language: str
) -> dict[str, dict[str, str]]:
    """Return translations with their languages in lower case. Raise :class:`InvalidCollectionError`."""
    checked: dict[str, dict[str, str]] = {}
    for language, texts in translations.items():
        tag = language.lower().replace("_", "-")
        if LANGUAGE.fullmatch(tag) is None:
            raise InvalidCollectionError(f"{language!r} is no language. Write es, or pt-br.")
        if tag == default_language:
            raise InvalidCollectionError(
                f"{tag!r} is the default language (BOWERBIRD_DEFAULT_LANGUAGE): change the text itself instead."
            )
        unknown = [name for name in texts if name not in fields]
        if unknown:
            raise InvalidCollectionError(f"{unknown[0]!r} is not translated. What is: {', '.join(fields)}.")
        checked.setdefault(tag, {}).update(texts)
    return checked


def merge_translations(before: Translations, changes: Translations) -> dict[str, dict[str, str]]:
    """Return translations with changes made: a blank text takes one away, and a language without texts goes."""
    merged = {language: dict(texts) for language, texts in before.items()}
    for language, texts in changes.items():
        merged[language] = {**merged.get(language, {}), **texts}
    kept = {language: {name: text for name, text in texts.items() if text} for language, texts in merged.items()}
    return {language: texts for language, texts in kept.items() if texts}


# Each field: a function of session, name and what was written, that returns columns and their values

Column = Callable[[Session, str, Any], dict[str, Any]]


def _text(_session: Session, name: str, value: str) -> dict[str, Any]:
    return {name: value.strip()}


def _title(_session: Session, name: str, value: str) -> dict[str, Any]:
    if not value.strip():
        raise InvalidCollectionError("A collection has a title: give one.")
    return {name: value.strip()}


def check_address(value: str) -> str:
    """Return an http(s) URL, or the blank. Raise :class:`InvalidCollectionError` for what a page must not link to."""
    value = value.strip()
    if value and not is_web_address(value):
        raise InvalidCollectionError(f"{value!r} is no http(s):// address.")
    return value


def _address(_session: Session, name: str, value: str) -> dict[str, Any]:
    return {name: check_address(value)}


def _boolean(_session: Session, name: str, value: bool) -> dict[str, Any]:
    return {name: value}


def _date(_session: Session, name: str, value: str) -> dict[str, Any]:
    try:
        day = datetime.now(UTC).date() if value == "today" else date.fromisoformat(value) if value else None
    except ValueError:
        raise InvalidCollectionError(f"{value!r} is no date. Write 2026-01-31, or today.") from None
    return {name: day}


def _region(_session: Session, name: str, value: str) -> dict[str, Any]:
    if value.upper() not in list(Region):
        raise InvalidCollectionError(f"{value!r} is no region. Known: {', '.join(filter(None, Region))}.")
    return {name: Region(value.upper())}


def _update_frequency(_session: Session, name: str, value: str) -> dict[str, Any]:
    wanted = value.upper().replace("-", "_") or UpdateFrequency.UNKNOWN
    if wanted not in list(UpdateFrequency):
        raise InvalidCollectionError(f"{value!r} is no update frequency. Known: {', '.join(UpdateFrequency)}.")
    return {name: UpdateFrequency(wanted)}


def _frequency(_session: Session, _name: str, value: str) -> dict[str, Any]:
    return {"retrieval_frequency": check_frequency(value)}


def _cron(_session: Session, name: str, value: str) -> dict[str, Any]:
    return {name: read_cron(value) if value else ""}


def _priority(_session: Session, name: str, value: str) -> dict[str, Any]:
    try:
        return {name: check_priority(int(value or 0))}
    except ValueError:
        raise InvalidCollectionError(f"{value!r} is no priority: it is a whole number.") from None


def _source(_session: Session, name: str, value: str) -> dict[str, Any]:
    return {name: resolve_source(value)}


def _plan(_session: Session, _name: str, value: str) -> dict[str, Any]:
    plan = [part.strip() for part in value.split(",") if part.strip()]
    return {"tasks_plan": check_plan(plan) if plan else None}


def _licence(session: Session, _name: str, value: str) -> dict[str, Any]:
    return {"licence_id": named(session, Licence, value).id if value else None}


def _bundle(session: Session, _name: str, value: str) -> dict[str, Any]:
    return {"settings_bundle_id": named(session, SettingsBundle, value).id if value else None}


def _active_job(_session: Session, _name: str, value: str) -> dict[str, Any]:
    if value and (not value.isdecimal() or len(value) > 18):
        raise InvalidCollectionError(f"{value!r} is no job's number.")
    return {"active_job_id": int(value) if value else None}


FIELDS: dict[str, Column] = {
    "title": _title,
    "description": _text,
    "description_long": _text,
    "country": _text,
    "country_flag": _text,
    "region": _region,
    "language": _text,
    "additional_data": _text,
    "update_frequency": _update_frequency,
    "summary": _text,
    "last_reviewed": _date,
    "licence": _licence,
    "publication_policy": _address,
    "source_url": _address,
    "no_data_rationale": _text,
    "date_from": _date,
    "date_to": _date,
    "ocid_prefix": _text,
    "frequency": _frequency,
    "cron": _cron,
    "time_zone": _text,
    "catch_up": _boolean,
    "priority": _priority,
    "frozen": _boolean,
    "public": _boolean,
    "source": _source,
    "plan": _plan,
    "bundle": _bundle,
    "active_job": _active_job,
}
"""What of a collection can be changed, by the words of the command line."""


def _check_dates(collection: Collection, changes: Mapping[str, tuple[Any, Any]]) -> None:
    first, last = (changes.get(name, (None, getattr(collection, name)))[1] for name in ("date_from", "date_to"))
    if first is not None and last is not None and first > last:
        raise InvalidCollectionError(f"{collection.source_id}: its data cannot go from {first} to {last}.")


WHEN = ("retrieval_frequency", "cron", "time_zone", "catch_up", "frozen")
"""What decides when a collection is due: after a change of it, the scheduler looks at it again."""


def _check_schedule(collection: Collection, changes: Mapping[str, tuple[Any, Any]]) -> None:
    cron, time_zone = (changes.get(name, (None, getattr(collection, name)))[1] for name in ("cron", "time_zone"))
    check_schedule(cron, time_zone)


def _check_active_job(session: Session, edit: Edit) -> None:
    """Only a successful job of the collection can be published. The row is locked, so that nobody deletes it now."""
    job_id = edit.changes.get("active_job_id", (None, None))[1]
    if job_id is None:
        return
    job = session.scalar(
        select(Job).where(Job.id == job_id, Job.collection_id == edit.collection.id).with_for_update(key_share=True)
    )
    if job is None:
        raise InvalidCollectionError(f"{edit.source_id} has no job {job_id}.")
    results = set(session.scalars(select(Task.result).where(Task.job_id == job_id)))
    if job.status != JobStatus.COMPLETED or results != {Result.OK}:
        raise InvalidCollectionError(f"Job {job_id} did not succeed: only a successful job can be published.")
    if job.wiping == Wiping.ALL:
        raise InvalidCollectionError(f"Job {job_id} is being deleted.")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value
