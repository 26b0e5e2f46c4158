"""The API's description of itself: OpenAPI, with an example for every answer.

The examples tell one story: job 7 published the collection ``river_works``. Each is what the server would send for it;
a test holds every example against its schema.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.api.schemas import JOB_LIST, JSON, NO_SUCH_JOB, PROBLEM_JSON, Problem
from shared.exports import MEDIA_TYPES
from shared.views import COUNTS

DESCRIPTION = """Public collections, the jobs that keep them published, and their files.

Everything here may be read by anyone; a collection that is not public, and all that belongs to it, is answered like
one that does not exist. Times are UTC. Answers carry an `ETag`: send it back as `If-None-Match` and get `304` while
nothing has changed. Errors are problem documents (RFC 9457)."""

TAGS = [
    {"name": "collections", "description": "Data of one source each, kept published."},
    {"name": "downloads", "description": "The files of a collection's active job."},
    {"name": "jobs", "description": "Passes over a collection: collect, process, export, coverage, flatten."},
    {"name": "service", "description": "Where to begin, and whether the service is well."},
]

BASE = "https://data.example.org"
REQUEST_ID = "0b2a0c6e-58a5-4b52-8a3c-2f6d1c1c9a10"
SHA256 = "3a7bd3e2360a3d29eea436fcfb7e44c735d117c42d1c1835420b6b9942dd4f1b"


def _link(rel: str, path: str, type_: str = JSON) -> dict[str, str]:
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
        "start": f"2026-03-02T04:00:{start:02}Z",
        "end": f"2026-03-02T04:00:{end:02}Z",
        "duration_seconds": float(end - start),
        "units": {"planned": 0, "queued": 0, "running": 0, "completed": 1, "failed": 0},
        "attempts": 1,
        "progress": {"done": done, "total": done, "of": "records"},
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
    "country": "Ruritania",
    "region": "EU",
    "language": "English",
    "update_frequency": "DAILY",
    "retrieval_frequency": "WEEKLY",
    "source_url": "https://rivers.example/open-contracting",
    "frozen": False,
    "public": True,
    "last_retrieved": "2026-03-02",
    "active_job_id": 7,
    "publication_policy": "https://rivers.example/policy",
    "license": "https://creativecommons.org/licenses/by/4.0/",
    "date_from": "2024-01-08",
    "date_to": "2026-02-27",
    "ocid_prefix": "ocds-a1b2c3",
    "created": "2026-01-05T09:30:00Z",
    "modified": "2026-03-02T04:00:14.512006Z",
    "links": [
        _link("self", "/collections/river_works"),
        _link("jobs", "/jobs?collection=river_works"),
        _link("downloads", "/collections/river_works/downloads"),
    ],
}

COLLECTION_PAGE = {
    "links": [_link("self", "/collections?limit=1"), _link("next", "/collections?limit=1&after=3")],
    "items": [COLLECTION],
}

DOWNLOAD_LIST = {
    "links": [
        _link("self", "/collections/river_works/downloads"),
        _link("collection", "/collections/river_works"),
        _link("job", "/jobs/7"),
    ],
    "job_id": 7,
    "items": [
        file
        | {
            "links": [
                _link(
                    "enclosure",
                    f"/collections/river_works/downloads/{file['name']}",
                    MEDIA_TYPES[file["name"].partition(".")[2]],
                )
            ]
        }
        for file in FILES
    ],
}

JOB_LINKS = [_link("self", "/jobs/7"), _link("collection", "/collections/river_works")]

JOB_ITEM = {
    "id": 7,
    "collection_id": 3,
    "source_id": "river_works",
    "status": "COMPLETED",
    "result": "OK",
    "task": None,
    "start": "2026-03-02T04:00:01.120433Z",
    "end": "2026-03-02T04:00:14.512006Z",
    "duration_seconds": 13.391573,
    "created": "2026-03-02T04:00:01.034712Z",
}

JOB_PAGE = {
    "links": [_link("self", "/jobs?collection=river_works")],
    "items": [JOB_ITEM | {"links": JOB_LINKS}],
}

JOB = JOB_ITEM | {
    "archived": True,
    "keep_all_data": False,
    "date_from": "2024-01-08",
    "date_to": "2026-02-27",
    "ocid_prefix": "ocds-a1b2c3",
    "license": "https://creativecommons.org/licenses/by/4.0/",
    "publication_policy": "https://rivers.example/policy",
    "counts": dict.fromkeys(COUNTS, 0) | {"tenders": 1_200, "awards": 950, "documents": 4_310},
    "coverage": {"/ocid": 1_200, "/tender/title": 1_188},
    "context": {"records": 2_460, "compiled": 1_200},
    "tasks": [
        _task(1, "collect", 1, 4, 2_460),
        _task(2, "process", 4, 7, 2_460),
        _task(3, "export", 7, 11, 1_200),
        _task(4, "coverage", 11, 12, 1_200),
        _task(5, "flatten", 12, 14, 1_200),
    ],
    "files": FILES,
    "links": JOB_LINKS,
}

LANDING = {
    "links": [
        _link("self", "/"),
        _link("service-desc", "/openapi.json"),
        _link("service-doc", "/docs", "text/html"),
        _link("collections", "/collections"),
        _link(JOB_LIST, "/jobs"),
        _link("status", "/health/ready"),
    ],
    "title": "Bowerbird",
    "description": "Open data, kept published.",
}

HEALTH = {"status": "ok"}

EXAMPLES = {
    "getLanding": LANDING,
    "listCollections": COLLECTION_PAGE,
    "getCollection": COLLECTION,
    "listDownloads": DOWNLOAD_LIST,
    "listJobs": JOB_PAGE,
    "getJob": JOB,
    "getLiveness": HEALTH,
    "getReadiness": HEALTH,
}
"""The example of each operation that answers with JSON."""

Responses = dict[int | str, dict[str, Any]]


def answers(description: str, *others: Responses) -> Responses:
    """Document a route's answers: success (its example is in EXAMPLES), the others given, and a defect (500)."""
    return merged({200: {"description": description}}, *others, FAULT)


