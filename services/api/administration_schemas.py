"""The shapes of what is asked for and answered in administration. The same promises hold as for the other answers."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from services.api.bodies import Body
from services.api.control_schemas import PlainText, RowNumber
from services.api.queries import NO_NUL
from services.api.schemas import Linked, OperatorCollectionResource
from shared.editing import FIELDS
from shared.views import NoteGroup

Text = Annotated[str, StringConstraints(pattern=NO_NUL)]
Side = Literal["from", "to"]

OPTIONS = ("id_field", "date_field", "records_path")
"""Members that say how plain records are read."""


# Asked for


class Change(Body):
    """What of a collection is to be changed. What is not given stays; a blank text, or null, takes a value away."""

    title: Text = ""
    description: Text = ""
    description_long: Text = ""
    country: Text = ""
    country_flag: Text = Field(default="", description="File name of an image of the flag.")
    region: Text = ""
    language: Text = Field(default="", description="Languages of the data's values, in words.")
    additional_data: Text = ""
    update_frequency: Text = Field(default="", description="How often the source updates.")
    summary: Text = Field(default="", description="Quality of the data, in short.")
    last_reviewed: Text | None = Field(default=None, description="Date, or `today`.")
    licence: Text | RowNumber | None = Field(default=None, description="Name or number of a licence.")
    publication_policy: Text = Field(default="", description="http(s) URL.")
    source_url: Text = Field(default="", description="Where people find the source; http(s) URL.")
    no_data_rationale: Text = Field(default="", description="Why nothing is published.")
    date_from: Text | None = Field(default=None, description="Date of the first data.")
    date_to: Text | None = Field(default=None, description="Date of the last data.")
    ocid_prefix: Text = ""
    frequency: Text = Field(default="", description="How often it is collected; blank: on request.")
    cron: Text = Field(default="", description="When it is collected, in place of a frequency.")
    time_zone: Text = Field(default="", description="Of `cron`; blank: UTC.")
    catch_up: bool = Field(default=True, description="Make up, once, for times of `cron` that were missed.")
    priority: int = Field(default=0, description="-100 to 100; higher goes first.")
    frozen: bool = Field(default=False, description="Whether it is not collected for now.")
    public: bool = Field(default=True, description="Whether everyone may see it.")
    source: Text = Field(default="", description="What is collected: an http(s) URL. A path is for the command line.")
    plan: list[Text] | None = Field(default=None, description="Its own tasks, in order; null: the setting.")
    bundle: Text | RowNumber | None = Field(default=None, description="Name or number of a settings bundle.")
    active_job: RowNumber | None = Field(
        default=None, description="Which successful job of it is published; null: none."
    )
    id_field: Text = Field(default="", description="Where plain records have their id: a dotted path.")
    date_field: Text = Field(default="", description="Where plain records have their date: a dotted path.")
    records_path: Text = Field(default="", description="Where a document of plain records has them.")
    translations: dict[Text, dict[Text, Text]] = Field(
        default={}, description="Language → field → text; a blank text takes a translation away."
    )

    def fields(self) -> dict[str, Any]:
        """Return what is given of :data:`~shared.editing.FIELDS`, as the command line writes it."""
        return {name: _written(getattr(self, name)) for name in FIELDS if name in self.model_fields_set}

    def options(self) -> Mapping[str, str]:
        """Return what is given of :data:`OPTIONS`."""
        return {name: getattr(self, name) for name in OPTIONS if name in self.model_fields_set}


def _written(value: Any) -> str | bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return ",".join(value)
    return "" if value is None else str(value)


class CollectionChange(Change):
    """What of this collection is to be changed. What is not given stays; a blank text, or null, takes a value away."""

    dry_run: bool = Field(default=False, description="Only say what would change.")


class CollectionsChange(Body):
    """Which collections are to be changed, and what of them."""

    where: list[Text] = Field(
        default=[],
        max_length=100,
        description="Conditions that all must be met: `public`, `not-licence`, `region=LAC`.",
    )
    all: bool = Field(default=False, description="All of them, where no condition is given.")
    change: Change
    dry_run: bool = Field(default=False, description="Only say what would change.")


class NewCollection(Body):
    """A source that is to be kept published."""

    name: PlainText = Field(description="For paths and commands: `a-z 0-9 - _`.")
    source: PlainText = Field(
        default="", description="What is collected: an http(s) URL. Blank where another system collects."
    )
    title: Text = Field(default="", description="What people see; blank: the name.")
    country: Text = ""
    frequency: Text = Field(default="", description="How often it is collected; blank: on request.")
    cron: Text = Field(default="", description="Instead: when it is collected.")
    time_zone: Text = Field(default="", description="Of `cron`; blank: UTC.")
    catch_up: bool = Field(default=True, description="Make up, once, for times of `cron` that were missed.")
    priority: int = Field(default=0, description="-100 to 100; higher goes first.")
    public: bool = Field(default=True, description="Whether everyone may see it.")
    id_field: Text = Field(default="", description="Where plain records have their id: a dotted path.")
    date_field: Text = Field(default="", description="Where plain records have their date: a dotted path.")
    records_path: Text = Field(default="", description="Where a document of plain records has them.")
    plan: list[Text] | None = Field(default=None, description="Its own tasks, in order; null: the setting.")
    backends: list[Text] = Field(default=[], description="Who does a task: `collect:scrapyd`.")


class TaskRestart(Body):
    """Do one task again."""

    only: list[PlainText] = Field(
        default=[],
        max_length=1000,
        description="Which of its units: `failed`, a value of their parameters (such as a year), or their number; "
        "none: all.",
    )


# Answered


class Changes(BaseModel):
    """What differs of a collection: column → value before (`from`) and after (`to`). Empty: nothing does."""

    source_id: str
    changes: Mapping[str, dict[Side, Any]]


class ChangedCollections(BaseModel):
    """What changed, or with `dry_run` would change, of each collection that was chosen."""

    dry_run: bool
    collections: list[Changes]


class ChangedCollection(BaseModel):
    """What changed, or with `dry_run` would change: column → value before (`from`) and after (`to`)."""

    dry_run: bool
    changes: Mapping[str, dict[Side, Any]]
    collection: OperatorCollectionResource = Field(description="As it is now; with `dry_run`, as it stays.")


class RemovedCollection(BaseModel):
    """What goes with a collection, or with `dry_run` would go."""

    source_id: str
    dry_run: bool
    jobs: int
    files: int
    bytes: int = Field(description="Size of the files.")
    published: bool = Field(description="Whether files of it are, or were until now, published.")


class NoteGroups(Linked):
    """A job's notes, counted. Links: `self`, `job`."""

    items: list[NoteGroup]
