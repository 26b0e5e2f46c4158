"""The shapes of the answers: read models (shared/views.py) with links beside their own members.

Members may be added, also to these; none is renamed or changes its meaning.
"""

from pydantic import BaseModel, Field

from shared.views import CollectionView, FileView, JobSummary, JobView

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"

NO_SUCH_JOB = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/no-such-job"
"""The one kind of problem here that a standard has a name for (OGC API - Processes)."""
JOB_LIST = "http://www.opengis.net/def/rel/ogc/1.0/job-list"
"""The same standard's name for a link to the jobs."""


class Link(BaseModel):
    """A web link (RFC 8288)."""

    href: str = Field(description="Absolute URL.")
    rel: str = Field(description="What it leads to.")
    type: str = Field(default=JSON, description="Media type of what it leads to.")


class Linked(BaseModel):
    """Anything with links."""

    links: list[Link]


class Landing(Linked):
    """Where to begin."""

    title: str
    description: str


class CollectionResource(Linked, CollectionView):
    """A collection. Links: `self`, `jobs`, `downloads`."""


class JobItem(Linked, JobSummary):
    """A job in a list. Links: `self`, `collection`."""


class JobResource(Linked, JobView):
    """A job with its tasks and files. Links: `self`, `collection`."""


class Download(Linked, FileView):
    """A file of the active job. Links: `enclosure` (the file)."""


class CollectionPage(Linked):
    """A page of collections, by id. Links: `self`, and `next` unless it is the last page."""

    items: list[CollectionResource]


class JobPage(Linked):
    """A page of jobs, newest first. Links: `self`, and `next` unless it is the last page."""

    items: list[JobItem]


class DownloadList(Linked):
    """The files of a collection: full, then by year, then undated. Links: `self`, `collection`, `job`."""

    job_id: int | None = Field(description="The job that made them; null: nothing is published yet.")
    items: list[Download]


class Health(BaseModel):
    """The service can do its work."""

    status: str


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="URI of the kind of problem; `about:blank`: the status says it all.")
    title: str
    status: int
    detail: str = Field(description="This case, in words, and what to do.")
    instance: str = Field(description="Path of the request.")
    request_id: str = Field(description="The response's `X-Request-Id`: quote it when you report a problem.")
