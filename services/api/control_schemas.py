"""The shapes of what is asked for and answered in control. The same promises hold as for the other answers."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from services.api.bodies import Body
from services.api.queries import MAX_TEXT_CHARACTERS, NO_NUL
from services.api.schemas import Linked
from shared.audit import AuditView
from shared.dead_letters import MAX_ID, FullLetterView, LetterView
from shared.durations import parse_duration
from shared.pauses import PauseView

PlainText = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARACTERS, pattern=NO_NUL)]
RowNumber = Annotated[int, Field(ge=1, le=MAX_ID)]


def _duration(text: str) -> str:
    parse_duration(text)
    return text


Duration = Annotated[str, AfterValidator(_duration)]


# Asked for


class Nothing(Body):
    """No body is needed."""


class CancelRequest(Body):
    """End a job."""

    reason: PlainText = Field(default="", description="Why; kept with the job.")


class RestartRequest(Body):
    """Do a job again."""

    from_task: PlainText | None = Field(
        default=None, description="Type of the first task to do again; null: the first that is not OK."
    )


class RunRequest(Body):
    """Run a job of a collection."""

    keep_all_data: bool = Field(default=False, description="Keep the job's temporary data.")


class JobChange(Body):
    """What of a job can be changed."""

    keep_all_data: bool = Field(description="Whether its temporary data is to be kept.")


class LettersRequest(Body):
    """Which dead letters: those that meet everything that is given. Without any of it, `all` must be true."""

    ids: list[RowNumber] = Field(default=[], max_length=1000)
    job: RowNumber | None = None
    collection: PlainText | None = Field(default=None, description="Name of a collection.")
    queue: PlainText | None = Field(default=None, description="A worker service, `scheduler`, or the queue's own name.")
    reason: PlainText = Field(default="", description="Part of the reason; upper and lower case are the same.")
    since: Duration | None = Field(default=None, description="Died within this time: `90m`, `2d`.")
    all: bool = Field(default=False, description="All of them, where nothing else is given.")
    dry_run: bool = Field(default=False, description="Only say which.")


class ReplayRequest(Body):
    """Whose messages to publish again: those that meet everything that is given; by default all."""

    job: RowNumber | None = None
    queue: PlainText | None = Field(default=None, description="A worker service, or its queue.")
    since: Duration | None = Field(default=None, description="Published within this time: `90m`, `2d`. Null: ever.")
    dry_run: bool = Field(default=False, description="Only count them.")


class RetentionRequest(Body):
    """Where to delete the jobs that are not needed any longer."""

    collection: PlainText | None = Field(default=None, description="Name or id of one collection.")
    all: bool = Field(default=False, description="In all collections.")


# Answered


class LetterItem(Linked, LetterView):
    """A dead letter in a list. Links: `self`, and `job` if it is about one."""


class LetterPage(Linked):
    """A page of dead letters, newest first. Links: `self`, and `next` unless it is the last page."""

    items: list[LetterItem]


class LetterResource(Linked, FullLetterView):
    """A dead letter in full. Links: `self`, and `job` if it is about one."""


class LetterOutcome(BaseModel):
    """What became of one dead letter."""

    id: int
    outcome: Literal["replayed", "discarded", "unchanged", "refused"] = Field(
        description="`unchanged`: it was replayed or discarded before. `refused`: `detail` says why, and what to do."
    )
    detail: str


class LetterOutcomes(BaseModel):
    """What became of each dead letter; with `dry_run`, which ones would be acted on."""

    dry_run: bool
    letters: list[LetterView] = Field(description="With `dry_run`: what was chosen, newest first.")
    outcomes: list[LetterOutcome] = Field(description="Without: one for each letter.")


class Paused(BaseModel):
    """Something is paused, or not (any longer)."""

    kind: Literal["collection", "queue"]
    name: str
    paused: bool
    changed: bool = Field(description="False: it was so already.")


class PauseList(Linked):
    """What is paused, oldest first."""

    items: list[PauseView]


class QueueItem(BaseModel):
    """A queue, and how many messages it holds. Those that a worker holds are in none of the numbers."""

    name: str
    ready: int = Field(description="To be taken now.")
    waiting: int = Field(description="For the time of their next attempt.")
    dead: int = Field(description="The broker's copies of dead letters.")
    paused: bool


class QueueList(Linked):
    """The queues of the suite."""

    items: list[QueueItem]


class AuditPage(Linked):
    """A page of what was done, newest first. Links: `self`, and `next` unless it is the last page."""

    items: list[AuditView]


class Messages(BaseModel):
    """How many messages of queued units were published again, or with `dry_run` would be."""

    messages: int
    published: bool


class RetainedJob(BaseModel):
    """What retention decides about a job, and why."""

    source_id: str = Field(description="The collection's name.")
    job_id: int
    delete: bool
    reason: str


class RetentionPage(Linked):
    """Decisions about the jobs of some collections. Links: `self`, and `next` unless it is the last page."""

    items: list[RetainedJob]


class RetentionAnswer(BaseModel):
    """Decisions as they were carried out: the jobs to be deleted are marked, and go within minutes."""

    items: list[RetainedJob]
