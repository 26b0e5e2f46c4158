"""The description of control: security, bodies, refusals, and an example for every answer.

The examples go on with the story of openapi.py: job 8 of ``river_works`` failed, because a disk was full.
"""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from services.api import administration_openapi, openapi, webhooks_openapi
from services.api import control_schemas as shapes
from services.api.administration_schemas import CollectionChange
from services.api.bodies import MAX_REQUEST_BYTES, Body
from services.api.idempotency import HEADER
from services.api.keys import SCHEME
from services.api.openapi import Responses, merged, problem
from services.api.schemas import JSON, PROBLEMS
from shared.db.models import KeyScope

TAGS = [
    {"name": "dead letters", "description": "What was given up: to be tried again, or settled. With a key."},
    {"name": "queues", "description": "How much waits, and what is paused. With a key."},
    {"name": "audit", "description": "Who did what. With a key."},
    *webhooks_openapi.TAGS,
]

SECURITY_SCHEMES = {
    SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "bowerbird_…",
        "description": "An API key: `bowerbird key create NAME --scope operate`. Scopes: `read` sees what operators "
        "see; `operate` also steers; `admin` also deletes for good. Each includes those before it.",
    }
}

_RUN_ERROR = "/exports/river_works/8: No space left on device"
_MOMENT = "2026-03-09T04:00:09.204551Z"

_LETTER = {
    "id": 12,
    "kind": "UNIT",
    "status": "OPEN",
    "queue": "exporter.v1",
    "type": "RunUnit",
    "message_id": "5f0c7a52-3c43-4d0e-9c63-3f3c9f6a1d11",
    "reason": _RUN_ERROR,
    "attempts": 5,
    "source_id": "river_works",
    "job_id": 8,
    "task": "export",
    "task_id": 38,
    "unit_id": 51,
    "first_at": _MOMENT,
    "last_at": _MOMENT,
    "resolved_at": None,
    "resolved_by": "",
}
_LETTER_LINKS = [openapi.link("self", "/dead-letters/12"), openapi.link("job", "/jobs/8")]

_JOB = openapi.OPERATOR_JOB

_OUTCOME = {"id": 12, "outcome": "replayed", "detail": ""}
_OUTCOMES = {"dry_run": False, "letters": [], "outcomes": [_OUTCOME]}
_RETAINED = [
    {"source_id": "river_works", "job_id": 7, "delete": False, "reason": "it is the active job"},
    {
        "source_id": "river_works",
        "job_id": 2,
        "delete": True,
        "reason": "newer successful jobs replace it (1,150 records, against 1,200 of the active job)",
    },
]


def _paused(kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "paused": True, "changed": True}


def _resumed(kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "paused": False, "changed": True}


EXAMPLES: dict[str, Any] = {
    "listDeadLetters": {
        "links": [
            openapi.link("self", "/dead-letters?limit=1"),
            openapi.link("next", "/dead-letters?limit=1&before=1773028809204551-12"),
        ],
        "items": [_LETTER | {"links": _LETTER_LINKS}],
    },
    "getDeadLetter": _LETTER
    | {
        "traceback": "Traceback (most recent call last):\n  …\nOSError: [Errno 28] No space left on device\n",
        "body": {"schema_version": 1, "unit_id": 51, "task_id": 38, "job_id": 8, "task_type": "export"},
        "body_bytes": 196,
        "links": _LETTER_LINKS,
    },
    "replayDeadLetters": _OUTCOMES,
    "discardDeadLetters": _OUTCOMES | {"outcomes": [_OUTCOME | {"outcome": "discarded"}]},
    "replayDeadLetter": _OUTCOME,
    "discardDeadLetter": _OUTCOME | {"outcome": "discarded"},
    "runCollection": _JOB,
    "cancelJob": _JOB,
    "restartJob": _JOB,
    "changeJob": _JOB,
    "replayMessages": {"messages": 3, "published": True},
    "listPauses": {
        "links": [openapi.link("self", "/pauses")],
        "items": [{"kind": "queue", "name": "exporter.v1", "since": _MOMENT, "actor": "key:night-watch"}],
    },
    "pauseCollection": _paused("collection", "river_works"),
    "resumeCollection": _resumed("collection", "river_works"),
    "pauseQueue": _paused("queue", "exporter.v1"),
    "resumeQueue": _resumed("queue", "exporter.v1"),
    "listQueues": {
        "links": [openapi.link("self", "/queues")],
        "items": [{"name": "exporter.v1", "ready": 3, "waiting": 1, "dead": 1, "paused": True}],
    },
    "listAudit": {
        "links": [openapi.link("self", "/audit?job=8")],
        "items": [
            {
                "id": 31,
                "created": _MOMENT,
                "actor": "key:night-watch",
                "action": "job cancel",
                "job_id": 8,
                "details": {"reason": "wrong source"},
            }
        ],
    },
    "previewRetention": {"links": [openapi.link("self", "/retention")], "items": _RETAINED},
    "applyRetention": {"items": _RETAINED},
} | (administration_openapi.EXAMPLES | webhooks_openapi.EXAMPLES)
"""The example of each operation's success."""

BODIES: dict[type[Body], dict[str, Any]] = {
    **administration_openapi.BODIES,
    **webhooks_openapi.BODIES,
    shapes.Nothing: {},
    shapes.CancelRequest: {"reason": "wrong source"},
    shapes.RestartRequest: {"from_task": "export"},
    shapes.RunRequest: {"keep_all_data": False},
    shapes.JobChange: {"keep_all_data": True},
    shapes.LettersRequest: {"queue": "exporter", "reason": "space left", "since": "2d"},
    shapes.ReplayRequest: {"queue": "exporter", "since": "1h"},
    shapes.RetentionRequest: {"collection": "river_works"},
}
"""An example of each body."""