def merged(*parts: Responses) -> Responses:
    """Join documented answers."""
    return {status: response for part in parts for status, response in part.items()}


def problem(status: int, title: str, when: str, detail: str, path: str, kind: str = "about:blank") -> Responses:
    """Document one problem."""
    example = {
        "type": kind,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": path,
        "request_id": REQUEST_ID,
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    return {status: {"description": when, "content": {PROBLEM_JSON: {"schema": schema, "example": example}}}}


BAD_QUERY = problem(
    400,
    "Bad Request",
    "A query value is wrong; the detail names it.",
    "limit: Input should be less than or equal to 1000 (it was '5000')",
    "/collections",
)
BAD_NAME = problem(
    400,
    "Bad Request",
    "The name is not one that a download can have.",
    "'full.zip' is no name of a download. Names are full, undated or a year of four digits, then .jsonl.gz, "
    ".csv.tar.gz or .xlsx: full.jsonl.gz, 2021.csv.tar.gz.",
    "/collections/river_works/downloads/full.zip",
)
NO_COLLECTION = problem(
    404,
    "Not Found",
    "There is no such collection, or it is not public.",
    "There is no collection 'hill_works'; /collections lists them.",
    "/collections/hill_works",
)
NO_FILE = problem(
    404,
    "Not Found",
    "There is no such collection, it is not public, or its active job has no such file.",
    "There is no file '1999.xlsx'; /collections/river_works/downloads lists those there are.",
    "/collections/river_works/downloads/1999.xlsx",
)
NO_JOB = problem(
    404,
    "Not Found",
    "There is no such job, or its collection is not public.",
    "There is no job 4711; /jobs lists them.",
    "/jobs/4711",
    NO_SUCH_JOB,
)
PART_OF_ANOTHER = problem(
    412,
    "Precondition Failed",
    "`If-Match` or `If-Unmodified-Since` names another version of the file.",
    "The file has changed since you began. Start again.",
    "/collections/river_works/downloads/full.jsonl.gz",
)
NO_RANGE = problem(
    416,
    "Requested Range Not Satisfiable",
    "The range begins after the file's end; `Content-Range` says how long the file is.",
    "The file has 104857 bytes; the range begins after its end.",
    "/collections/river_works/downloads/full.jsonl.gz",
)
FAULT = problem(
    500,
    "Internal Server Error",
    "A defect of the service; its log has the request id.",
    "This is our fault, not yours. Report it with the request id.",
    "/",
)
AWAY = problem(
    503,
    "Service Unavailable",
    "The database cannot be reached for the moment; `Retry-After` says when to ask again.",
    "The database cannot be reached for the moment. Try again in a few seconds.",
    "/collections",
)
FILE_AWAY = problem(
    503,
    "Service Unavailable",
    "The database or the file cannot be read for the moment; `Retry-After` says when to ask again.",
    "The file is published, but cannot be read where it should lie. Try again later; if it stays so, tell the "
    "operators.",
    "/collections/river_works/downloads/full.jsonl.gz",
)
NOT_READY = problem(
    503,
    "Service Unavailable",
    "The database cannot be reached, or its schema is older than this version.",
    "The database's schema is at 0001 and this version needs 0002. Run `bowerbird migrate`.",
    "/health/ready",
)

NOT_MODIFIED: Responses = {304: {"description": "Nothing has changed since the answer whose `ETag` was sent."}}

_DOWNLOAD_HEADERS = {
    "ETag": ("The file's SHA-256, in quotes.", f'"{SHA256}"'),
    "Last-Modified": ("When the file was published.", "Mon, 02 Mar 2026 04:00:11 GMT"),
    "Content-Disposition": (
        "A name to save it under.",
        'attachment; filename="river_works_full.jsonl.gz"',
    ),
}


def download_answers() -> Responses:
    """Document the answers to GET of a file."""
    headers = {
        name: {"description": text, "schema": {"type": "string"}, "example": example}
        for name, (text, example) in _DOWNLOAD_HEADERS.items()
    }
    content = {type_: {"schema": {"type": "string", "format": "binary"}} for type_ in sorted(set(MEDIA_TYPES.values()))}
    whole: Responses = {200: {"description": "The file.", "headers": headers, "content": content}}
    part: Responses = {206: {"description": "The part that `Range` names.", "headers": headers, "content": content}}
    return merged(whole, part, NOT_MODIFIED, BAD_NAME, NO_FILE, PART_OF_ANOTHER, NO_RANGE, FAULT, FILE_AWAY)


def head_answers() -> Responses:
    """Document the answers to HEAD of a file: those to GET, without bodies, and without ranges."""
    without_body = {
        status: {name: value for name, value in response.items() if name != "content"}
        for status, response in download_answers().items()
    }
    return {status: response for status, response in without_body.items() if status not in (206, 416)}


def describe(app: FastAPI, *, server: str, page_size: int) -> dict[str, Any]:
    """Return the OpenAPI document of the application.

    Where the framework would say something else than what happens, this corrects it: a wrong parameter is a problem
    (400), not an error of its own form (422); a parameter that may be left out may not be null; and an example keeps
    its members that are null.
    """
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        tags=TAGS,
        servers=[{"url": server}],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        routes=app.routes,
    )
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema()
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        operation["responses"].pop("422", None)
        if example := EXAMPLES.get(operation["operationId"]):
            operation["responses"]["200"]["content"][JSON]["example"] = example
        for parameter in operation.get("parameters", []):
            given, *_null = parameter["schema"].pop("anyOf", [{}])
            parameter["schema"] |= given
            if parameter["name"] == "limit":
                parameter["schema"]["default"] = page_size
    return document
