"""The rows of files, and the directory that shows them: what a job made, what of it is published, where it lies.

The model
---------
Rows come first. A unit's commit adds rows that say where its files lie (``place``: the directory to which its attempt
moved them just before); nothing else on the disk changes. From then on the files of a row are there, under the row's
hash, at every instant until the row goes: in its place or, once the scheduler has put them there, under their names.
Whoever reads looks in the one, then in the other, and then asks whether the row is still the same.

Which rows are *published*: of a job that nobody downloads from, all that its units made so far. Of the collection's
active job those of its last success: what it makes when it is done again is kept apart (``published`` is false), until
the job is OK again; then all of them take the others' place in one transaction (:func:`publish_made`). A published row
without a unit is one that was replaced, or is not made any more, and goes then.

The directory follows when the job ends (:func:`put_in_place`), and before it is COMPLETED. A job that is ended by a
person is marked *unfiled* instead, and its directory put in order by the scheduler's next tick.
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.orm import Session

from shared.db.models import Collection, File, Job, JobStatus, Result, Task, Unit
from shared.exports import Export
from shared.logging import get_logger
from shared.units import Assignment, PublishedFile

log = get_logger()


def lock_job(session: Session, job_id: int, *, silence: timedelta) -> None:
    """Lock the job's row for the rest of the transaction; at most so long, should we be frozen while we hold it.

    Scheduler, units of the job and operators wait for it. From here on the server cuts off a client that is silent for
    so long.
    """
    session.execute(select(Job.id, _limit(silence)).where(Job.id == job_id).with_for_update(key_share=True))


def limit_silence(session: Session, silence: timedelta) -> None:
    """Have the server end this transaction when we are silent for so long: then the locks are others'."""
    session.execute(select(_limit(silence)))


def _limit(silence: timedelta) -> ColumnElement[str]:
    milliseconds = silence // timedelta(milliseconds=1)
    return func.set_config("idle_in_transaction_session_timeout", str(milliseconds), True)


def is_active(session: Session, job_id: int) -> bool:
    """Return whether it is the job that its collection publishes. The answer lasts while the job is not completed."""
    statement = select(Job.id).join(Collection, Collection.id == Job.collection_id)
    return session.scalar(statement.where(Job.id == job_id, Collection.active_job_id == job_id)) is not None


# Rows


def record_files(session: Session, assignment: Assignment, files: Sequence[PublishedFile], place: str) -> None:
    """Replace the rows of a unit's files. Call with the job locked, in the transaction that completes the unit.

    :param place: where the files will lie when this is committed.
    """
    names = [file.name for file in files]
    of_job, mine = File.job_id == assignment.job_id, or_(File.unit_id == assignment.unit_id, File.name.in_(names))
    had_files = session.scalar(select(File.id).where(of_job, mine).limit(1)) is not None
    if not files and not had_files:
        return
    active = is_active(session, assignment.job_id)
    if active:
        leave = update(File).where(of_job, mine, File.published).values(unit_id=None)
        session.execute(leave.execution_options(synchronize_session=False))
    replaced = (of_job, mine, ~File.published) if active else (of_job, mine)
    session.execute(delete(File).where(*replaced).execution_options(synchronize_session=False))
    session.add_all(
        File(
            job_id=assignment.job_id,
            unit_id=assignment.unit_id,
            name=file.name,
            published=not active,
            place=place,
            size=file.size,
            records=file.records,
            sha256=file.sha256,
        )
        for file in files
    )
    session.flush()
    mark_unfiled(session, assignment.job_id)


def leave_units(session: Session, job: Job, unit_ids: Sequence[int]) -> None:
    """Note that these units, which are about to be deleted, make their files no more. Call with the job locked."""
    if unit_ids and not is_active(session, job.id):  # otherwise they are published until the new ones are
        session.execute(delete(File).where(File.job_id == job.id, File.unit_id.in_(unit_ids)))
        mark_unfiled(session, job.id)


