"""The API's description of itself: OpenAPI, with an example for every answer.

The examples tell one story: job 7 published the collection ``river_works``. Each is what the server would send for it;
a test holds every example against its schema.
"""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.api.keys import SCHEME
from services.api.problem_types import TYPES, kind_of
from services.api.schemas import (
    ATOM,
    HTML,
    JOB_LIST,
    JSON,
    LD_JSON,
    NO_SUCH_JOB,
    OGC_RELATIONS,
    PROBLEM_JSON,
    PROBLEMS,
    RSS,
    Problem,
)
from shared.db.models import KeyScope
from shared.exports import MEDIA_TYPES
from shared.quality import CHECKS
from shared.views import COUNTS

DESCRIPTION = """Public collections, the jobs that keep them published, and their files.

What is public may be read by anyone; a collection that is not public, and all that belongs to it, is answered like one
that does not exist. With an API key everything can be read, and, by its scope, steered. Times are UTC. Answers carry an
`ETag`: send it back as `If-None-Match` and get `304` while nothing has changed. Errors are problem documents
(RFC 9457)."""

TAGS = [
    {"name": "collections", "description": "Data of one source each, kept published."},
    {"name": "downloads", "description": "The files of a collection's active job."},
    {"name": "jobs", "description": "Passes over a collection: collect, process, check, export, coverage, flatten."},
    {"name": "service", "description": "Where to begin, and whether the service is well."},
]

BASE = "https://data.example.org"
REQUEST_ID = "0b2a0c6e-58a5-4b52-8a3c-2f6d1c1c9a10"
SHA256 = "3a7bd3e2360a3d29eea436fcfb7e44c735d117c42d1c1835420b6b9942dd4f1b"


def link(rel: str, path: str, type_: str = JSON) -> dict[str, str]:
    """Return a link of an example."""
    return {"href": BASE + path, "rel": rel, "type": type_}


def _file(name: str, segment: str, format_: str, size: int, records: int) -> dict[str, Any]:
    return {
        "name": name,
        "segment": segment,
        "format": format_,
        "size": size,
        "records": records,
        "sha256": SHA256,
        "created": "2026-03-02T04:00:11.204551Z",
    }


def _task(order: int, type_: str, start: int, end: int, done: int) -> dict[str, Any]:
    return {
        "type": type_,
        "order": order,
        "status": "COMPLETED",
        "result": "OK",
        "note": "",
        "error": "",
        "backend": "native",
        "waits_for": "",
        "start": f"2026-03-02T04:00:{start:02}Z",
        "end": f"2026-03-02T04:00:{end:02}Z",
        "duration_seconds": float(end - start),
        "units": {"planned": 0, "queued": 0, "running": 0, "completed": 1, "failed": 0},
        "attempts": 1,
        "progress": {"done": done, "total": done, "of": "records", "per_second": None, "seconds_left": None},
        "notes": [],
    }


FILES = [
    _file("full.jsonl.gz", "full", "jsonl", 104_857, 1_200),
    _file("full.csv.tar.gz", "full", "csv", 98_304, 1_200),
    _file("2025.jsonl.gz", "2025", "jsonl", 61_440, 700),
]

COLLECTION = {
    "id": 3,
    "source_id": "river_works",
    "title": "River works",
    "description": "Contracts for dams, locks and dredging.",
    "description_long": "Published by the River Authority since 2024, from its case management system.",
    "country": "Ruritania",
    "country_flag": "ruritania.png",
    "region": "EU",
    "language": "English",
    "additional_data": "With the milestones of each contract.",
    "update_frequency": "DAILY",
    "retrieval_frequency": "WEEKLY",
    "cron": "",
    "time_zone": "",
    "source_url": "https://rivers.example/open-contracting",
    "summary": "Complete, and consistent over the years.",
    "last_reviewed": "2026-02-01",
    "issues": ["Prices of 2024 are without taxes."],
    "no_data_rationale": "",
    "frozen": False,
    "public": True,
    "last_retrieved": "2026-03-02",
    "active_job_id": 7,
    "publication_policy": "https://rivers.example/policy",
    "license": "https://creativecommons.org/licenses/by/4.0/",
    "licence": {
        "name": "Creative Commons Attribution 4.0",
        "description": "Use it as you like, and name the source.",
        "url": "https://creativecommons.org/licenses/by/4.0/",
    },
    "date_from": "2024-01-08",
    "date_to": "2026-02-27",
    "ocid_prefix": "ocds-a1b2c3",
    "created": "2026-01-05T09:30:00Z",
    "modified": "2026-03-02T04:00:14.512006Z",
    "links": [
        link("self", "/collections/river_works"),
        link("jobs", "/jobs?collection=river_works"),
        link("downloads", "/collections/river_works/downloads"),
        link("describedby", "/collections/river_works/dataset", LD_JSON),
    ],
}

