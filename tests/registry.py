"""Data Registries to import from: their tables as measured (of May 2024, ``old``, and of 2026, ``new``), with rows.

Tables and columns are those that Django and its translation package make; the rows are ours.
"""

import json
from typing import Any

from sqlalchemy import text

from shared.db import make_engine
from shared.views import COUNTS

TRANSLATED = ("country", "description", "description_long", "language", "summary", "additional_data")
TIMES = {"created": "timestamptz", "modified": "timestamptz"}


def _translated(names: Any) -> dict[str, str]:
    return {f"{name}_{language}": "text" for name in names for language in ("en", "es", "ru")}


_LICENSE = {"name": "text", "description": "text", "url": "text", **_translated(["name", "description"])}
_COLLECTION = {
    **dict.fromkeys(["title", "country_flag", *TRANSLATED], "text"),
    **_translated(TRANSLATED),
    "region": "text",
    "last_retrieved": "date",
    "last_reviewed": "date",
    "source_id": "text",
    "source_url": "text",
    "retrieval_frequency": "text",
    "update_frequency": "text",
    "public": "boolean",
    "frozen": "boolean",
    "license_custom_id": "bigint",
}
_JOB = {
    "collection_id": "bigint",
    "start": "timestamptz",
    "end": "timestamptz",
    "status": "text",
    "context": "jsonb",
    "archived": "boolean",
    "keep_all_data": "boolean",
    **{f"{name}_count": "integer" for name in COUNTS},
    "date_from": "date",
    "date_to": "date",
    "ocid_prefix": "text",
    "license": "text",
}
_TASK = {
    "job_id": "bigint",
    "start": "timestamptz",
    "end": "timestamptz",
    "status": "text",
    "result": "text",
    "note": "text",
    "type": "text",
    "order": "integer",
}

TABLES: dict[str, dict[str, dict[str, str]]] = {
    "new": {
        "license": _LICENSE,
        "settingsbundle": {"name": "text"},
        "setting": {"bundle_id": "bigint", "key": "text", "value": "text"},
        "collection": _COLLECTION
        | {
            "active_job_id": "bigint",
            "settings_bundle_id": "bigint",
            "publication_policy": "text",
            "no_data_rationale": "text",
            **_translated(["no_data_rationale"]),
            "date_from": "date",
            "date_to": "date",
            "ocid_prefix": "text",
        },
        "job": _JOB | {"coverage": "jsonb", "publication_policy": "text"},
        "task": _TASK,
        "tasknote": {"task_id": "bigint", "level": "text", "note": "text", "data": "jsonb"},
    },
    "old": {
        "license": _LICENSE,
        "collection": _COLLECTION | _translated(["title"]),
        "issue": {"collection_id": "bigint", "description": "text", **_translated(["description"])},
        "job": _JOB | {"active": "boolean"},
        "task": _TASK | {"context": "jsonb"},
    },
}

WHEN = "2026-02-01 10:00:00+00"
ODD_TEXT = "tab\there, line\nbreak, \\backslash, Ünï¢öde, \\N"


def _collection(number: int, source_id: str, **fields: Any) -> dict[str, Any]:
    blank = {name: "" for name, kind in _COLLECTION.items() if kind == "text" and not name.endswith(("_es", "_ru"))}
    values = {"title": source_id.title(), "update_frequency": "UNKNOWN", "public": True, "frozen": False}
    return {"id": number, **blank, **values, "source_id": source_id, **fields}


def _job(number: int, collection: int, status: str = "COMPLETED", **fields: Any) -> dict[str, Any]:
    counts = dict.fromkeys((f"{name}_count" for name in COUNTS), 0)
    values = {"archived": True, "keep_all_data": False, "context": {}, "ocid_prefix": "", "license": ""}
    start, end = f"2026-01-{number:02} 04:00:00.25+00", f"2026-01-{number:02} 05:00:00+00"
    times = {"start": start, "end": end if status == "COMPLETED" else None}
    return {"id": number, "collection_id": collection, "status": status, **counts, **values, **times, **fields}


def _tasks(job: int, kinds: str, outcomes: str) -> list[dict[str, Any]]:
    rows = []
    for order, (kind, outcome) in enumerate(zip(kinds.split(), outcomes.split(), strict=True), 1):
        over = outcome in ("OK", "FAILED")
        rows.append(
            {
                "id": job * 100 + order,
                "job_id": job,
                "type": kind,
                "order": order,
                "status": "COMPLETED" if over else outcome,
                "result": outcome if over else "",
                "note": "HTTP 500" if outcome == "FAILED" else "",
                "start": "2026-01-11 04:00:00+00" if over else None,
                "end": "2026-01-11 04:30:00+00" if over else None,
            }
        )
    return rows


PLAN = "collect process exporter coverage flattener"
OLD_PLAN = "collect process pelican exporter flattener"
ALL_OK = "OK OK OK OK OK"