def mark_unfiled(session: Session, job_id: int) -> None:
    """Note that the job's directory does not show what the rows say."""
    statement = update(Job).where(Job.id == job_id, ~Job.unfiled).values(unfiled=True)
    session.execute(statement.execution_options(synchronize_session=False))


def current_sizes(session: Session, job_id: int, suffix: str) -> dict[str, int]:
    """Return the sizes, by name, of the files that the job has made, as its next tasks read them: the largest first."""
    rows = session.execute(
        select(File.name, File.size)
        .where(File.job_id == job_id, File.unit_id.is_not(None), File.name.endswith(f".{suffix}"))
        .order_by(File.size.desc(), File.name)
    )
    return {row.name: row.size for row in rows}


def current_path(session: Session, export: Export, name: str) -> Path:
    """Return where a file lies that the job has made, as its next tasks read it. It stays there while the job runs."""
    place = session.scalar(
        select(File.place)
        .where(File.job_id == export.job_id, File.name == name, File.unit_id.is_not(None))
        .order_by(File.published)
        .limit(1)
    )
    return export.locate(name, place or "")


def places_of(session: Session, job_id: int) -> dict[str, str]:
    """Return the place of each published file of a job, by name."""
    rows = session.execute(select(File.name, File.place).where(File.job_id == job_id, File.published))
    return {row.name: row.place for row in rows}


def publish_made(session: Session, job_id: int) -> None:
    """Publish what an active job has made, in place of what it had published: all at once. Call with the job locked."""
    columns = (File.id, File.name, File.published, File.unit_id)
    rows = session.execute(select(*columns).where(File.job_id == job_id)).all()
    made = {row.name for row in rows if not row.published and row.unit_id is not None}
    gone = [row.id for row in rows if row.unit_id is None or (row.published and row.name in made)]
    if made or gone:
        session.execute(delete(File).where(File.id.in_(gone)).execution_options(synchronize_session=False))
        statement = update(File).where(File.job_id == job_id, ~File.published).values(published=True)
        session.execute(statement.execution_options(synchronize_session=False))
        mark_unfiled(session, job_id)


# The directory


def put_in_place(session: Session, job: Job, export: Export) -> None:
    """Put the job's directory in agreement with its rows: published files under their names, nothing left over.

    Call with the job locked and no unit of it open, in a transaction that has changed no row of a file yet: what is
    removed from the disk must be gone from the table for certain. To be repeated if it was interrupted.

    :raises OSError: the disk refuses; nothing is lost, and it is to be tried again.
    """
    rows = session.scalars(select(File).where(File.job_id == job.id).order_by(File.name)).all()
    published = {row.name: row for row in rows if row.published}
    facts = [
        {"name": row.name, "place": row.place, "size": row.size, "records": row.records, "sha256": row.sha256}
        for row in published.values()
    ]
    kept = {row.place for row in rows if not row.published} | _left_by_units(session, job.id)
    there = export.put_in_place(facts, kept=kept, confirm=lambda: session.execute(select(func.now())))
    for name in there:
        published[name].place = ""
    if missing := sorted(published.keys() - there):
        log.error("published files are not there", job=job.id, directory=str(export.directory), files=missing)
    job.unfiled = False


def _left_by_units(session: Session, job_id: int) -> set[str]:
    """Return the places of what units left to later ones of their task, as far as it may be done again from there."""
    place = Unit.output["place"].astext
    left = select(place).join(Task, Task.id == Unit.task_id).where(Unit.job_id == job_id, place.is_not(None))
    return set(session.scalars(left.where(Unit.result == Result.OK, Task.result == Result.FAILED)))


def unfiled_jobs(session: Session, *, limit: int) -> Sequence[int]:
    """Return completed jobs whose directory is to be put in order."""
    statement = select(Job.id).where(Job.status == JobStatus.COMPLETED, Job.unfiled).order_by(Job.id).limit(limit)
    return session.scalars(statement).all()
