"""A Data Registry's row as our columns: of a database of May 2024 or of a newer one, by whatever source.

Nothing is guessed and nothing is fatal: a value that our column cannot have becomes the blank, and is told of.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from shared.db.models import (
    TRANSLATED,
    NoteLevel,
    Region,
    Result,
    RetrievalFrequency,
    TaskStatus,
    UpdateFrequency,
)
from shared.registry.sources import Row
from shared.units import storable, storable_json
from shared.views import COUNTS

Report = Callable[[str], None]
"""Takes a sentence about something that could not be taken over as it is."""

TASK_TYPES = {
    "collect": "collect",
    "process": "process",
    "pelican": "coverage",
    "coverage": "coverage",
    "exporter": "export",
    "flattener": "flatten",
}
"""Their task types → ours. Pelican counted what coverage counts now."""

_TRANSLATION = re.compile(r"(?P<field>[a-z_]+?)_(?P<language>[a-z]{2,3}(?:_[a-z]{2,4})?)")
_RENAMED = {"EVERY_SIX_MONTHS": "HALF_YEARLY"}


def whole(value: Any) -> int | None:
    """Return a number, None for none."""
    return int(value) if value not in (None, "") else None


def words(value: Any) -> str:
    """Return a text, blank for none."""
    return "" if value is None else storable(str(value))


def truth(value: Any) -> bool:
    """Return a boolean, as PostgreSQL, the driver or JSON write it; none is false."""
    return value is True or (isinstance(value, str) and value.lower() in ("t", "true", "1"))


def day(value: Any) -> date | None:
    """Return a date. Raise ValueError for what is none."""
    if isinstance(value, datetime):
        return value.date()
    return value if isinstance(value, date) else date.fromisoformat(value) if value else None


def moment(value: Any) -> datetime | None:
    """Return a time; one without a zone is UTC. Raise ValueError for what is none."""
    if not value:
        return None
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def mapping(value: Any) -> dict[str, Any]:
    """Return a JSON object, empty for anything else. Raise ValueError for what is no JSON."""
    found = json.loads(value) if isinstance(value, str) else value
    return dict(storable_json(found)) if isinstance(found, dict) else {}


def translations_of(row: Row, fields: Sequence[str], default_language: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return fields in the default language, and their translations into others.

    Theirs are columns ``F_en``, ``F_es`` and so on, with or without an ``F`` beside them; what has no text in the
    default language is taken from ``F``, then from English, as they show it.
    """
    texts: dict[str, dict[str, str]] = {}
    for column, value in row.items():
        match = _TRANSLATION.fullmatch(column)
        if match is not None and match["field"] in fields and value:
            texts.setdefault(match["language"].replace("_", "-"), {})[match["field"]] = words(value)
    default = texts.pop(default_language, {})
    english = texts.get("en", {})
    own = {field: default.get(field) or words(row.get(field)) or english.get(field, "") for field in fields}
    return own, texts


def licence(row: Row, default_language: str) -> dict[str, Any]:
    """Return the columns of a licence."""
    own, translations = translations_of(row, ("name", "description"), default_language)
    name = own["name"] or words(row.get("url")) or f"Licence {row['id']}"
    return {**own, "name": name, "url": words(row.get("url")), "translations": translations}


def issue(row: Row, default_language: str) -> dict[str, Any]:
    """Return the columns of an issue, without its collection."""
    own, translations = translations_of(row, ("description",), default_language)
    return {**own, "translations": translations}