_SAYING = (shapes.LettersRequest, CollectionChange)
"""Bodies of which no member is needed, but any one is."""


IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Makes it safe to send the request again: the same request with the same key is carried out once, "
    "and answered alike for a day.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "examples": ['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
    },
}


def models() -> dict[str, Any]:
    """Return the schemas of the bodies, which the framework does not know, by name."""
    found: dict[str, Any] = {}
    for kind in BODIES:
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {})
        found[kind.__name__] = schema
    return found


def secured(scope: KeyScope) -> dict[str, Any]:
    """Document that a key of a scope is needed."""
    return {"security": [{SCHEME: [scope.value]}]}


def asking(kind: type[BaseModel], *, once: bool) -> dict[str, Any]:
    """Document an action's body, and whether it can be repeated under a key."""
    required = any(field.is_required() for field in kind.model_fields.values()) or kind in _SAYING
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    body: dict[str, Any] = {}
    if kind is not shapes.Nothing:
        content = {JSON: {"schema": schema, "example": BODIES[kind]}}  # type: ignore[index]
        body = {"requestBody": {"required": required, "content": content}}
    if once:
        body["parameters"] = [IDEMPOTENCY_KEY]
    return body


def success(description: str, *others: Responses, status: HTTPStatus = HTTPStatus.OK) -> Responses:
    """Document success (its example is in EXAMPLES) and the refusals that are an operation's own."""
    return merged(openapi.AWAY, {status.value: {"description": description}}, *others)


def with_refusals(responses: Responses, kind: type[Body], *, once: bool) -> Responses:
    """Add what every action can answer; an operation's own description of a status goes before."""
    general = [DENIED, TOO_LARGE, NOT_JSON, BAD_BODY, INVALID if kind is not shapes.Nothing else UNKNOWN_MEMBER]
    if once:
        general.append(UNDER_WAY)
    return merged(openapi.FAULT, *general, responses)


NO_KEY = problem(
    401,
    "No key came along, or it is not known, revoked or expired. `type` says which.",
    "This needs an API key of scope operate. Send: Authorization: Bearer KEY. Operators make one: "
    "bowerbird key create NAME --scope operate",
    "/dead-letters",
    f"{PROBLEMS}no-key",
)
DENIED = merged(
    NO_KEY,
    problem(
        403,
        "The key's scope is too small.",
        "This needs an API key of scope operate; dashboard is of scope read.",
        "/dead-letters/replay",
        f"{PROBLEMS}scope-too-small",
    ),
)
TOO_LARGE = problem(
    413,
    "The body is too large.",
    f"The body is over the limit of {MAX_REQUEST_BYTES:,} bytes.",
    "/dead-letters/replay",
)
NOT_JSON = problem(
    415,
    "The body is not said to be JSON.",
    "The body must be JSON, and said to be. Send: Content-Type: application/json",
    "/dead-letters/replay",
)
BAD_BODY = problem(
    400,
    "The body is not valid JSON, or a header is malformed.",
    "The body is not valid JSON: EOF while parsing an object at line 1 column 1.",
    "/dead-letters/replay",
    f"{PROBLEMS}malformed-body",
)
INVALID = problem(
    422,
    "The body has a member that is not known, or a value that is not possible; or its `Idempotency-Key` was another "
    "request's.",
    "jobs: there is no such member; there are: ids, job, collection, queue, reason, since, all, dry_run",
    "/dead-letters/replay",
    f"{PROBLEMS}invalid-body",
)
UNKNOWN_MEMBER = problem(
    422,
    "There is a body, and it has members.",
    "force: there is no such member; there are: none",
    "/queues/exporter/pause",
    f"{PROBLEMS}invalid-body",
)
KEY_REUSED = problem(
    422,
    "The `Idempotency-Key` was another request's.",
    "Another request had this Idempotency-Key before. Use a new one for each request.",
    "/processes/publish/execution",
    f"{PROBLEMS}idempotency-key-reused",
)
UNDER_WAY = problem(
    409,
    "The first request with this `Idempotency-Key` is still under way.",
    "The request that first had this Idempotency-Key is still under way. Ask again in a moment.",
    "/replay",
    f"{PROBLEMS}request-under-way",
)
NOT_POSSIBLE = problem(
    409,
    "The state of things does not allow it; the detail says why, and what does.",
    "Job 7 is completed; there is nothing to cancel.",
    "/jobs/7/cancel",
    f"{PROBLEMS}state-conflict",
)
IN_PROGRESS = problem(
    409,
    "The collection has a job in progress (`Link` leads to it), or is paused.",
    "Job 8 of river_works is not completed yet; a collection has one job at a time.",
    "/collections/river_works/jobs",
    f"{PROBLEMS}job-in-progress",
)
NO_LETTER = problem(
    404,
    "There is no such dead letter.",
    "There is no dead letter 4711; /dead-letters lists them.",
    "/dead-letters/4711",
    f"{PROBLEMS}no-such-dead-letter",
)
NO_QUEUE = problem(
    404,
    "There is no such queue.",
    "There is no queue 'printer'. There are: collector, processor, exporter, flattener.",
    "/queues/printer/pause",
    f"{PROBLEMS}no-such-queue",
)
BROKER_AWAY = problem(
    503,
    "The broker or the database cannot be reached for the moment; `Retry-After` says when to ask again.",
    "The broker cannot be reached for the moment. Nothing is lost. Try again in a few seconds.",
    "/queues",
)
