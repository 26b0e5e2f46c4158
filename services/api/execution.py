"""Executing a process (OGC API - Processes, section 7.11): inputs are judged, a job is planned, and its end waited for.

Whoever executes a process gets a job (201, with its address); or its results (200), if the process is short enough to
be waited for and the client did not ask otherwise (``Prefer: respond-async``). Waiting holds neither a thread nor a
connection, and a client that goes away ends only its waiting: the job goes on. One that takes longer than
:data:`LONGEST_WAIT_SECONDS` is answered with the job after all.

What is wrong with a request is said before a job is planned, and names the input.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from services.api import bodies, idempotency, keys, processes_openapi
from services.api.actions import announce, refusal
from services.api.idempotency import Answer, Once
from services.api.inputs import InvalidInputsError, read_inputs
from services.api.jobs import JobId, job_number, job_resource, no_such_job, require_summary
from services.api.preferences import Preference, read_preference
from services.api.problems import ProblemError
from services.api.processes import ProcessId, require_process
from services.api.results import results_of
from services.api.routes import Api, reader
from services.api.schemas import JSON, PROBLEMS, JobResource
from shared import callbacks, jobs, outbound
from shared.db.models import Collection, Job, JobStatus, KeyScope
from shared.errors import BowerbirdError
from shared.processes import ECHO, PUBLISH, Process
from shared.settings import Settings
from shared.views import JobState, named

LONGEST_WAIT_SECONDS = 90.0
"""How long a client is kept waiting that did not ask for a job."""
FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.02, 0.5
"""Between two looks at a job that is waited for, at first and at most."""
PUBLIC = "public"
"""Who executes a process without a key, for what is to be done once."""

router = APIRouter()

Reader = Annotated[Api, Depends(reader)]


class OutputRequest(BaseModel):
    """How an output is to be given."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    transmissionMode: str = Field(  # noqa: N815  the standard's names
        default="value", pattern="^(value|reference)$", description="`value`, or `reference`: as a link."
    )


class Subscriber(BaseModel):
    """Who is told of the job: URLs that are sent the results, the status or the exception."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    successUri: str = Field(max_length=2000)  # noqa: N815
    inProgressUri: str | None = Field(default=None, max_length=2000)  # noqa: N815
    failedUri: str | None = Field(default=None, max_length=2000)  # noqa: N815


class Execute(BaseModel):
    """What is to be executed with what. Members that are not known are ignored, as the standard's are open."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    inputs: dict[str, Any] = Field(default={}, description="Input → value, or array of values.")
    outputs: dict[str, OutputRequest] | None = Field(default=None, description="Which outputs; left out: all.")
    response: str | None = Field(
        default=None,
        pattern="^(raw|document)$",
        description="`document`: one JSON object with all outputs. `raw`: the output itself, or a multipart message.",
    )
    subscriber: Subscriber | None = None


@dataclass(frozen=True)
class Execution:
    """A request to execute a process, understood."""

    api: Api
    process: Process
    actor: str
    asked: Execute
    once: Once | None

    @property
    def request(self) -> dict[str, Any]:
        """How it is asked for, as the job keeps it; with the inputs once they are read."""
        outputs = {name: each.model_dump() for name, each in (self.asked.outputs or {}).items()}
        base = {"base": self.process.base} if self.process.base else {}
        return {"inputs": {}, "outputs": outputs, "response": self.asked.response} | base