def collection(row: Row, default_language: str, report: Report) -> dict[str, Any]:
    """Return the columns of a collection, without what it refers to, its name and its source."""
    who = f"publication {row['id']} ({words(row.get('source_id'))})"
    own, translations = translations_of(row, TRANSLATED, default_language)
    values: dict[str, Any] = {
        **own,
        "title": own["title"] or words(row.get("source_id")) or f"Publication {row['id']}",
        "translations": translations,
        "country_flag": words(row.get("country_flag")),
        "source_url": words(row.get("source_url")),
        "publication_policy": words(row.get("publication_policy")),
        "ocid_prefix": words(row.get("ocid_prefix")),
        "frozen": truth(row.get("frozen")),
        "public": truth(row.get("public")),
        "region": _member(row, "region", Region, Region.NONE, who, report),
        "update_frequency": _member(row, "update_frequency", UpdateFrequency, UpdateFrequency.UNKNOWN, who, report),
        "retrieval_frequency": _member(
            row, "retrieval_frequency", RetrievalFrequency, RetrievalFrequency.NONE, who, report
        ),
    }
    return values | _dates(row, ("last_retrieved", "last_reviewed", "date_from", "date_to"), who, report)


def job(row: Row, report: Report) -> dict[str, Any]:
    """Return the columns of a completed job, without its collection.

    Its temporary data, if there is any, is in other systems: here it is archived. What they knew of it is kept in its
    context, under ``registry``.
    """
    who = f"job {row['id']}"
    coverage = {path: count for path, count in mapping(row.get("coverage")).items() if isinstance(count, int)}
    theirs = {**mapping(row.get("context")), "archived": truth(row.get("archived"))}
    return {
        "start": moment(row.get("start")),
        "end": moment(row.get("end")),
        "context": {"registry": theirs},
        "archived": True,
        "keep_all_data": truth(row.get("keep_all_data")),
        "coverage": coverage,
        **{f"{name}_count": whole(row.get(f"{name}_count")) or 0 for name in COUNTS},
        **{name: words(row.get(name)) for name in ("ocid_prefix", "license", "publication_policy")},
        **_dates(row, ("date_from", "date_to"), who, report),
    }


def tasks(rows: Iterable[Row], report: Report) -> list[dict[str, Any]]:
    """Return the columns of a completed job's tasks, in order, each with its ``registry_id``.

    What had not ended when the job did was cancelled there, by hand; or was not run, after a failure.
    """
    found: list[dict[str, Any]] = []
    failed = ""
    for row in sorted(rows, key=lambda row: (whole(row.get("order")) or 0, whole(row["id"]) or 0)):
        kind = TASK_TYPES.get(words(row.get("type")))
        if kind is None or kind in [task["type"] for task in found]:
            report(
                f"task {row['id']} of job {row.get('job_id')}: type {words(row.get('type'))!r} has no match; left out"
            )
            continue
        result, note = words(row.get("result")), words(row.get("note"))
        if row.get("status") != TaskStatus.COMPLETED or result not in (Result.OK, Result.FAILED):
            result = Result.SKIPPED if failed else Result.CANCELLED
            note = f"Not run, because {failed} failed." if failed else note or "Not completed in the Data Registry."
        elif result == Result.FAILED:
            failed = failed or kind
        found.append(
            {
                "registry_id": whole(row["id"]),
                "type": kind,
                "order": len(found) + 1,
                "status": TaskStatus.COMPLETED,
                "result": result,
                "note": note,
                "start": moment(row.get("start")),
                "end": moment(row.get("end")),
            }
        )
    return found


def note(row: Row) -> dict[str, Any]:
    """Return the columns of a note, without its task."""
    level = words(row.get("level"))
    return {
        "level": level if level in list(NoteLevel) else NoteLevel.UNKNOWN,
        "note": words(row.get("note")),
        "data": mapping(row.get("data")),
    }


def _member(row: Row, name: str, values: type[StrEnum], otherwise: StrEnum, who: str, report: Report) -> str:
    written = words(row.get(name)).upper()
    written = _RENAMED.get(written, written)
    if written in list(values):
        return written
    if written:
        report(f"{who}: {name} {written!r} is not one we know; taken as {otherwise or 'blank'}")
    return str(otherwise)


def _dates(row: Row, names: Sequence[str], who: str, report: Report) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        try:
            found[name] = day(row.get(name))
        except ValueError:
            found[name] = None
            report(f"{who}: {name} {row.get(name)!r} is no date; taken as blank")
    return found
