"""``bowerbird quality``: which checks there are, and what they found in a job's records."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.cli.database import command_settings, opened
from shared.cli.errors import CommandError, WrongCallError
from shared.cli.output import show, show_json, show_table
from shared.db.models import Job, QualityCheck
from shared.quality import CHECKS, OPTION, SCHEMA_OPTION, InvalidThresholdError, as_percent, parse_thresholds, percent
from shared.quality_report import CheckView, QualityReport, get_report
from shared.views import get_collection


def expectations(thresholds: Sequence[str], schema: Path | None) -> dict[str, Any]:
    """Return the options of a collection that say what is asked of its data. Raise :class:`WrongCallError`."""
    try:
        options: dict[str, Any] = {OPTION: parse_thresholds(thresholds)}
    except InvalidThresholdError as error:
        raise WrongCallError(str(error)) from error
    if schema is not None:
        try:
            options[SCHEMA_OPTION] = json.loads(schema.read_bytes())
        except (ValueError, RecursionError) as error:
            raise WrongCallError(f"{schema} is no JSON: {error}.") from error
    return options


def changed_expectations(thresholds: Sequence[str] | None, schema: Path | None) -> dict[str, Any]:
    """Return the same of what is to be changed: thresholds take the place of all before; a blank one: of nothing."""
    options = expectations([text for text in thresholds or () if text], schema)
    return options if thresholds is not None else {name: options[name] for name in options if name != OPTION}


def quality(ref: str | None, *, as_json: bool) -> None:
    """Show a report, or the checks."""
    if ref is None:
        _show_checks(as_json=as_json)
        return
    with opened(command_settings()) as sessions, sessions() as session:
        report = get_report(session, _job(session, ref), public_only=False)
    if report is None or not report.checks:
        raise CommandError(
            f"Job {ref} has no quality report: its check task has not been done, or is not in its plan. "
            f"See: bowerbird job {ref}"
        )
    if as_json:
        show_json(report)
    else:
        _show_report(report)


def _show_checks(*, as_json: bool) -> None:
    checks = list(CHECKS.values())
    if as_json:
        show_json([asdict(check) for check in checks])
        return
    rows = [(check.id, check.severity, check.title) for check in checks]
    show_table(["check", "severity", "passes where"], rows, empty="")


def _job(session: Session, ref: str) -> int:
    """Return the job that a number or a collection's name stands for."""
    if ref.isdecimal() and session.scalar(select(Job.id).where(Job.id == int(ref))) is not None:
        return int(ref)
    collection = get_collection(session, ref, public_only=False)
    if collection is None:
        raise CommandError(f"There is no job and no collection {ref!r}. See: bowerbird collections, bowerbird jobs")
    newest = session.scalar(
        select(Job.id)
        .where(Job.collection_id == collection.id)
        .where(select(QualityCheck.id).where(QualityCheck.job_id == Job.id).exists())
        .order_by(Job.id.desc())
        .limit(1)
    )
    if newest is None:
        raise CommandError(f"No job of {ref} has a quality report yet. Run it: bowerbird run {ref} --wait")
    return newest


def _show_report(report: QualityReport) -> None:
    show(f"Job {report.job_id} of {report.source_id}")
    if report.thresholds_ignored:
        show("Thresholds are ignored: an operator had it go on whatever they say.")
    if report.extensions_not_checked:
        show(f"Not checked: extensions {', '.join(report.extensions_not_checked)}")
    show()
    judged = [check for check in report.checks if check.applicable]
    show_table(
        ["check", "severity", "judged>", "failed>", "passed>", "threshold>", ""],
        [
            (
                check.id,
                check.severity,
                check.applicable,
                check.failed,
                percent(check.passed, check.applicable),
                "" if check.threshold is None else as_percent(check.threshold),
                "FAILED" if check.under else "",
            )
            for check in judged
        ],
        empty="Nothing could be judged.",
    )
    for check in judged:
        if check.failed:
            _show_examples(check)
    if rest := [check.id for check in report.checks if not check.applicable]:
        show()
        show(f"Not applicable: {', '.join(rest)}")


def _show_examples(check: CheckView) -> None:
    show()
    show(f"{check.id}: {check.failed:,} of {check.applicable:,} {check.of} fail. Expected: {check.title}.")
    for example in check.examples:
        show(f"  {example.record} {example.path}  {example.value or ''}".rstrip())
