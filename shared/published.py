"""What is published: each collection's active job, with what it found and the files it made.

For whoever shows or harvests publications: one of them, or many at once with the same number of statements.
"""

from collections.abc import Collection as Values
from datetime import date, datetime

from pydantic import Field
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from shared.db.models import Collection, Job, Region, RetrievalFrequency, UpdateFrequency
from shared.search import BY_ID, Order, Position, Search, find_collections
from shared.views import (
    COUNTS,
    FileView,
    OperatorCollectionView,
    View,
    collection_view,
    files_of,
    select_collections,
)

NEWEST_FIRST = Order("published", descending=True)


class ActiveJobView(View):
    """The job whose files are published, in short."""

    id: int
    start: datetime | None
    end: datetime | None = Field(description="When its files were published.")
    counts: dict[str, int] = Field(description="How many of each there are in the records.")
    coverage: dict[str, int] = Field(description="Field path → in how many places it is not empty.")
    files: list[FileView] = Field(description="What can be downloaded: full, then by year, then undated.")


class PublicationView(View):
    """A publication with the members that the OCP Data Registry's ``publications.json`` has."""

    id: int = Field(description="Its id here; after a move from a Data Registry, `source_id` is what stayed.")
    title: str
    country: str
    region: Region
    language: str = Field(description="Languages of the data's values, in words.")
    update_frequency: UpdateFrequency = Field(description="How often the source updates.")
    source_url: str
    source_id: str
    retrieval_frequency: RetrievalFrequency = Field(description="How often it is collected.")
    last_retrieved: date | None = Field(description="When the published data was collected.")
    frozen: bool
    date_from: date | None = Field(description="Earliest date of the published records.")
    date_to: date | None = Field(description="Latest date of the published records.")
    coverage: dict[str, int] = Field(description="Field path → in how many places it is not empty.")


class Harvested(View):
    """A public collection that is published, with everything that is said of it elsewhere."""

    collection: OperatorCollectionView = Field(
        description="For its translations; the rest of it is not for the public."
    )
    job: ActiveJobView


def active_jobs(session: Session, job_ids: Values[int]) -> dict[int, ActiveJobView]:
    """Return jobs in short, by id. Two statements."""
    columns = (
        Job.id,
        Job.start,
        Job.end,
        Job.coverage,
        *(getattr(Job, f"{name}_count").label(name) for name in COUNTS),
    )
    rows = session.execute(select(*columns).where(Job.id.in_(job_ids))).mappings().all()
    files = files_of(session, job_ids)
    return {
        row["id"]: ActiveJobView(
            **{name: row[name] for name in ("id", "start", "end", "coverage")},
            counts={name: row[name] for name in COUNTS},
            files=files.get(row["id"], []),
        )
        for row in rows
    }


def active_job(session: Session, job_id: int | None) -> ActiveJobView | None:
    """Return a collection's active job in short, None if it has none. Two statements."""
    return None if job_id is None else active_jobs(session, [job_id]).get(job_id)


def harvest(
    session: Session, *, order: Order = BY_ID, after: Position | None = None, limit: int
) -> tuple[list[Harvested], Position | None]:
    """Return public collections that are published, and where the next page begins. Three statements."""
    page = find_collections(
        session,
        Search(published=True),
        public_only=False,
        order=order,
        after=after,
        limit=limit,
        where=[Collection.public.is_(True), ~Collection.removing],
    )
    jobs = active_jobs(session, [view.active_job_id for view in page.items if view.active_job_id is not None])
    pairs = ((view, jobs.get(view.active_job_id or 0)) for view in page.items)
    # One whose job was replaced and deleted between the statements is on the next harvest.
    return [Harvested(collection=view, job=job) for view, job in pairs if job is not None], page.following


def list_publications(session: Session, *, language: str = "") -> list[PublicationView]:
    """Return what a Data Registry shows to visitors, by id: public collections with data, or a reason for none.

    One statement.
    """
    statement = select_collections(public_only=True).add_columns(Job.coverage)
    shown = or_(Collection.active_job_id.is_not(None), Collection.no_data_rationale != "")
    rows = session.execute(statement.where(shown).order_by(Collection.id)).mappings()
    return [
        PublicationView.model_validate(
            {**dict(collection_view(row, public_only=True, language=language)), "coverage": row["coverage"] or {}}
        )
        for row in rows
    ]
