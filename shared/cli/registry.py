"""``bowerbird import-registry``: what a Data Registry knows and publishes, taken over."""

from pathlib import Path
from typing import Any

from shared.cli.collections import actor
from shared.cli.database import command_settings, opened
from shared.cli.errors import WrongCallError
from shared.cli.output import say, show, show_json, show_table, size
from shared.logging import mask
from shared.registry.files import FilesReport, take_over
from shared.registry.importer import KINDS, Report, import_rows
from shared.registry.sources import open_source

SHOWN = 30


def import_registry(place: str, *, exporter_dir: Path | None, start: bool, dry_run: bool, as_json: bool) -> None:
    """Import. What could not be taken over is told of; it does not make the command fail."""
    settings = command_settings()
    if exporter_dir is not None and not exporter_dir.is_dir():
        raise WrongCallError(f"There is no directory {exporter_dir}.")
    with opened(settings) as sessions, open_source(place) as source:
        report = import_rows(
            sessions,
            source,
            place=mask(place),
            default_language=settings.default_language,
            actor=actor(),
            start=start,
            dry_run=dry_run,
        )
        files = None
        if exporter_dir is not None:
            files = take_over(sessions, exporter_dir.absolute(), settings.exports, report.jobs, dry_run=dry_run)
    if as_json:
        show_json(_facts(report, files, dry_run=dry_run))
        return
    _show(report, dry_run=dry_run)
    if exporter_dir is not None and dry_run and report.added["job"]:
        say("A rehearsal looks only at files of jobs that are here already.")
    if files is not None:
        _show_files(files)


def _facts(report: Report, files: FilesReport | None, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "added": dict(report.added),
        "updated": dict(report.updated),
        "unchanged": dict(report.unchanged),
        "kept": report.kept,
        "remarks": report.remarks,
        "files": None if files is None else vars(files),
    }


def _show(report: Report, *, dry_run: bool) -> None:
    show_table(
        ["", "added>", "updated>", "unchanged>"],
        [
            (kind, report.added[kind], report.updated[kind], report.unchanged[kind])
            for kind in (*KINDS, "note")
            if report.added[kind] + report.updated[kind] + report.unchanged[kind]
        ],
        empty="Nothing is there to import.",
    )
    _lines("Kept as they are here", report.kept)
    _lines("Remarks", report.remarks)
    if dry_run:
        show("Nothing is changed: this was a rehearsal.")
    elif report.added["collection"]:
        show("New collections are paused, unless you said --start.  Go on:  bowerbird resume collection NAME")


def _show_files(files: FilesReport) -> None:
    copied = files.files - files.linked
    how = f"{files.linked:,} linked, {copied:,} copied" if copied else "linked"
    show(f"Files: {files.files:,} of {files.jobs:,} jobs taken over ({size(files.bytes)}, {how}).")
    if files.present:
        show(f"{files.present:,} were here already.")
    _lines("Published, but without files there", files.missing)
    _lines("Remarks on files", files.remarks)


def _lines(title: str, lines: list[str]) -> None:
    if lines:
        show(f"{title}:")
        for line in lines[:SHOWN]:
            show(f"  {line}")
        if len(lines) > SHOWN:
            show(f"  … and {len(lines) - SHOWN:,} more (--json has all)")