COLLECTION_PAGE = {
    "links": [link("self", "/collections?limit=1"), link("next", "/collections?limit=1&after=3")],
    "items": [COLLECTION],
    "facets": None,
}

DOWNLOADS = [
    file
    | {
        "links": [
            link(
                "enclosure",
                f"/collections/river_works/downloads/{file['name']}",
                MEDIA_TYPES[file["name"].partition(".")[2]],
            )
        ]
    }
    for file in FILES
]

DOWNLOAD_LIST = {
    "links": [
        link("self", "/collections/river_works/downloads"),
        link("collection", "/collections/river_works"),
        link("job", "/jobs/7"),
    ],
    "job_id": 7,
    "items": DOWNLOADS,
}

_COUNTS = dict.fromkeys(COUNTS, 0) | {"tenders": 1_200, "awards": 950, "documents": 4_310}
_COVERAGE = {"/ocid": 1_200, "/tender/title": 1_188}

ACTIVE_JOB = {
    "links": [link("self", "/jobs/7")],
    "id": 7,
    "start": "2026-03-02T04:00:01.120433Z",
    "end": "2026-03-02T04:00:14.512006Z",
    "counts": _COUNTS,
    "coverage": _COVERAGE,
    "files": DOWNLOADS,
}

COLLECTION_DETAIL = COLLECTION | {"active_job": ACTIVE_JOB}

JOB_LINKS = [
    link("self", "/jobs/7"),
    link("status", "/jobs/7"),
    link(JOB_LIST, "/jobs"),
    link(f"{OGC_RELATIONS}results", "/jobs/7/results"),
    link("collection", "/collections/river_works"),
]

JOB_ITEM = {
    "jobID": "7",
    "type": "process",
    "processID": "publish",
    "status": "successful",
    "progress": 100,
    "created": "2026-03-02T04:00:01.034712Z",
    "started": "2026-03-02T04:00:01.120433Z",
    "finished": "2026-03-02T04:00:14.512006Z",
    "updated": "2026-03-02T04:00:14.512006Z",
    "id": 7,
    "collection_id": 3,
    "source_id": "river_works",
    "task": None,
    "duration_seconds": 13.391573,
}

JOB_PAGE = {
    "links": [link("self", "/jobs?collection=river_works")],
    "jobs": [JOB_ITEM | {"links": JOB_LINKS}],
}

JOB = JOB_ITEM | {
    "archived": True,
    "keep_all_data": False,
    "date_from": "2024-01-08",
    "date_to": "2026-02-27",
    "ocid_prefix": "ocds-a1b2c3",
    "license": "https://creativecommons.org/licenses/by/4.0/",
    "publication_policy": "https://rivers.example/policy",
    "counts": _COUNTS,
    "coverage": _COVERAGE,
    "quality": {"records": 1_200, "errors": 1, "warnings": 0, "infos": 0, "under_threshold": 0},
    "context": {"records": 2_460, "compiled": 1_200},
    "tasks": [
        _task(1, "collect", 1, 4, 2_460),
        _task(2, "process", 4, 7, 2_460),
        _task(3, "check", 7, 8, 1_200),
        _task(4, "export", 8, 11, 1_200),
        _task(5, "coverage", 11, 12, 1_200),
        _task(6, "flatten", 12, 14, 1_200),
    ],
    "files": FILES,
    "links": [*JOB_LINKS, link("quality", "/jobs/7/quality")],
}

QUALITY = {
    "links": [link("self", "/jobs/7/quality"), link("job", "/jobs/7")],
    "job_id": 7,
    "source_id": "river_works",
    "thresholds_ignored": False,
    "extensions_checked": ["lots"],
    "extensions_not_checked": ["riskAllocation"],
    "checks": [
        {
            "id": check.id,
            "severity": check.severity.value,
            "title": check.title,
            "explanation": check.explanation,
            "of": check.of,
            "applicable": 964,
            "passed": 960,
            "failed": 4,
            "share": 0.995850622406639,
            "threshold": 0.95,
            "under": False,
            "examples": [{"record": "ocds-a1b2c3-0042", "path": "/contracts/0/awardID", "value": '"A-17"'}],
        }
        for check in (CHECKS["references.awards"],)
    ],
}

