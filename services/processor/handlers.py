"""The processor's units: ``process`` compiles a job's records, ``coverage`` counts the fields of its export."""

from collections.abc import Iterator
from typing import Any

from services.processor import repository
from services.processor.cardinal import count_fields, summarize
from services.processor.compile import compile_processes
from services.processor.findings import Findings
from services.processor.repository import Stored, Survey
from shared.db.models import NoteLevel
from shared.worker.context import Work

COMMON_PREFIXES = 10


def process(work: Work) -> dict[str, Any]:
    """Fill the table ``compiled`` from the table ``record``: contracting processes first, then plain records.

    Return ``records`` (read), ``compiled`` (written), ``years`` (name → number written; ``undated`` for no year),
    ``date_from`` and ``date_to`` (first and last day of the records' dates, ISO, or None) and ``ocid_prefix``
    (``ocds-xxxxxx`` if all ocids have the same, else empty).

    :raises PermanentError: the releases of a contracting process cannot be merged.
    """
    findings = Findings()
    repository.delete_compiled(work.session, work.job_id)
    with work.reader() as reader:
        survey = repository.survey_records(reader, work.job_id, findings)
        _compile(work, reader, survey, findings)
    _pass_on(work, survey, findings)
    findings.leave_notes(work)
    years = repository.count_years(work.session, work.job_id)
    return {
        "records": survey.kinds.total(),
        "compiled": sum(years.values()),
        "years": years,
        "date_from": survey.first_day and survey.first_day.isoformat(),
        "date_to": survey.last_day and survey.last_day.isoformat(),
        "ocid_prefix": _common_prefix(work, survey),
    }


def _compile(work: Work, reader: Any, survey: Survey, findings: Findings) -> None:
    if not survey.ocds:
        return
    rows = _counted(repository.stream_processes(reader, work.job_id, survey.largest), survey.ocds, work)
    lines = (record.copy_line(work.job_id) for record in compile_processes(rows, findings))
    work.copy_into("compiled", ("job_id", "key", "year", "data"), lines)


def _counted(rows: Iterator[Stored], total: int, work: Work) -> Iterator[Stored]:
    for done, row in enumerate(rows, 1):
        work.progress(done, total, of="releases")
        yield row


def _pass_on(work: Work, survey: Survey, findings: Findings) -> None:
    if total := survey.kinds["json"]:
        work.progress(0, total, of="records")
        repository.copy_plain_records(work.session, survey, work.job_id, findings)
        work.progress(total, total, of="records")


def _common_prefix(work: Work, survey: Survey) -> str:
    if len(survey.prefixes) > 1:
        common = survey.prefixes.most_common(COMMON_PREFIXES)
        work.note(
            "The ocids do not share one prefix.",
            level=NoteLevel.INFO,
            prefixes={prefix or "other": count for prefix, count in common},
        )
        return ""
    return next(iter(survey.prefixes), "")


def coverage(work: Work) -> dict[str, Any]:
    """Count the fields of the job's ``full.jsonl.gz``.

    Return ``coverage`` (path → in how many places it is not empty, https://cardinal.readthedocs.io/en/latest/cli/coverage.html)
    and ``counts`` (the totals that are columns of the job, without ``_count``).

    :raises PermanentError: the file is missing, damaged, or has a line that is not JSON.
    """
    fields = count_fields(work.export.path("full.jsonl.gz"), work.scratch)
    work.progress(fields.lines, fields.lines)
    return {"coverage": fields.coverage, "counts": summarize(fields.coverage)}
