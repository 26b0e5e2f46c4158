"""The results of a job that was successful, by the outputs of its process (shared/processes.py).

A *results document* has a member for each output that was asked for: a literal, an array, a bounding box, a link, or
``{"value": {…}}`` around an object, as OGC API - Processes has it (R: /req/core/job-results-…). The same document is
what callbacks are sent.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared import views
from shared.db.models import Job, Unit
from shared.exports import MEDIA_TYPES, split_name
from shared.processes import BUILT_IN, ECHO, Process, kind_of


def outputs_of(session: Session, job_id: int, *, base_url: str, public_only: bool = True) -> dict[str, Any]:
    """Return the values of the outputs that were asked for, by name, in the order of the description.

    :param base_url: the API's address as its users see it, for the addresses of files.
    """
    row = session.execute(select(Job.process, Job.request).where(Job.id == job_id)).one()
    process = BUILT_IN.get(kind_of(row.process, row.request))
    if process is None:  # another version has it
        return {}
    values = _values(session, job_id, process, base_url=base_url, public_only=public_only)
    wanted = row.request.get("outputs") or process.outputs
    return {name: values[name] for name in process.outputs if name in wanted and name in values}


def request_of(session: Session, job_id: int) -> dict[str, Any]:
    """Return how a job was asked for; empty if nobody executed a process."""
    return session.scalar(select(Job.request).where(Job.id == job_id)) or {}


def results_document(
    outputs: Mapping[str, Any], request: Mapping[str, Any], links: Mapping[str, str]
) -> dict[str, Any]:
    """Return the results document.

    :param request: how the job was asked for: which outputs are to be links.
    :param links: name of an output → where its value is alone.
    """
    return {
        name: {"href": links[name], "type": "application/json"} if is_reference(request, name) else _qualified(value)
        for name, value in outputs.items()
    }


def is_reference(request: Mapping[str, Any], name: str) -> bool:
    """Return whether an output was asked for as a link."""
    wanted: Mapping[str, Any] = (request.get("outputs") or {}).get(name) or {}
    return wanted.get("transmissionMode") == "reference"


def _qualified(value: Any) -> Any:
    return {"value": value} if isinstance(value, dict) and "bbox" not in value else value


def _values(session: Session, job_id: int, process: Process, *, base_url: str, public_only: bool) -> dict[str, Any]:
    if process.id == ECHO:
        output = session.scalar(select(Unit.output).where(Unit.job_id == job_id).order_by(Unit.id).limit(1))
        return dict((output or {}).get("outputs", {}))
    view = views.get_job(session, job_id, public_only=public_only)
    if view is None:
        return {}
    return {
        "files": [_file(file, view.source_id, base_url) for file in view.files],
        "summary": view.context,
        "coverage": view.coverage,
        "quality": view.quality.model_dump() if view.quality is not None else {},
    }


def _file(file: views.FileView, source_id: str | None, base_url: str) -> dict[str, Any]:
    return {
        "name": file.name,
        "href": f"{base_url}/collections/{source_id}/downloads/{file.name}",
        "type": MEDIA_TYPES[split_name(file.name)[1]],
        "size": file.size,
        "records": file.records,
        "sha256": file.sha256,
    }