@router.post(
    "/processes/{process_id}/execution",
    tags=["processes"],
    operation_id="execute",
    summary="Execute a process",
    description="Answers with a job (201), whose `Location` to follow; or with the results (200), where the process "
    "can be waited for and `Prefer: respond-async` was not sent. Most need a key: 401 and 403 say of which scope.",
    response_class=Response,
    status_code=HTTPStatus.CREATED,
    openapi_extra=processes_openapi.EXECUTION,
    responses=processes_openapi.execution(),
)
async def execute(request: Request, api: Reader, process_id: ProcessId) -> Response:
    """Execute."""
    process = require_process(api, process_id)
    if process.scope is not None:
        keys.require(api.holder, process.scope)
    body = await bodies.read(request)
    actor = api.holder.actor if api.holder is not None else PUBLIC
    execution = Execution(api, process, actor, _parse(process, body), idempotency.once_of(request, actor, body))
    preference = read_preference(request.headers.getlist("prefer"))
    answer, replayed = await run_in_threadpool(_plan, execution)
    number = int(json.loads(answer.body)["id"])
    waited = _wait_seconds(process, preference)
    if waited and await _ended(api, number, waited):
        return await run_in_threadpool(_results, api, number)
    response = answer.response(replayed=replayed)
    if preference.asynchronous:
        response.headers["Preference-Applied"] = "respond-async"
    return response


@router.delete(
    "/jobs/{job_id}",
    tags=["processes"],
    operation_id="dismissJob",
    summary="Dismiss a job",
    description="Ends a job that has not ended, as `cancel` does. One that has is deleted with its files, unless its "
    "collection publishes it. A key is needed, of scope operate or, to delete, admin; except for jobs about no "
    "collection, of a process that needs none.",
    response_model=JobResource,
    openapi_extra=processes_openapi.DISMISSAL,
    responses=processes_openapi.dismissal(),
)
def dismiss(api: Reader, job_id: JobId) -> Response:
    """Dismiss."""
    number = job_number(job_id)
    with api.context.sessions.begin() as session:
        job = session.scalar(select(Job).where(Job.id == number))
        if job is None:
            raise no_such_job(number)
        over = job.status == JobStatus.COMPLETED
        actor = _may_dismiss(api, job, over=over)
        require_summary(session, api, number)
        resource = job_resource(session, api, number) if over else None
        try:
            if over:
                jobs.delete_job(session, number, actor=actor if api.holder is not None else None)
            else:
                jobs.cancel_job(session, number, actor=actor)
        except BowerbirdError as error:
            raise refusal(api, error) from error
        session.flush()
        resource = resource or job_resource(session, api, number)
        resource = resource.model_copy(update={"status": JobState.DISMISSED})
        body = api.body(resource)
    return Response(body, headers={"Cache-Control": "no-store", "Content-Length": str(len(body))}, media_type=JSON)


def _may_dismiss(api: Api, job: Job, *, over: bool) -> str:
    """Return who asks. Raise a problem if they may not: 401, 403."""
    process = api.context.processes.get(job.process)
    if job.collection_id is None and process is not None and process.scope is None:
        return api.holder.actor if api.holder is not None else PUBLIC
    return keys.require(api.holder, KeyScope.ADMIN if over else KeyScope.OPERATE).actor


def _parse(process: Process, body: bytes) -> Execute:
    try:
        asked = Execute.model_validate_json(body or b"{}")
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise _invalid("; ".join(faults)) from None
    if unknown := [name for name in asked.outputs or {} if name not in process.outputs]:
        raise _invalid(f"{unknown[0]:.100}: there is no such output; there are: {', '.join(process.outputs)}")
    return asked


def _invalid(detail: str, *, path: str = "") -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, detail, kind=f"{PROBLEMS}invalid-inputs", path=path)


def _plan(execution: Execution) -> tuple[Answer, bool]:
    """Plan the job; return the answer that tells of it, and whether it had been given before."""
    api = execution.api
    try:
        inputs = read_inputs(execution.process, execution.asked.inputs, partial(_fetch, api.context.settings))
    except InvalidInputsError as error:
        raise _invalid(str(error)) from None
    try:
        with api.context.sessions.begin() as session:
            if execution.once is not None and (before := execution.once.begin(session)) is not None:
                return before, True
            job = _job_of(session, execution, inputs)
            _subscribe(session, execution, job.id)
            answer = _created(session, api, job.id)
            if execution.once is not None:
                execution.once.keep(session, answer)
    except BowerbirdError as error:
        raise refusal(api, error) from error
    announce(api, job.id)
    return answer, False


