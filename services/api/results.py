"""The results of a job over HTTP, in each form that OGC API - Processes has for them (its section 7.13).

How a job was executed decides: ``response`` ``document`` is one JSON object with all outputs; ``raw`` is the output
itself, or a multipart message where there are several. An output that was asked for by reference is a link to
``/jobs/{id}/results/{output}``. Asked without saying which, a client that accepts only JSON gets a document where there
are several; so does whoever asks for the results of a job that nobody executed over this API.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Path as PathParameter
from sqlalchemy.orm import Session
from starlette.responses import Response

from services.api import openapi, processes_openapi
from services.api.jobs import JobId, job_number, require_summary
from services.api.problems import ProblemError
from services.api.routes import Api, ReaderParameter
from services.api.schemas import JSON, NO_SUCH_OUTPUT, PROBLEMS, RESULT_NOT_READY
from shared import results
from shared.processes import BUILT_IN, Process, kind_of
from shared.views import JobState, JobSummary

TEXT = "text/plain; charset=utf-8"

router = APIRouter()

OutputId = Annotated[str, PathParameter(description="The output's name.", examples=["files"])]


@router.head("/jobs/{job_id}/results", include_in_schema=False)
@router.get(
    "/jobs/{job_id}/results",
    tags=["processes"],
    operation_id="getResults",
    summary="Show a job's results",
    description="The outputs that were asked for. 404 until the job has ended; 400 with the reason if it failed; 410 "
    "if it was dismissed.",
    response_class=Response,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=processes_openapi.results("The results.", processes_openapi.NO_RESULTS, processes_openapi.DISMISSED),
)
def get_results(api: ReaderParameter, job_id: JobId) -> Response:
    """Show results."""
    number = job_number(job_id)
    with api.context.sessions() as session:
        return results_of(session, api, number)


@router.head("/jobs/{job_id}/results/{output_id}", include_in_schema=False)
@router.get(
    "/jobs/{job_id}/results/{output_id}",
    tags=["processes"],
    operation_id="getResult",
    summary="Show one output of a job",
    description="The value itself.",
    response_class=Response,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=processes_openapi.one_result("The output.", processes_openapi.NO_RESULTS, processes_openapi.DISMISSED),
)
def get_result(api: ReaderParameter, job_id: JobId, output_id: OutputId) -> Response:
    """Show one."""
    number = job_number(job_id)
    with api.context.sessions() as session:
        outputs, request = _outputs(session, api, number)
        process = _process(require_summary(session, api, number), request)
    if output_id not in outputs:
        detail = f"There is no output {output_id!r:.100}; there are: {', '.join(outputs) or 'none'}."
        raise ProblemError(HTTPStatus.NOT_FOUND, detail, kind=NO_SUCH_OUTPUT)
    return api.send(*_raw(api, process, output_id, outputs[output_id]))


def results_of(session: Session, api: Api, number: int) -> Response:
    """Return the results of a job that has ended. Raise a problem if there are none: 404, 410, or 400 as it failed."""
    outputs, request = _outputs(session, api, number)
    links = {name: api.link("item", f"/jobs/{number}/results/{name}").href for name in outputs}
    references = [name for name in outputs if results.is_reference(request, name)]
    if _wants_document(api, request, outputs):
        document = results.results_document(outputs, request, links)
        return api.send(json.dumps(document, ensure_ascii=False).encode(), JSON)
    if len(references) == len(outputs):
        header = ", ".join(f'<{links[name]}>; rel="item"; title="{name}"' for name in references)
        headers = api.caching() | ({"Link": header} if header else {})
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    process = _process(require_summary(session, api, number), request)
    if len(outputs) == 1:
        ((name, value),) = outputs.items()
        return api.send(*_raw(api, process, name, value))
    parts = {
        name: (b"", "", links[name]) if name in references else (*_raw(None, process, name, value), "")
        for name, value in outputs.items()
    }
    return api.send(*_multipart(parts))


def _outputs(session: Session, api: Api, number: int) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return the outputs of a job that was successful, and how it was asked for."""
    view = require_summary(session, api, number)
    _require_success(view)
    request = results.request_of(session, number)
    outputs = results.outputs_of(session, number, base_url=api.link("self", "").href, public_only=api.public_only)
    return outputs, request


def _process(view: JobSummary, request: Mapping[str, Any]) -> Process | None:
    return BUILT_IN.get(kind_of(view.process, request))


def _require_success(view: JobSummary) -> None:
    if view.state in (JobState.ACCEPTED, JobState.RUNNING):
        path = f"/jobs/{view.id}"
        detail = f"Job {view.id} is {view.state}. Its results are here once it is successful: follow {path}."
        raise ProblemError(HTTPStatus.NOT_FOUND, detail, kind=RESULT_NOT_READY, path=path)
    if view.state == JobState.DISMISSED:
        detail = f"Job {view.id} was dismissed; there are no results."
        raise ProblemError(HTTPStatus.GONE, detail, kind=f"{PROBLEMS}job-dismissed")
    if view.state == JobState.FAILED:
        detail = view.message or f"Job {view.id} failed."
        raise ProblemError(HTTPStatus.BAD_REQUEST, detail, kind=f"{PROBLEMS}process-failed")


def _wants_document(api: Api, request: Mapping[str, Any], outputs: Mapping[str, Any]) -> bool:
    if not request or request.get("response") == "document":
        return True
    accepted = api.request.headers.get("accept", "*/*").partition(";")[0].strip().lower()
    return request.get("response") is None and len(outputs) > 1 and accepted == JSON


def _raw(api: Api | None, process: Process | None, name: str, value: Any) -> tuple[bytes, str]:
    """Return an output itself and its media type. A text is plain, unless the client accepts only JSON."""
    parameter = process.outputs.get(name) if process is not None else None
    schema = parameter.schema if parameter is not None else {}
    only_json = api is not None and JSON in api.request.headers.get("accept", "")
    if isinstance(value, str) and not only_json:
        if schema.get("contentEncoding") == "base64":
            return base64.b64decode(value), schema.get("contentMediaType", "application/octet-stream")
        return value.encode(), TEXT
    return json.dumps(value, ensure_ascii=False).encode(), JSON


def _multipart(parts: Mapping[str, tuple[bytes, str, str]]) -> tuple[bytes, str]:
    """Return a multipart/related message (RFC 2387): name → content, media type, or the address of what is away."""
    boundary = hashlib.sha256(b"".join(content for content, _, _ in parts.values())).hexdigest()[:32]
    message = bytearray()
    for name, (content, media_type, location) in parts.items():
        about = f"Content-Location: {location}" if location else f"Content-Type: {media_type}"
        message += f"--{boundary}\r\nContent-ID: <{name}>\r\n{about}\r\n\r\n".encode() + content + b"\r\n"
    message += f"--{boundary}--\r\n".encode()
    first = next((media_type for _, media_type, _ in parts.values() if media_type), JSON)
    return bytes(message), f'multipart/related; boundary={boundary}; type="{first.partition(";")[0]}"'
