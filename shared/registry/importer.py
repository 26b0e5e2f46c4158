"""Writing a Data Registry's rows as ours, in one transaction that can be repeated.

The rules of an import that is repeated:

- A row is found again by its id in the Data Registry (``registry_id``), never by its name.
- It is changed only if it changed *there* since (its ``modified`` is another than at the last import), and nobody and
  nothing changed it *here* since: our ``modified`` is set to theirs, and every change here makes it ours. So what is
  newer here stays, and is told of.
- Nothing is ever deleted. A row that is gone there stays here.
- The active job is taken over while the collection publishes an imported job, or none: a job that ran here is newer.
- Only completed jobs come: the others run there. They come when they are completed.
- A new collection is paused: nothing of it is collected here before an operator says that it should be.

A rehearsal (``dry_run``) is the same transaction, rolled back.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session, sessionmaker

from shared.db.models import (
    Audit,
    Collection,
    Issue,
    Job,
    JobStatus,
    Licence,
    Pause,
    Result,
    Setting,
    SettingsBundle,
    Task,
    TaskNote,
)
from shared.logging import get_logger
from shared.publications import slug
from shared.registry import rows
from shared.registry.sources import Row, Source
from shared.views import SOURCE_ID

log = get_logger()

BATCH = 1000
KINDS = ("licence", "bundle", "collection", "issue", "job")


@dataclass
class Report:
    """What an import did, or would do."""

    added: Counter[str] = field(default_factory=Counter)
    updated: Counter[str] = field(default_factory=Counter)
    unchanged: Counter[str] = field(default_factory=Counter)
    kept: list[str] = field(default_factory=list)
    """Changed there and here: ours stay."""
    remarks: list[str] = field(default_factory=list)
    """What could not be taken over as it is."""
    jobs: list[int] = field(default_factory=list)
    """Successful jobs that came from there, now or before: their files can be taken over."""


class Importer:
    """One import."""

    def __init__(self, session: Session, source: Source, *, default_language: str, actor: str, start: bool) -> None:
        """Prepare an import into the session. ``start``: new collections are not paused."""
        self._session = session
        self._source = source
        self._language = default_language
        self._actor = actor
        self._start = start
        self.report = Report()

    def run(self, place: str) -> Report:
        """Import everything, in the session's transaction. ``place`` is for the audit: without a password."""
        # One import at a time, or both would add the same rows.
        self._session.execute(select(func.pg_advisory_xact_lock(0x626F7769)))
        licences = self._licences()
        bundles = self._bundles()
        collections = self._collections(licences, bundles)
        self._issues(collections)
        jobs = self._jobs(collections)
        self._active_jobs(collections, jobs)
        self.report.jobs = self._successful(jobs.values())
        counts = {"added": self.report.added, "updated": self.report.updated, "kept": len(self.report.kept)}
        self._session.add(Audit(actor=self._actor, action="import registry", details={"source": place, **counts}))
        self._session.flush()
        return self.report

    # Small tables

    def _licences(self) -> dict[int, int]:
        ours = self._known(Licence)
        for row in self._source.rows("license"):
            self._save("licence", Licence, ours, row, rows.licence(row, self._language))
        return {number: found.id for number, found in ours.items()}

    def _bundles(self) -> dict[int, int]:
        ours = self._known(SettingsBundle)
        settings: defaultdict[int, list[Row]] = defaultdict(list)
        for row in self._source.rows("setting"):
            settings[rows.whole(row["bundle_id"]) or 0].append(row)
        for row in self._source.rows("settingsbundle"):
            mine = settings[rows.whole(row["id"]) or 0]
            values = {"name": rows.words(row.get("name")) or f"Bundle {row['id']}"}
            # A bundle is as new as the newest of its settings; one that is gone leaves no trace.
            bundle = self._save("bundle", SettingsBundle, ours, row, values, version=_newest([row, *mine]))
            if bundle is not None:
                self._settings(bundle, mine)
        return {number: found.id for number, found in ours.items()}

    def _settings(self, bundle: SettingsBundle, mine: list[Row]) -> None:
        wanted = {rows.words(row["key"]): rows.words(row["value"]) for row in mine}
        of_bundle = Setting.settings_bundle_id == bundle.id
        self._session.execute(delete(Setting).where(of_bundle, Setting.key.not_in(wanted)))
        for key, value in wanted.items():
            statement = upsert(Setting).values(settings_bundle_id=bundle.id, key=key, value=value)
            self._session.execute(
                statement.on_conflict_do_update(index_elements=["settings_bundle_id", "key"], set_={"value": value})
            )

    # Collections

    def _collections(self, licences: Mapping[int, int], bundles: Mapping[int, int]) -> dict[int, Collection]:
        ours = self._known(Collection)
        names = self._session.execute(select(Collection.source_id, Collection.registry_id))
        taken: dict[str, int | None] = {row.source_id: row.registry_id for row in names}
        removed = self._removed()
        for row in self._source.rows("collection"):
            if rows.whole(row["id"]) in removed:
                self.report.kept.append(f"{rows.words(row.get('source_id'))}: it was removed here")
                continue
            values = rows.collection(row, self._language, self._remark)
            values["licence_id"] = self._reference(row, "license_custom_id", licences)
            values["settings_bundle_id"] = self._reference(row, "settings_bundle_id", bundles)
            number = rows.whole(row["id"]) or 0
            if number not in ours:
                name = self._free_name(row, taken)
                if name is None:
                    continue
                taken[name] = number
                # Where people find the source is all that is known of it; what we read is for an operator to say.
                values |= {"source_id": name, "source": values["source_url"]}
            new = number not in ours
            saved = self._save("collection", Collection, ours, row, values)
            if new and saved is not None and not self._start:
                self._session.add(Pause(collection_id=saved.id, actor=self._actor))
        self._session.flush()
        return ours

    def _removed(self) -> set[int]:
        """The publications whose collections somebody removed here: that is newer."""
        number = Audit.details["registry_id"].as_integer()
        return set(
            self._session.scalars(select(number).where(Audit.action == "collection remove", number.is_not(None)))
        )

    def _free_name(self, row: Row, taken: Mapping[str, int | None]) -> str | None:
        wanted = rows.words(row.get("source_id"))
        name = wanted if SOURCE_ID.fullmatch(wanted) else slug(wanted) or f"publication-{row['id']}"
        if name != wanted:
            self._remark(f"publication {row['id']}: {wanted!r} cannot be a name here; it is called {name}")
        if name not in taken:
            return name
        if taken[name] is None:
            self._remark(
                f"publication {row['id']}: a collection {name} is here already, and was not imported; left out. "
                f"Remove that one, or keep it instead"
            )
            return None
        other = f"{name[:80]}-{row['id']}"
        self._remark(f"publication {row['id']}: another is called {name}; it is called {other}")
        return other if other not in taken else None

    def _reference(self, row: Row, column: str, known: Mapping[int, int]) -> int | None:
        number = rows.whole(row.get(column))
        if number is not None and number not in known:
            self._remark(f"publication {row['id']}: its {column} {number} is not there; taken as none")
        return None if number is None else known.get(number)

    def _issues(self, collections: Mapping[int, Collection]) -> None:
        ours = self._known(Issue)
        for row in self._source.rows("issue"):
            collection = collections.get(rows.whole(row["collection_id"]) or 0)
            if collection is not None:
                values = rows.issue(row, self._language) | {"collection_id": collection.id}
                self._save("issue", Issue, ours, row, values)

    # Jobs

    def _jobs(self, collections: Mapping[int, Collection]) -> dict[int, Job]:
        ours = self._known(Job)
        tasks: defaultdict[int, list[Row]] = defaultdict(list)
        for row in self._source.rows("task"):
            tasks[rows.whole(row["job_id"]) or 0].append(row)
        wanted: dict[int, int] = {}
        for row in sorted(self._source.rows("job"), key=lambda row: rows.whole(row["id"]) or 0):
            number = rows.whole(row["id"]) or 0
            collection = collections.get(rows.whole(row["collection_id"]) or 0)
            if collection is None:
                continue
            if row.get("status") != JobStatus.COMPLETED:
                self._remark(f"job {number} of {collection.source_id} is {row.get('status')} there; left out for now")
                continue
            values = rows.job(row, self._remark) | {"collection_id": collection.id, "status": JobStatus.COMPLETED}
            job = self._save("job", Job, ours, row, values, version=_newest([row, *tasks[number]]))
            if job is not None:
                wanted |= self._tasks(job, tasks[number])
        self._notes(wanted)
        return ours

    def _tasks(self, job: Job, found: list[Row]) -> dict[int, int]:
        """Write a job's tasks; return their ids → ours. Rows stay the same ones: units and files hang on them."""
        before = {task.type: task for task in self._session.scalars(select(Task).where(Task.job_id == job.id)).all()}
        found_tasks: dict[int, Task] = {}
        for values in rows.tasks(found, self._remark):
            number = values.pop("registry_id")
            task = before.pop(values["type"], None) or Task(job_id=job.id)
            for name, value in values.items():
                setattr(task, name, value)
            self._session.add(task)
            found_tasks[number] = task
        self._session.flush()
        return {number: task.id for number, task in found_tasks.items()}

    def _notes(self, tasks: Mapping[int, int]) -> None:
        """Replace the notes of tasks, by their ids there."""
        if not tasks:
            return
        self._session.execute(delete(TaskNote).where(TaskNote.task_id.in_(tasks.values()), TaskNote.unit_id.is_(None)))
        found = (
            rows.note(row) | {"task_id": tasks[number]}
            for row in self._source.rows("tasknote")
            if (number := rows.whole(row["task_id"]) or 0) in tasks
        )
        for batch in _batches(found):
            self._session.execute(insert(TaskNote), batch)
            self.report.added["note"] += len(batch)

    def _active_jobs(self, collections: Mapping[int, Collection], jobs: Mapping[int, Job]) -> None:
        """Publish what they publish: named by the collection, or, in May 2024, marked in the job."""
        active: dict[int, int] = {}
        for row in self._source.rows("job"):
            if rows.truth(row.get("active")):
                active[rows.whole(row["collection_id"]) or 0] = rows.whole(row["id"]) or 0
        for row in self._source.rows("collection"):
            number = rows.whole(row["id"]) or 0
            job_id = rows.whole(row.get("active_job_id")) or active.get(number)
            collection, job = collections.get(number), jobs.get(job_id or 0)
            if collection is not None and job is not None and collection.active_job_id != job.id:
                self._publish(collection, job, rows.collection(row, self._language, _silent)["last_retrieved"])

    def _publish(self, collection: Collection, job: Job, last_retrieved: date | None) -> None:
        if job.collection_id != collection.id or not self._successful([job]):
            self._remark(
                f"{collection.source_id}: its active job {job.registry_id} did not succeed; not published here"
            )
            return
        before = collection.active_job_id and self._session.get(Job, collection.active_job_id)
        if before and before.registry_id is None:
            self.report.kept.append(f"{collection.source_id}: its active job ran here, and is newer")
            return
        values = {"active_job_id": job.id, "last_retrieved": last_retrieved}
        # Not by the object: that would make ``modified`` ours.
        statement = update(Collection).where(Collection.id == collection.id)
        self._session.execute(statement.values(**values, modified=Collection.modified))
        self._session.refresh(collection)

    def _successful(self, jobs: Iterable[Job]) -> list[int]:
        ids = [job.id for job in jobs]
        not_ok = select(Task.id).where(Task.job_id == Job.id, Task.result != Result.OK).exists()
        any_task = select(Task.id).where(Task.job_id == Job.id).exists()
        return list(self._session.scalars(select(Job.id).where(Job.id.in_(ids), any_task, ~not_ok).order_by(Job.id)))

    # One row

    def _known(self, table: Any) -> dict[int, Any]:
        found = self._session.scalars(select(table).where(table.registry_id.is_not(None)))
        return {row.registry_id: row for row in found}

    def _save(
        self,
        kind: str,
        table: Any,
        ours: dict[int, Any],
        row: Row,
        values: dict[str, Any],
        *,
        version: datetime | None = None,
    ) -> Any:
        """Add a row, or update it by the rules above; return it, or None if it was left as it is."""
        number = rows.whole(row["id"])
        if number is None:
            self._remark(f"a {kind} has no id; left out")
            return None
        version = version or _newest([row])
        stamp = version or datetime.now(UTC)
        known = ours.get(number)
        if known is None:
            created = rows.moment(row.get("created")) or stamp
            known = table(**values, created=created, modified=stamp, registry_id=number, registry_modified=stamp)
            ours[number] = known
            self._session.add(known)
            self._session.flush()
            self.report.added[kind] += 1
            return known
        # A row without a time there is compared itself.
        changed_there = version != known.registry_modified if version else _differs(known, values)
        if not changed_there:
            self.report.unchanged[kind] += 1
            return None
        if known.modified != known.registry_modified:
            name = getattr(known, "source_id", "") or getattr(known, "name", "")
            self.report.kept.append(f"{name or f'{kind} {known.id}'}: changed there and here")
            return None
        for name, value in values.items():
            setattr(known, name, value)
        known.registry_modified = known.modified = stamp
        self._session.flush()
        self.report.updated[kind] += 1
        return known

    def _remark(self, sentence: str) -> None:
        self.report.remarks.append(sentence)


def import_rows(
    sessions: sessionmaker[Session],
    source: Source,
    *,
    place: str,
    default_language: str,
    actor: str,
    start: bool,
    dry_run: bool,
) -> Report:
    """Import a source; with ``dry_run`` say what that would do."""
    with sessions() as session, session.begin() as transaction:
        report = Importer(session, source, default_language=default_language, actor=actor, start=start).run(place)
        if dry_run:
            transaction.rollback()
    return report


def _differs(known: Any, values: Mapping[str, Any]) -> bool:
    return any(getattr(known, name) != value for name, value in values.items())


def _newest(found: Iterable[Row]) -> datetime | None:
    return max((when for row in found if (when := rows.moment(row.get("modified")))), default=None)


def _batches(items: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(items, BATCH)):
        yield batch


def _silent(_sentence: str) -> None:
    pass