def _fetch(settings: Settings, url: str) -> bytes:
    """Return what an input refers to. Raise ValueError if it cannot or may not be had."""
    try:
        return outbound.fetch(url, settings, max_bytes=bodies.MAX_REQUEST_BYTES)
    except BowerbirdError as error:
        raise ValueError(str(error)) from None


def _subscribe(session: Session, execution: Execution, number: int) -> None:
    """Have the addresses told that were named with the request."""
    told = execution.asked.subscriber
    if told is None:
        return
    try:
        callbacks.subscribe(
            session,
            number,
            success_uri=told.successUri,
            in_progress_uri=told.inProgressUri,
            failed_uri=told.failedUri,
            settings=execution.api.context.settings,
        )
    except outbound.ForbiddenAddressError as error:
        raise _invalid(f"subscriber: {error}") from None


def _job_of(session: Session, execution: Execution, inputs: dict[str, Any]) -> Job:
    process, request = execution.process, execution.request | {"inputs": inputs}
    if process.kind == ECHO:
        return jobs.plan_lone_job(session, process=process.id, task_type=process.task, request=request)
    collection = session.scalar(named(select(Collection), inputs["collection"]))
    if collection is None:
        detail = f"collection: there is no collection {inputs['collection']!r:.110}; /collections lists them."
        raise _invalid(detail, path="/collections")
    plan = execution.api.context.settings.job_tasks_plan
    told: dict[str, Any] = {"plan": plan, "actor": execution.actor, "process": process.id, "request": request}
    if process.kind == PUBLISH:
        return jobs.plan_job(session, collection, keep_all_data=inputs["keep_all_data"], **told)
    if process.task == "collect":
        return jobs.plan_job(session, collection, only=process.task, keep_all_data=True, **told)
    return jobs.run_stage(session, collection, process.task, job_id=inputs.get("job"), **told)


def _created(session: Session, api: Api, number: int) -> Answer:
    resource = job_resource(session, api, number)
    links = ", ".join(f'<{link.href}>; rel="{link.rel}"; type="{link.type}"' for link in resource.links)
    location = api.link("self", f"/jobs/{number}").href
    return Answer(HTTPStatus.CREATED, api.body(resource), {"Location": location, "Link": links})


def _wait_seconds(process: Process, preference: Preference) -> float:
    """Return how long the client is to be kept waiting for the results; 0: not at all."""
    if not process.sync:
        return 0
    if preference.asynchronous:
        return float(min(preference.wait_seconds or 0, LONGEST_WAIT_SECONDS))
    return LONGEST_WAIT_SECONDS


async def _ended(api: Api, number: int, seconds: float) -> bool:
    """Wait until the job has ended, so long at most; return whether it has."""
    deadline, pause = time.monotonic() + seconds, FIRST_LOOK_SECONDS
    while not await run_in_threadpool(_is_over, api, number):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LAST_LOOK_SECONDS)
    return True


def _is_over(api: Api, number: int) -> bool:
    with api.context.sessions() as session:
        return session.scalar(select(Job.status).where(Job.id == number)) in (None, JobStatus.COMPLETED)


def _results(api: Api, number: int) -> Response:
    """Return the results, with a link to the job (R: /req/core/job-results-success-sync)."""
    link = f"<{api.link('monitor', f'/jobs/{number}').href}>; rel=monitor"
    try:
        with api.context.sessions() as session:
            response = results_of(session, api, number)
    except ProblemError as error:
        raise _with_link(error, link) from None
    response.headers.append("Link", link)
    response.headers["Cache-Control"] = "no-store"
    return response


def _with_link(error: ProblemError, link: str) -> ProblemError:
    headers = error.headers | {"Link": link}
    return ProblemError(error.status, error.detail, kind=error.type.kind, path=error.path, headers=headers)