OPERATOR_COLLECTION = COLLECTION | {
    "source": "https://rivers.example/open-contracting/releases.jsonl",
    "options": {},
    "tasks_plan": None,
    "backends": {"collect": "native"},
    "catch_up": True,
    "priority": 0,
    "bundle": None,
    "translations": {"es": {"title": "Obras fluviales"}},
    "paused": False,
    "removing": False,
    "registry_id": None,
}

OPERATOR_COLLECTION_PAGE = COLLECTION_PAGE | {"items": [OPERATOR_COLLECTION]}

OPERATOR_JOB = JOB | {
    "errors": [
        {
            "task": "export",
            "unit": 1,
            "attempt": 2,
            "result": "",
            "error": "/exports/river_works/7: No space left on device",
            "traceback": "Traceback (most recent call last):\n  …\nOSError: [Errno 28] No space left on device\n",
        }
    ]
}

LANDING = {
    "links": [
        link("self", "/"),
        link("service-desc", "/openapi.json"),
        link("service-desc", "/api", "application/vnd.oai.openapi+json;version=3.0"),
        link("service-doc", "/docs", "text/html"),
        link("collections", "/collections"),
        link("publications", "/publications.json"),
        link("describedby", "/catalog", LD_JSON),
        link("alternate", "/feed.atom", ATOM),
        link("alternate", "/feed.rss", RSS),
        link(f"{OGC_RELATIONS}conformance", "/conformance"),
        link(f"{OGC_RELATIONS}processes", "/processes"),
        link(JOB_LIST, "/jobs"),
        link("status", "/health/ready"),
        link("related", "/problems"),
    ],
    "title": "Bowerbird",
    "description": "Open data, kept published.",
}

_KIND = TYPES[f"{PROBLEMS}job-in-progress"]
PROBLEM_KIND = {
    "links": [link("self", _KIND.kind), link("about", f"{_KIND.kind}?f=html", HTML)],
    "id": _KIND.id,
    "type": BASE + _KIND.kind,
    "status": _KIND.status.value,
    "title": _KIND.title,
    "explanation": _KIND.explanation,
    "remedy": _KIND.remedy,
}

HEALTH = {"status": "ok"}

EXAMPLES = {
    "getLanding": LANDING,
    "listCollections": COLLECTION_PAGE,
    "getCollection": COLLECTION_DETAIL,
    "listDownloads": DOWNLOAD_LIST,
    "listJobs": JOB_PAGE,
    "getJob": JOB,
    "getQuality": QUALITY,
    "listProblems": {
        "links": [link("self", "/problems"), link("alternate", "/problems?f=html", HTML)],
        "items": [PROBLEM_KIND],
    },
    "getProblem": PROBLEM_KIND,
    "getLiveness": HEALTH,
    "getReadiness": HEALTH,
}
"""The example of each operation that answers with JSON."""

OPERATOR_EXAMPLES = {
    "listCollections": OPERATOR_COLLECTION_PAGE,
    "getCollection": OPERATOR_COLLECTION | {"active_job": ACTIVE_JOB},
    "getJob": OPERATOR_JOB,
}
"""What a holder of a key is answered instead, where that has other members."""

OPTIONAL_KEY = {"security": [{}, {SCHEME: [KeyScope.READ.value]}]}
"""A key is not needed; with one, more is shown."""

Responses = dict[int | str, dict[str, Any]]


def answers(description: str, *others: Responses) -> Responses:
    """Document a route's answers: success (its example is in EXAMPLES), the others given, and a defect (500)."""
    return merged({200: {"description": description}}, *others, FAULT)


def negotiated(description: str, *others: Responses) -> Responses:
    """Document the answers of a read that is JSON or a page (its example is in EXAMPLES)."""
    page = {HTML: {"schema": {"type": "string"}, "example": "<!doctype html>…"}}
    return merged({200: {"description": description, "content": page}}, NOT_MODIFIED, BAD_FORM, NO_FORM, *others, FAULT)


def reads(description: str, *others: Responses) -> Responses:
    """Document the answers of a read for everyone, which a key can come along with."""
    return answers(description, *others, BAD_KEY, AWAY)


def merged(*parts: Responses) -> Responses:
    """Join documented answers."""
    return {status: response for part in parts for status, response in part.items()}