def rows(generation: str) -> dict[str, list[dict[str, Any]]]:
    """Return rows by table: three publications, a failed, a successful and a running job, notes, a licence."""
    new = generation == "new"
    full = {
        "title": "Contratos" if new else "",
        "country": "",
        "country_en": "Moldova",
        "country_es": "Moldavia",
        "country_ru": "Молдова",
        "country_flag": "moldova.png",
        "description_en": ODD_TEXT,
        "description_es": "",
        "description_ru": None,
        "description_long_en": "The rest.",
        "language_en": "Romanian",
        "summary_en": "Good.",
        "additional_data_en": "Milestones.",
        "region": "EECA",
        "source_url": "https://example.org/",
        "retrieval_frequency": "MONTHLY",
        "update_frequency": "DAILY" if new else "EVERY_SIX_MONTHS",
        "last_retrieved": "2026-01-11",
        "last_reviewed": "2025-12-01",
        "license_custom_id": 5,
    }
    if new:
        overrides = {"date_from": "2012-01-01", "date_to": None, "ocid_prefix": "ocds-b0w3rb"}
        policy = {"publication_policy": "https://example.org/policy", "no_data_rationale": ""}
        full |= {"active_job_id": 11, "settings_bundle_id": 3, **overrides, **policy}
    else:
        full |= {"title_en": "Contracts", "title_es": "Contratos"}
    why = {"no_data_rationale": "", "no_data_rationale_en": "The source is gone."} if new else {}
    job = {
        "context": {"spider": "moldova", "process_id": "7", "collect_error_rate": 0.004},
        "tenders_count": 12,
        "date_from": "2015-02-03",
        "date_to": "2026-01-10",
        "ocid_prefix": "ocds-h6i7j8",
        "license": "https://example.org/licence",
    }
    job |= {"coverage": {"/ocid": 12, "/tender": 12}, "publication_policy": ""} if new else {"active": True}
    other = {} if new else {"active": False}
    found = {
        "license": [
            {
                "id": 5,
                "name": "",
                "name_en": "CC BY",
                "name_es": "CC BY (es)",
                "description": "",
                "url": "https://cc.example/by",
            }
        ],
        "collection": [
            _collection(1, "moldova", **full),
            _collection(2, "chile", frozen=True, public=False, region="LAC", **why),
            _collection(3, "moldova", title="Another"),
        ],
        "job": [
            _job(10, 1, **other),
            _job(11, 1, **job),
            _job(12, 1, "RUNNING", **other),
            _job(13, 2, **other),
        ],
        "task": [
            *_tasks(10, PLAN if new else OLD_PLAN, "OK FAILED PLANNED PLANNED PLANNED"),
            *_tasks(11, PLAN if new else OLD_PLAN, ALL_OK),
            *_tasks(12, PLAN if new else OLD_PLAN, "RUNNING PLANNED PLANNED PLANNED PLANNED"),
            *_tasks(13, PLAN if new else OLD_PLAN, "OK OK PLANNED PLANNED PLANNED"),
        ],
    }
    if new:
        found["settingsbundle"] = [{"id": 3, "name": "slow"}]
        found["setting"] = [
            {"id": 1, "bundle_id": 3, "key": "DOWNLOAD_DELAY", "value": "2"},
            {"id": 2, "bundle_id": 3, "key": "PROXY", "value": "http://u:secret@proxy"},
        ]
        found["tasknote"] = [
            {"id": 1, "task_id": 1101, "level": "ERROR", "note": ODD_TEXT, "data": {"type": "HTTP 500", "x": 'a"b'}},
            {"id": 2, "task_id": 1101, "level": "WARNING", "note": "dropped", "data": {}},
            {"id": 3, "task_id": 1201, "level": "WARNING", "note": "of a job that still runs", "data": {}},
        ]
    else:
        found["issue"] = [
            {"id": 4, "collection_id": 1, "description": "", "description_en": "Odd.", "description_es": "Raro."}
        ]
    return {
        table: [{"created": WHEN, "modified": WHEN, **row} for row in found.get(table, [])]
        for table in TABLES[generation]
    }


def fixtures(generation: str) -> str:
    """Return the rows as ``dumpdata`` writes them."""
    keys = {
        name: name.removesuffix("_id") for table in TABLES[generation].values() for name in table if name != "source_id"
    }
    items = []
    for table, found in rows(generation).items():
        for row in found:
            fields = {keys.get(name, name): value for name, value in row.items() if name != "id"}
            items.append({"model": f"data_registry.{table}", "pk": row["id"], "fields": fields})
    items.append({"model": "auth.user", "pk": 1, "fields": {"username": "somebody"}})
    return json.dumps(items)


def fill(url: str, generation: str) -> None:
    """Make the tables in a database, and their rows."""
    engine = make_engine(url, application_name="test registry")
    with engine.begin() as connection:
        for table, columns in TABLES[generation].items():
            of_all = {"id": "bigint PRIMARY KEY", **columns, **TIMES}
            definition = ", ".join(f'"{name}" {kind}' for name, kind in of_all.items())
            connection.execute(text(f"CREATE TABLE data_registry_{table} ({definition})"))
        connection.execute(text("CREATE TABLE auth_user (id bigint, username text)"))
        connection.execute(text("INSERT INTO auth_user VALUES (1, 'somebody')"))
        for table, found in rows(generation).items():
            for row in found:
                values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}
                names = ", ".join(f'"{name}"' for name in values)
                places = ", ".join(f":{name}" for name in values)
                connection.execute(text(f"INSERT INTO data_registry_{table} ({names}) VALUES ({places})"), values)
    engine.dispose()
