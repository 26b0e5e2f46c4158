"""The endpoint of a job's quality report."""

from fastapi import APIRouter
from starlette.responses import Response

from services.api import openapi, schemas
from services.api.jobs import JobId, job_number, no_such_job
from services.api.routes import ReaderParameter
from shared.quality_report import get_report

router = APIRouter()


@router.head("/jobs/{job_id}/quality", include_in_schema=False)
@router.get(
    "/jobs/{job_id}/quality",
    tags=["jobs"],
    operation_id="getQuality",
    summary="Show a job's quality report",
    description="What every quality check found in the job's records: in how many places it could be judged, how many "
    "failed, and the first of them. Without checks: they have not been done (yet), or are not in the job's plan.",
    response_model=schemas.QualityResource,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=openapi.reads("The report.", openapi.NOT_MODIFIED, openapi.NO_JOB),
)
def get_quality(api: ReaderParameter, job_id: JobId) -> Response:
    """Show the report."""
    number = job_number(job_id)
    with api.context.sessions() as session:
        report = get_report(session, number, public_only=api.public_only)
    if report is None:
        raise no_such_job(job_id)
    path = f"/jobs/{report.job_id}"
    links = [api.link("self", f"{path}/quality"), api.link("job", path)]
    return api.answer(schemas.QualityResource.model_construct(**dict(report), links=links))
