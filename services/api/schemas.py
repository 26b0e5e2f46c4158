"""The shapes of the answers: read models (shared/views.py) with links beside their own members.

Members may be added, also to these; none is renamed or changes its meaning.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer

from shared.published import ActiveJobView
from shared.quality_report import QualityReport
from shared.search import Facets
from shared.views import CollectionView, FileView, JobDetails, JobState, OperatorCollectionView, UnitErrorView

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
HTML = "text/html"
LD_JSON = "application/ld+json"
ATOM = "application/atom+xml"
RSS = "application/rss+xml"

PROBLEMS = "/problems/"
"""Beginning of our own kinds of problem, below the API's address; problem_types.py has them all."""
OGC_PROBLEMS = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/"
"""Beginning of those that a standard has names for (OGC API - Processes)."""
NO_SUCH_JOB = f"{OGC_PROBLEMS}no-such-job"
NO_SUCH_PROCESS = f"{OGC_PROBLEMS}no-such-process"
NO_SUCH_OUTPUT = f"{OGC_PROBLEMS}no-such-output"
RESULT_NOT_READY = f"{OGC_PROBLEMS}result-not-ready"
OGC_RELATIONS = "http://www.opengis.net/def/rel/ogc/1.0/"
"""Beginning of the same standard's kinds of link."""
JOB_LIST = f"{OGC_RELATIONS}job-list"


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
    """A collection. Links: `self`, `jobs`, `downloads`, `describedby` (as JSON-LD)."""


class StatusInfo(Linked):
    """The status of a job, as OGC API - Processes has it (R: /req/core/job-success). What is not known is left out."""

    jobID: str = Field(description="The job's `id`, as a text.")  # noqa: N815  the standard's names
    type: Literal["process"]
    processID: str = Field(description="The process that it is an execution of.")  # noqa: N815
    status: JobState
    message: str | None = Field(default=None, description="Why it did not succeed, in words.")
    progress: int = Field(description="How much of it is done, in percent.", ge=0, le=100)
    created: datetime = Field(description="When it was planned.")
    started: datetime | None = Field(default=None, description="When its first task was started.")
    finished: datetime | None = Field(default=None, description="When it ended.")
    updated: datetime = Field(description="When its status, or that of a task, last changed.")

    @model_serializer(mode="wrap")
    def _leave_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not known: null has the wrong type for the standard."""
        members: dict[str, Any] = serialize(self)
        return {name: value for name, value in members.items() if value is not None or name not in _LEFT_OUT}


_LEFT_OUT = ("message", "started", "finished")


class JobItem(StatusInfo):
    """A job in a list. Links: `self`, `status`, its collection if there is one; results or exceptions once it ended."""

    id: int
    collection_id: int | None = Field(description="Null: it is about no collection.")
    source_id: str | None = Field(description="The collection's name in paths and commands.")
    task: str | None = Field(
        description="Type of the first task that has not ended well: at work, next, or where the job ended."
    )
    duration_seconds: float | None = Field(description="So far, while it runs; null before.")


class JobResource(JobDetails, JobItem):
    """A job with its tasks and files. Links: as in a list, and `quality` if its records were checked."""


class QualityResource(Linked, QualityReport):
    """What the quality checks found in a job's records. Links: `self`, `job`."""


class OperatorCollectionResource(Linked, OperatorCollectionView):
    """A collection as it is shown to the holder of a key."""


class OperatorJobResource(JobResource):
    """A job as it is shown to the holder of a key."""

    errors: list[UnitErrorView] = Field(description="What its units failed with.")


class Download(Linked, FileView):
    """A file of the active job. Links: `enclosure` (the file)."""


class ActiveJobResource(Linked, ActiveJobView):
    """A collection's active job. Links: `self` (all about it)."""

    files: list[Download]  # type: ignore[assignment]


class CollectionDetail(CollectionResource):
    """A collection with its active job."""

    active_job: ActiveJobResource | None = Field(description="The job whose files are published; null: none yet.")


class OperatorCollectionDetail(OperatorCollectionResource):
    """A collection with its active job as it is shown to the holder of a key."""

    active_job: ActiveJobResource | None = Field(description="The job whose files are published; null: none yet.")


class CollectionPage(Linked):
    """A page of collections. Links: `self`, and `next` unless it is the last page."""

    items: list[CollectionResource]
    facets: Facets | None = Field(description="What each filter would find; null: `facets` was not asked for.")


class OperatorCollectionPage(Linked):
    """A page of collections as it is shown to the holder of a key."""

    items: list[OperatorCollectionResource]
    facets: Facets | None = Field(description="What each filter would find; null: `facets` was not asked for.")


class JobPage(Linked):
    """A page of jobs, newest first. Links: `self`, and `next` unless it is the last page."""

    jobs: list[JobItem]


class Conformance(Linked):
    """What the server conforms to."""

    conformsTo: list[str] = Field(description="URIs of conformance classes.")  # noqa: N815


class ProcessSummary(Linked):
    """A process in a list. Links: `self`, its execution, its jobs."""

    id: str
    version: str
    title: str
    description: str
    keywords: list[str]
    jobControlOptions: list[Literal["sync-execute", "async-execute", "dismiss"]] = Field(  # noqa: N815
        description="How it can be executed: `sync-execute` answers with the results, `async-execute` with a job."
    )
    outputTransmission: list[Literal["value", "reference"]] = Field(  # noqa: N815
        description="How outputs can be given: themselves, or as links."
    )


class ProcessOutput(BaseModel):
    """What a process gives."""

    title: str
    description: str
    schema_: dict[str, Any] = Field(alias="schema", description="Of one value, in the dialect of the standard.")


class ProcessInput(ProcessOutput):
    """What a process takes."""

    minOccurs: int = Field(description="How many values it takes at least; 0: it can be left out.")  # noqa: N815
    maxOccurs: int = Field(description="How many values it takes at most.")  # noqa: N815


class ProcessDescription(ProcessSummary):
    """A process with what it takes and gives, by name."""

    inputs: dict[str, ProcessInput]
    outputs: dict[str, ProcessOutput]


class ProcessList(Linked):
    """A page of processes. Links: `self`, and `next` unless it is the last page."""

    processes: list[ProcessSummary]


class DownloadList(Linked):
    """The files of a collection: full, then by year, then undated. Links: `self`, `collection`, `job`."""

    job_id: int | None = Field(description="The job that made them; null: nothing is published yet.")
    items: list[Download]


class Health(BaseModel):
    """The service can do its work."""

    status: str


class ProblemKind(Linked):
    """A kind of problem. Links: `self`, and `about`, the page for people."""

    id: str = Field(description="Last segment of `type`: what programs compare.")
    type: str = Field(description="URI of the kind, as problems have it.")
    status: int
    title: str
    explanation: str
    remedy: str = Field(description="What whoever meets it can do.")


class ProblemKinds(Linked):
    """Every kind of problem, by status. Links: `self`, and `alternate`, the page for people."""

    items: list[ProblemKind]


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="URI of the kind. Its last segment never changes; `/problems/{id}` explains it.")
    title: str = Field(description="The kind, in words.")
    status: int
    detail: str = Field(description="This case, in words, and what to do.")
    instance: str = Field(description="Path of the request.")
    request_id: str = Field(description="The response's `X-Request-Id`: quote it when you report a problem.")
