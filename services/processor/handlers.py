"""The processor's units: ``process`` compiles a job's records, ``check`` judges them, ``coverage`` counts fields."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from services.processor import repository
from services.processor.cardinal import count_fields, summarize
from services.processor.compile import compile_processes
from services.processor.findings import Finding, Findings, shown
from services.processor.quality.inspector import Inspector
from services.processor.quality.rules import declared_extensions
from services.processor.repository import Stored, Survey
from shared import own_schema, quality
from shared.db.models import NoteLevel
from shared.errors import PermanentError
from shared.worker.context import Work

COMMON_PREFIXES = 10


def process(work: Work) -> dict[str, Any]:
    """Fill the table ``compiled`` from the table ``record``: contracting processes first, then plain records.

    Return ``records`` (read), ``compiled`` (written), ``years`` (name → number written; ``undated`` for no year),
    ``date_from`` and ``date_to`` (first and last day of the records' dates, ISO, or None) and ``ocid_prefix``
    (``ocds-xxxxxx`` if all ocids have the same, else empty); and ``identities``: what quality checks need to know of
    ids that are gone once merged (a list of ``check``, ``applicable``, ``failed``, ``examples``).

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
        "identities": _identities(survey, findings),
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


def _identities(survey: Survey, findings: Findings) -> list[dict[str, Any]]:
    merged, left_out = findings.count(Finding.DUPLICATE_ID), (Finding.OLDER_RECORD, Finding.OLDER_COMPILED)
    return [
        {
            "check": "ids.releases",
            "applicable": survey.kinds["release"],
            "failed": findings.count(Finding.REPEATED_RELEASE),
            "examples": findings.places(Finding.REPEATED_RELEASE),
        },
        {
            "check": "ids.objects",
            "applicable": merged,
            "failed": merged,
            "examples": findings.places(Finding.DUPLICATE_ID),
        },
        {
            "check": "ids.records",
            "applicable": survey.with_id,
            "failed": sum(map(findings.count, left_out)),
            "examples": [
                {"record": shown(key), "path": "", "value": ""}
                for finding in left_out
                for key in findings.examples(finding)
            ],
        },
    ]


def check(work: Work) -> dict[str, Any]:
    """Judge the job's compiled records, and store what every check found in the table ``quality_check``.

    One pass; memory does not grow with the records. Repeating it replaces the report. Whether the job may go on is for
    its task manager to say, so that the report is kept either way.

    Return ``records`` (judged), ``extensions_checked`` and ``extensions_not_checked`` (names), and ``failing``
    (severity → number of checks with a place that fails).

    :raises PermanentError: the collection's own JSON Schema, or a threshold, is not one.
    """
    options, context = work.assignment.options, work.assignment.context
    declared = declared_extensions(context.get("collect", {}).get("extensions", []))
    thresholds, schema = _expectations(options)
    with work.reader() as reader:
        extent = repository.survey_compiled(reader, work.job_id)
        inspector = Inspector(ocds=extent.ocds, extensions=declared.known, now=datetime.now(UTC), schema=schema)
        for done, (key, text) in enumerate(repository.stream_compiled(reader, work.job_id, extent), 1):
            inspector.inspect(key, text)
            work.progress(done, extent.records)
    work.progress(extent.records, extent.records)
    inspector.add_losses(context.get("process", {}).get("identities", []))
    outcomes = inspector.outcomes()
    quality.replace_report(work.session, work.job_id, outcomes, thresholds)
    failing = Counter(quality.CHECKS[outcome.check].severity.value for outcome in outcomes if outcome.failed)
    if declared.unknown:
        work.note(
            f"{len(declared.unknown):,} extensions are declared whose rules are not known here; what they add is not "
            f"checked: {', '.join(declared.unknown):.500}.",
            level=NoteLevel.INFO,
            extensions=list(declared.unknown),
        )
    return {
        "records": extent.records,
        "extensions_checked": list(declared.known),
        "extensions_not_checked": list(declared.unknown),
        "failing": {severity.value: failing[severity.value] for severity in quality.Severity},
    }


def _expectations(options: dict[str, Any]) -> tuple[dict[str, float], Any]:
    """Return the collection's thresholds, and a validator for its own schema (None: it has none)."""
    own = options.get(quality.SCHEMA_OPTION)
    try:
        thresholds = quality.check_thresholds(options.get(quality.OPTION) or {})
        return thresholds, None if own is None else own_schema.compile_schema(own)
    except (quality.InvalidThresholdError, own_schema.InvalidSchemaError) as error:
        raise PermanentError(f"{error} Correct the collection's options; then run it again.") from error


def coverage(work: Work) -> dict[str, Any]:
    """Count the fields of the job's ``full.jsonl.gz``.

    Return ``coverage`` (path → in how many places it is not empty, https://cardinal.readthedocs.io/en/latest/cli/coverage.html)
    and ``counts`` (the totals that are columns of the job, without ``_count``).

    :raises PermanentError: the file is missing, damaged, or has a line that is not JSON.
    """
    fields = count_fields(work.input("full.jsonl.gz"), work.scratch)
    work.progress(fields.lines, fields.lines)
    return {"coverage": fields.coverage, "counts": summarize(fields.coverage)}
