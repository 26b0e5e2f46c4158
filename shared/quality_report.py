"""A job's quality report as people and programs are shown it, and the queries that fill it."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.db.models import Collection, Job, QualityCheck, Result, Task, Unit
from shared.quality import CHECKS, IGNORED, Severity, is_under, position
from shared.views import View


class ExampleView(View):
    """A place that failed."""

    record: str = Field(description="The ocid, or the plain record's id.")
    path: str = Field(description="Where in the record: a JSON Pointer. Empty: the record as a whole.")
    value: str | None = Field(
        description="What is there, as JSON, cut if it is long. Null while the data is not published: what was held "
        "back is not shown."
    )


class CheckView(View):
    """What a check found."""

    id: str = Field(description="Its name, which never changes its meaning.")
    severity: Severity
    title: str = Field(description="What is so where it passes.")
    explanation: str
    of: str = Field(description="What its places are.")
    applicable: int = Field(description="In how many places it could be judged; 0: it is not applicable.")
    passed: int
    failed: int
    share: float | None = Field(description="`passed` of `applicable`; null if it is not applicable.")
    threshold: float | None = Field(description="The least share that the collection asks for; null: none.")
    under: bool = Field(description="The share is under the threshold.")
    examples: list[ExampleView] = Field(description="The first places that failed.")


class QualityReport(View):
    """What the quality checks found in a job's records."""

    job_id: int
    source_id: str = Field(description="The collection's name in paths and commands.")
    thresholds_ignored: bool = Field(description="An operator had the job go on whatever its thresholds say.")
    extensions_checked: list[str] = Field(description="OCDS extensions whose rules were applied.")
    extensions_not_checked: list[str] = Field(description="Declared extensions whose rules are not known here.")
    checks: list[CheckView]


def get_report(session: Session, job_id: int, *, public_only: bool = True) -> QualityReport | None:
    """Return a job's report, None if there is no such job. Without a report, ``checks`` is empty. Two statements.

    The public sees no values of records that are not published, as thresholds are there to hold them back.
    """
    not_ok = select(Task.id).where(Task.job_id == Job.id, Task.result != Result.OK).exists()
    output = select(Unit.output).join(Task, Task.id == Unit.task_id).where(Unit.job_id == Job.id, Task.type == "check")
    found = output.limit(1).scalar_subquery()
    statement = (
        select(Collection.source_id, Job.context, not_ok.label("held_back"), found.label("output"))
        .join(Collection, Collection.id == Job.collection_id)
        .where(Job.id == job_id)
    )
    job = session.execute(statement.where(Collection.public) if public_only else statement).one_or_none()
    if job is None:
        return None
    rows: Sequence[QualityCheck] = session.scalars(select(QualityCheck).where(QualityCheck.job_id == job_id)).all()
    facts: dict[str, Any] = job.output or {}
    return QualityReport(
        job_id=job_id,
        source_id=job.source_id,
        thresholds_ignored=IGNORED in job.context,
        extensions_checked=facts.get("extensions_checked", []),
        extensions_not_checked=facts.get("extensions_not_checked", []),
        checks=[
            _check_view(row, with_values=not (public_only and job.held_back))
            for row in sorted(rows, key=lambda row: position(row.check))
            if row.check in CHECKS
        ],
    )


def _check_view(row: QualityCheck, *, with_values: bool) -> CheckView:
    check, passed = CHECKS[row.check], row.applicable - row.failed
    return CheckView(
        id=check.id,
        severity=check.severity,
        title=check.title,
        explanation=check.explanation,
        of=check.of,
        applicable=row.applicable,
        passed=passed,
        failed=row.failed,
        share=passed / row.applicable if row.applicable else None,
        threshold=row.threshold,
        under=is_under(row.applicable, row.failed, row.threshold),
        examples=[ExampleView(**example | ({} if with_values else {"value": None})) for example in row.examples],
    )
