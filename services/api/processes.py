"""OGC API - Processes - Part 1: Core: what this server conforms to, and its processes.

Executing one is execution.py, the job that comes of it jobs.py, and what it gives results.py.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter
from starlette.responses import Response

from services.api import openapi, processes_openapi, schemas
from services.api.jobs import CappedLimit
from services.api.problems import ProblemError
from services.api.routes import LARGEST_PAGE, Api, ApiParameter, ReaderParameter
from services.api.schemas import JOB_LIST, JSON, NO_SUCH_PROCESS, OGC_RELATIONS, Link
from shared.processes import VERSION, Parameter, Process

CONFORMANCE = tuple(
    f"http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/{name}"
    for name in ("core", "ogc-process-description", "json", "oas30", "job-list", "dismiss", "callback")
)

MakeLink = Callable[[str, str], Link]
"""Makes a link of a relation and a path: one of an answer, or of an example."""

router = APIRouter()

ProcessId = Annotated[str, PathParameter(description="The process's `id`.", examples=["publish"])]


@router.head("/conformance", include_in_schema=False)
@router.get(
    "/conformance",
    tags=["processes"],
    operation_id="getConformance",
    summary="Say what standard this conforms to",
    description="The conformance classes of OGC API - Processes that this server fulfils.",
    response_model=schemas.Conformance,
    responses=openapi.answers("The conformance classes.", openapi.NOT_MODIFIED),
)
def get_conformance(api: ApiParameter) -> Response:
    """Say it."""
    links = [api.link("self", "/conformance")]
    return api.answer(schemas.Conformance(conformsTo=list(CONFORMANCE), links=links))


@router.head("/processes", include_in_schema=False)
@router.get(
    "/processes",
    tags=["processes"],
    operation_id="listProcesses",
    summary="List the processes",
    description="What can be executed, in short.",
    response_model=schemas.ProcessList,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=openapi.reads("The processes.", openapi.NOT_MODIFIED, openapi.BAD_QUERY),
)
def list_processes(
    api: ReaderParameter,
    limit: CappedLimit = None,
    after: Annotated[
        str | None, Query(description="Taken from a `next` link.", max_length=100, examples=["publish"])
    ] = None,
) -> Response:
    """List processes."""
    size = min(limit or api.context.page_size, LARGEST_PAGE)
    ids = [process.id for process in api.context.processes.values() if _is_seen(process, api)]
    start = ids.index(after) + 1 if after in ids else 0
    page = [api.context.processes[process_id] for process_id in ids[start : start + size]]
    following = page[-1].id if start + size < len(ids) else None
    links = api.page_links("/processes", {"limit": limit}, "after", after, following)
    items = [schemas.ProcessSummary.model_construct(**_summary(api.link, process)) for process in page]
    return api.answer(schemas.ProcessList(processes=items, links=links))


@router.head("/processes/{process_id}", include_in_schema=False)
@router.get(
    "/processes/{process_id}",
    tags=["processes"],
    operation_id="getProcess",
    summary="Describe a process",
    description="What it takes and gives, each with a schema.",
    response_model=schemas.ProcessDescription,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=openapi.reads("The description.", openapi.NOT_MODIFIED, processes_openapi.NO_PROCESS),
)
def get_process(api: ReaderParameter, process_id: ProcessId) -> Response:
    """Describe one."""
    return api.answer(_description(api.link, require_process(api, process_id)))


def require_process(api: Api, process_id: str) -> Process:
    """Return a process. Raise a problem (404) if there is none, or it may not be seen."""
    process = api.context.processes.get(process_id)
    if process is None or not _is_seen(process, api):
        detail = f"There is no process {process_id!r:.100}; /processes lists them."
        raise ProblemError(HTTPStatus.NOT_FOUND, detail, kind=NO_SUCH_PROCESS, path="/processes")
    return process


def illustrate(document: dict[str, Any], processes: Mapping[str, Process]) -> dict[str, Any]:
    """Return the OpenAPI document with the first process that everyone sees as its example, if there is one."""
    process = next((one for one in processes.values() if one.visible is None), None)
    if process is None:
        return document
    described = _description(_link, process).model_dump(mode="json", by_alias=True)
    summary = {name: value for name, value in described.items() if name not in ("inputs", "outputs")}
    listed = {"links": [openapi.link("self", "/processes")], "processes": [summary]}
    paths = document["paths"]
    for path, example in (("/processes", listed), ("/processes/{process_id}", described)):
        paths[path]["get"]["responses"]["200"]["content"][JSON]["example"] = example
    inputs = {name: _GIVEN[name] for name, each in process.asked.items() if each.least}
    execution = paths["/processes/{process_id}/execution"]["post"]
    execution["requestBody"]["content"][JSON]["example"] = {"inputs": inputs, "response": "document"}
    execution["responses"]["201"]["content"][JSON]["example"] |= {"processID": process.id}
    reads = (paths[path]["get"] for path in ("/processes", "/processes/{process_id}", "/jobs"))
    for parameter in (one for operation in (*reads, execution) for one in operation["parameters"]):
        schema = parameter["schema"]
        if "publish" in schema.get("examples", []):
            schema["examples"] = [process.id]
        elif ["publish"] in schema.get("examples", []):
            schema["examples"] = [[process.id]]
    return document


_GIVEN = {"collection": "river_works", "text": "hello"}
"""What the examples give for inputs that are required."""


def _link(rel: str, path: str) -> Link:
    return Link.model_validate(openapi.link(rel, path))


def _is_seen(process: Process, api: Api) -> bool:
    return process.visible is None or (api.holder is not None and api.holder.may(process.visible))


def _description(link: MakeLink, process: Process) -> schemas.ProcessDescription:
    inputs = {name: _input(each) for name, each in process.asked.items()}
    outputs = {name: _output(each) for name, each in process.outputs.items()}
    return schemas.ProcessDescription.model_construct(**_summary(link, process), inputs=inputs, outputs=outputs)


def _summary(link: MakeLink, process: Process) -> dict[str, Any]:
    path = f"/processes/{process.id}"
    return {
        "links": [
            link("self", path),
            link(f"{OGC_RELATIONS}execute", f"{path}/execution"),
            link(JOB_LIST, f"/jobs?processID={process.id}"),
        ],
        "id": process.id,
        "version": VERSION,
        "title": process.title,
        "description": process.description,
        "keywords": list(process.keywords),
        "jobControlOptions": process.job_control_options,
        "outputTransmission": ["value", "reference"],
    }


def _input(parameter: Parameter) -> schemas.ProcessInput:
    return schemas.ProcessInput(
        title=parameter.title,
        description=parameter.description,
        schema=dict(parameter.schema),
        minOccurs=parameter.least,
        maxOccurs=parameter.most,
    )


def _output(parameter: Parameter) -> schemas.ProcessOutput:
    schema = dict(parameter.schema)
    return schemas.ProcessOutput(title=parameter.title, description=parameter.description, schema=schema)
