"""The description of processes, their execution and their results, with an example for every answer.

The examples go on with the story of openapi.py: job 7 published ``river_works``.
"""

from typing import Any

from services.api import control_openapi, openapi
from services.api.keys import SCHEME
from services.api.openapi import Responses, merged, problem
from services.api.schemas import JSON, NO_SUCH_PROCESS, PROBLEMS, RESULT_NOT_READY
from shared.db.models import KeyScope

TAGS = [{"name": "processes", "description": "What can be executed, by the standard OGC API - Processes."}]

_RESULTS = {"coverage": {"value": {"/ocid": 1_200, "/tender/title": 1_188}}}

EXAMPLES: dict[str, Any] = {
    "getConformance": {
        "links": [openapi.link("self", "/conformance")],
        "conformsTo": ["http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/core"],
    },
    "execute": openapi.JOB,
    "dismissJob": openapi.JOB | {"status": "dismissed"},
}
"""The example of each operation's success; those of the processes themselves are made from what is offered."""

NO_PROCESS = problem(
    404,
    "There is no such process.",
    "There is no process 'print'; /processes lists them.",
    "/processes/print",
    NO_SUCH_PROCESS,
)
INVALID_INPUTS = problem(
    400,
    "The body is not valid JSON; or an input is missing, is not known, or does not fit. The detail names it.",
    "collection: is required",
    "/processes/publish/execution",
    f"{PROBLEMS}invalid-inputs",
)
NO_RESULTS = merged(
    problem(
        400,
        "The job failed; the detail says why.",
        "export: /exports/river_works/8: No space left on device",
        "/jobs/8/results",
        f"{PROBLEMS}process-failed",
    ),
    problem(
        404,
        "There is no such job or output, it is not public, or the job has not ended yet.",
        "Job 8 is running. Its results are here once it is successful: follow /jobs/8.",
        "/jobs/8/results",
        RESULT_NOT_READY,
    ),
)
DISMISSED = problem(
    410,
    "The job was dismissed.",
    "Job 8 was dismissed; there are no results.",
    "/jobs/8/results",
    f"{PROBLEMS}job-dismissed",
)

_ALL = {
    "description": "Output → value, link, or `{value: …}` around an object; of a single raw output, the value itself."
}
_ANY = {"description": "The value, as the process's description has it."}


def _result_content() -> dict[str, Any]:
    return {
        JSON: {"schema": _ALL, "example": _RESULTS},
        "text/plain": {"schema": {"type": "string"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/related": {"schema": {"type": "string", "format": "binary"}},
    }


def results(description: str, *others: Responses) -> Responses:
    """Document the answers to a request for results."""
    found: Responses = {
        200: {"description": description, "content": _result_content()},
        204: {"description": "All outputs were asked for by reference: their addresses are in `Link`."},
    }
    return merged(openapi.FAULT, openapi.BAD_KEY, openapi.AWAY, openapi.NOT_MODIFIED, found, *others)


def one_result(description: str, *others: Responses) -> Responses:
    """Document the answers to a request for one output."""
    content = {name: value for name, value in _result_content().items() if name != "multipart/related"}
    content[JSON] = {"schema": _ANY, "example": _RESULTS["coverage"]["value"]}
    found: Responses = {200: {"description": description, "content": content}}
    return merged(openapi.FAULT, openapi.BAD_KEY, openapi.AWAY, openapi.NOT_MODIFIED, found, *others)


_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`respond-async`: answer with the job at once, where the process could be waited for; with "
    "`wait=10`, after so many seconds at most.",
    "schema": {"type": "string", "examples": ["respond-async"]},
}
EXECUTION: dict[str, Any] = {
    "security": [{}, {SCHEME: [KeyScope.OPERATE.value]}],
    "parameters": [_PREFER, control_openapi.IDEMPOTENCY_KEY],
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {"$ref": "#/components/schemas/Execute"},
            }
        },
    },
}
DISMISSAL: dict[str, Any] = {"security": [{}, {SCHEME: [KeyScope.OPERATE.value]}]}


def execution() -> Responses:
    """Document the answers to an execution."""
    created: Responses = {
        200: {"description": "The results of a process that was waited for.", "content": _result_content()},
        201: {
            "description": "The job. `Location` is its address.",
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/JobResource"}}},
        },
        204: {"description": "It was waited for, and all outputs were asked for by reference: see `Link`."},
    }
    refusals = (control_openapi.DENIED, NO_PROCESS, control_openapi.TOO_LARGE, control_openapi.NOT_JSON)
    conflict = merged(control_openapi.UNDER_WAY, control_openapi.IN_PROGRESS)
    return merged(openapi.FAULT, openapi.AWAY, *refusals, conflict, control_openapi.KEY_REUSED, INVALID_INPUTS, created)


def dismissal() -> Responses:
    """Document the answers to a dismissal."""
    gone: Responses = {200: {"description": "The job, dismissed."}}
    return merged(
        openapi.FAULT, openapi.AWAY, control_openapi.DENIED, openapi.NO_JOB, control_openapi.NOT_POSSIBLE, gone
    )


def models() -> dict[str, Any]:
    """Return the schema of an execution, which the framework does not know, by name."""
    from services.api.execution import Execute  # noqa: PLC0415  which is documented by this module

    schema = Execute.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs", {}), "Execute": schema}