def problem(status: int, when: str, detail: str, path: str, kind: str | None = None) -> Responses:
    """Document one problem; without a ``kind``, the general one of its status."""
    type_ = kind_of(kind, HTTPStatus(status))
    example = {
        "type": BASE + type_.kind if type_.kind.startswith("/") else type_.kind,
        "title": type_.title,
        "status": status,
        "detail": detail,
        "instance": path,
        "request_id": REQUEST_ID,
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    return {status: {"description": when, "content": {PROBLEM_JSON: {"schema": schema, "example": example}}}}


BAD_QUERY = problem(
    400,
    "A query value is wrong; the detail names it.",
    "limit: Input should be less than or equal to 1000 (it was '5000')",
    "/collections",
    f"{PROBLEMS}invalid-query",
)
BAD_FORM = problem(
    400,
    "`f` has a value that is no form's name.",
    "f: There is no form 'xml'; there are: json, html",
    "/problems",
    f"{PROBLEMS}invalid-query",
)
NO_FORM = problem(
    406,
    "`Accept` excludes every form there is.",
    "There is no form of this that you accept. There are: application/json, text/html. Send: Accept: application/json",
    "/problems",
)
NO_KIND = problem(
    404,
    "There is no such kind of problem.",
    "There is no kind of problem 'full-moon'; /problems lists them.",
    "/problems/full-moon",
)
BAD_NAME = problem(
    400,
    "The name is not one that a download can have.",
    "'full.zip' is no name of a download. Names are full, undated or a year of four digits, then .jsonl.gz, "
    ".csv.tar.gz, .xlsx or .parquet.tar: full.jsonl.gz, 2021.csv.tar.gz.",
    "/collections/river_works/downloads/full.zip",
)
NO_COLLECTION = problem(
    404,
    "There is no such collection, or it is not public.",
    "There is no collection 'hill_works'; /collections lists them.",
    "/collections/hill_works",
    f"{PROBLEMS}no-such-collection",
)
NO_FILE = problem(
    404,
    "There is no such collection, it is not public, or its active job has no such file.",
    "There is no file '1999.xlsx'; /collections/river_works/downloads lists those there are.",
    "/collections/river_works/downloads/1999.xlsx",
    f"{PROBLEMS}no-such-file",
)
NO_JOB = problem(
    404,
    "There is no such job, or its collection is not public.",
    "There is no job 4711; /jobs lists them.",
    "/jobs/4711",
    NO_SUCH_JOB,
)
BAD_KEY = problem(
    401,
    "A key came along, and it is not known, revoked or expired. Without one, what is public is answered.",
    "This API key is not known here.",
    "/collections",
    f"{PROBLEMS}unknown-key",
)
PART_OF_ANOTHER = problem(
    412,
    "`If-Match` or `If-Unmodified-Since` names another version of the file.",
    "The file has changed since you began. Start again.",
    "/collections/river_works/downloads/full.jsonl.gz",
)
NO_RANGE = problem(
    416,
    "The range begins after the file's end; `Content-Range` says how long the file is.",
    "The file has 104857 bytes; the range begins after its end.",
    "/collections/river_works/downloads/full.jsonl.gz",
)
FAULT = problem(
    500,
    "A defect of the service; its log has the request id.",
    "This is our fault, not yours. Report it with the request id.",
    "/",
)
AWAY = problem(
    503,
    "The database cannot be reached for the moment; `Retry-After` says when to ask again.",
    "The database cannot be reached for the moment. Try again in a few seconds.",
    "/collections",
)
FILE_AWAY = problem(
    503,
    "The database or the file cannot be read for the moment; `Retry-After` says when to ask again.",
    "The file is published, but cannot be read where it should lie. Try again later; if it stays so, tell the "
    "operators.",
    "/collections/river_works/downloads/full.jsonl.gz",
)
NOT_READY = problem(
    503,
    "The database cannot be reached, or its schema is older than this version.",
    "The database's schema is at 0001 and this version needs 0002. Run `bowerbird migrate`.",
    "/health/ready",
)

NO_JSON = problem(
    406,
    "`Accept` excludes JSON.",
    "There is no form of this that you accept. There are: application/json. Send: Accept: application/json",
    "/collections",
)
TOO_MANY = problem(
    429,
    "There were too many requests from this address, or with this key; `Retry-After` says when to ask again.",
    "More than 1200 a minute (reads) are too many. Try again in 3 s.",
    "/collections",
)
UNCOUNTED = ("getLiveness", "getReadiness")
"""Operations that may be asked as often as anybody likes."""

NOT_MODIFIED: Responses = {304: {"description": "Nothing has changed since the answer whose `ETag` was sent."}}

_DOWNLOAD_HEADERS = {
    "ETag": ("The file's SHA-256, in quotes.", f'"{SHA256}"'),
    "Last-Modified": ("When the file was published.", "Mon, 02 Mar 2026 04:00:11 GMT"),
    "Content-Disposition": (
        "A name to save it under.",
        'attachment; filename="river_works_full.jsonl.gz"',
    ),
}


_LOCATION = {
    "Location": {
        "description": "Where the file is.",
        "schema": {"type": "string"},
        "example": "https://files.example.org/exports/river_works/7/full.jsonl.gz",
    }
}


def download_answers() -> Responses:
    """Document the answers to GET of a file."""
    headers = {
        name: {"description": text, "schema": {"type": "string"}, "example": example}
        for name, (text, example) in _DOWNLOAD_HEADERS.items()
    }
    content = {type_: {"schema": {"type": "string", "format": "binary"}} for type_ in sorted(set(MEDIA_TYPES.values()))}
    whole: Responses = {200: {"description": "The file.", "headers": headers, "content": content}}
    elsewhere: Responses = {302: {"description": "Another server sends the file: `Location`.", "headers": _LOCATION}}
    part: Responses = {206: {"description": "The part that `Range` names.", "headers": headers, "content": content}}
    return merged(
        whole, part, elsewhere, NOT_MODIFIED, BAD_KEY, BAD_NAME, NO_FILE, PART_OF_ANOTHER, NO_RANGE, FAULT, FILE_AWAY
    )


def head_answers() -> Responses:
    """Document the answers to HEAD of a file: those to GET, without bodies, and without ranges."""
    without_body = {
        status: {name: value for name, value in response.items() if name != "content"}
        for status, response in download_answers().items()
    }
    return {status: response for status, response in without_body.items() if status not in (206, 416)}


def describe(
    app: FastAPI,
    *,
    server: str,
    page_size: int,
    tags: list[dict[str, str]],
    examples: dict[str, Any],
    models: dict[str, Any],
    security_schemes: dict[str, Any],
) -> dict[str, Any]:
    """Return the OpenAPI document of the application.

    :param tags: those of control; likewise its examples, the schemas of its bodies, and how keys are sent.

    Where the framework would say something else than what happens, this corrects it: a wrong parameter is a problem
    (400), not an error of its own form (422); a parameter that may be left out may not be null; and an example keeps
    its members that are null.
    """
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        tags=TAGS + tags,
        servers=[{"url": server}],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        routes=app.routes,
    )
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema()
    schemas |= models
    document["components"]["securitySchemes"] = security_schemes
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        _refuse(operation)
        if JSON in operation["responses"].get("422", {}).get("content", {}):
            del operation["responses"]["422"]
        _show(operation, (EXAMPLES | examples).get(operation["operationId"]))
        _offer_plain(operation)
        for parameter in operation.get("parameters", []):
            given, *_null = parameter["schema"].pop("anyOf", [{}])
            parameter["schema"] |= given
            if parameter["name"] == "limit":
                parameter["schema"]["default"] = page_size
    return document


