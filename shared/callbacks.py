"""Callbacks: addresses that whoever asks for a job names with it (``subscriber`` of OGC API - Processes).

The model: :func:`subscribe` is called in the transaction that plans the job. What is then to be told, triggers write as
deliveries when the job starts and ends (shared/deliveries.py); nothing of that can delay the job or make it fail. What
is told is made when it is sent, so it is of the job as it is then.
"""

from typing import Any

from pydantic_core import to_jsonable_python
from sqlalchemy.orm import Session

from shared import outbound, results, views
from shared.db.models import Callback
from shared.settings import Settings
from shared.status_info import status_info


def subscribe(
    session: Session,
    job_id: int,
    *,
    success_uri: str,
    in_progress_uri: str | None = None,
    failed_uri: str | None = None,
    settings: Settings,
) -> None:
    """Have addresses told when the job starts, succeeds, or ends otherwise (fails, is cancelled).

    :raises shared.outbound.ForbiddenAddressError: one of them is no address, or not one of the internet.
    """
    for url in (success_uri, in_progress_uri, failed_uri):
        if url is not None:
            outbound.check_url(url, settings)
    urls = {"success_url": success_uri, "in_progress_url": in_progress_uri or "", "failed_url": failed_uri or ""}
    session.add(Callback(job_id=job_id, **urls))
    session.flush()


def body_of(session: Session, told: str, job_id: int, *, base_url: str) -> dict[str, Any] | None:
    """Return what is sent of a job; None: the job is deleted. Of a success the results, of a failure the exception.

    :param told: ``job.started``, ``job.succeeded``, ``job.failed`` or ``job.cancelled``.
    :param base_url: the API's address as its users see it.
    """
    view = views.get_summary(session, job_id, public_only=False)
    if view is None:
        return None
    if told == "job.succeeded":
        outputs = results.outputs_of(session, job_id, base_url=base_url, public_only=False)
        links = {name: f"{base_url}/jobs/{job_id}/results/{name}" for name in outputs}
        return results.results_document(outputs, results.request_of(session, job_id), links)
    status = {name: value for name, value in status_info(view).items() if value is not None}
    if told == "job.started":
        links_ = [{"href": f"{base_url}/jobs/{job_id}", "rel": "monitor", "type": "application/json"}]
        return {**to_jsonable_python(status), "links": links_}
    return {
        "type": f"{base_url}/problems/{'process-failed' if told == 'job.failed' else 'job-dismissed'}",
        "title": "The job failed." if told == "job.failed" else "The job was dismissed.",
        "detail": view.message or f"Job {job_id} is {view.state}.",
        "instance": f"{base_url}/jobs/{job_id}",
    }