def _offer_plain(operation: dict[str, Any]) -> None:
    """Add to each problem that it comes as plain JSON to who asks for that (problems.py)."""
    for answer in operation["responses"].values():
        content = answer.get("content", {})
        if PROBLEM_JSON in content:
            content.setdefault(JSON, content[PROBLEM_JSON])


def _refuse(operation: dict[str, Any]) -> None:
    """Add what every operation with a form to choose can answer, and every one that is counted."""
    answered = operation["responses"]
    is_json = any(JSON in answer.get("content", {}) for status, answer in answered.items() if status.startswith("2"))
    general = {**(NO_JSON if is_json else {}), **({} if operation["operationId"] in UNCOUNTED else TOO_MANY)}
    bodiless = all("content" not in answer for answer in answered.values())
    for status, answer in general.items():
        shown = {"description": answer["description"]} if bodiless else answer
        answered.setdefault(str(status), shown)
    operation["responses"] = dict(sorted(answered.items()))


def _show(operation: dict[str, Any], example: Any) -> None:
    """Add the example of an operation's success, and the one for holders of a key."""
    answers = (answer for status, answer in operation["responses"].items() if status.startswith("2"))
    bodies = (answer["content"][JSON] for answer in answers if JSON in answer.get("content", {}))
    content = next((content for content in bodies if "example" not in content), None)
    if example is None or content is None:
        return
    if full := OPERATOR_EXAMPLES.get(operation["operationId"]):
        content["examples"] = {"public": {"value": example}, "operator": {"value": full}}
    else:
        content["example"] = example
