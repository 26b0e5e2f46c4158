"""The processes that can be executed over the API (OGC API - Processes): what they are, take and give.

A process is executed as a job: ``publish`` is the whole line for a collection, and what the scheduler's own jobs are
executions of; each stage of the line is a process of its own; ``echo`` is about no collection, and gives back what it
is given, so that clients can be tried out. Descriptions are in the dialect of the standard
(https://docs.ogc.org/is/18-062r2/18-062r2.html, section 7.10).
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs

from shared.db.models import KeyScope

PUBLISH = "publish"
ECHO = "echo"
VERSION = "1.0.0"
MAX_PAUSE_SECONDS = 60
"""The longest pause that the echo process makes."""
MAX_TEXT = 10_000


@dataclass(frozen=True)
class Parameter:
    """An input or an output. ``schema`` describes one value, also where there may be several."""

    title: str
    schema: Mapping[str, Any]
    description: str = ""
    least: int = 1
    most: int = 1
    """How many values an input takes."""

    @property
    def accepts(self) -> dict[str, Any]:
        """The schema as JSON Schema has it: ``nullable`` and the formats of the standard's dialect left out."""
        return {name: value for name, value in self.schema.items() if name not in ("nullable", "format")}

    def require(self, value: Any) -> None:
        """Raise ValueError, with the reason, for what is none of the values that it takes."""
        for fault in jsonschema_rs.validator_for(self.accepts).iter_errors(value):
            raise ValueError(f"{fault.message:.300}")
        if self.schema.get("contentEncoding") == "base64":
            _require_base64(value)

    def several(self, given: Any) -> list[Any]:
        """Return what is given as a list: one value may come alone. Raise ValueError if they are too many or few."""
        values = given if isinstance(given, list) else [given]
        if not self.least <= len(values) <= self.most:
            raise ValueError(f"takes {self.least} to {self.most} values, not {len(values)}")
        return values


@dataclass(frozen=True)
class Process:
    """A process. ``task``: the one task type that an execution does; empty: all of the collection's plan."""

    id: str
    title: str
    description: str
    inputs: Mapping[str, Parameter]
    outputs: Mapping[str, Parameter]
    task: str = ""
    keywords: tuple[str, ...] = ()
    sync: bool = False
    """Whether whoever asks can wait for it: it is short."""
    scope: KeyScope | None = KeyScope.OPERATE
    """What key is needed to execute it; None: none."""
    visible: KeyScope | None = None
    """What key is needed to see that there is such a process; None: none."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Inputs that are given already, and not asked for."""
    base: str = ""
    """The process that it is a variant of; empty: none."""

    @property
    def kind(self) -> str:
        """Which of the processes that there are in code it is."""
        return self.base or self.id

    @property
    def asked(self) -> dict[str, Parameter]:
        """The inputs that can be given."""
        return {name: parameter for name, parameter in self.inputs.items() if name not in self.fixed}

    @property
    def job_control_options(self) -> list[str]:
        """How it can be executed, in the standard's words."""
        return [*(["sync-execute"] if self.sync else []), "async-execute", "dismiss"]


def _require_base64(value: str) -> None:
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"is not base64: {error}") from None


_COLLECTION = Parameter(
    title="Collection",
    description="The collection's `source_id` or `id`.",
    schema={"type": "string", "minLength": 1, "maxLength": 100},
)
_JOB = Parameter(
    title="Job",
    description="The job whose records it works on; left out: the collection's newest job. Its temporary data must "
    "still be there, as after `collect`, or where it was asked to be kept.",
    schema={"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
    least=0,
)
_KEEP = Parameter(
    title="Keep all data",
    description="Keep the temporary data when the job is over.",
    schema={"type": "boolean", "default": False},
    least=0,
)
_FILES = Parameter(
    title="Files",
    description="What the job published: name, size in bytes, records, SHA-256, and where to download it.",
    schema={
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "href", "type", "size", "records", "sha256"],
            "properties": {
                "name": {"type": "string"},
                "href": {"type": "string", "format": "uri"},
                "type": {"type": "string"},
                "size": {"type": "integer"},
                "records": {"type": "integer"},
                "sha256": {"type": "string"},
            },
        },
    },
)
_SUMMARY = Parameter(
    title="Summary",
    description="Numbers by task: records collected, compiled, exported.",
    schema={"type": "object", "additionalProperties": True, "contentMediaType": "application/json"},
)
_COVERAGE = Parameter(
    title="Field coverage",
    description="Path of a field → in how many places it is not empty.",
    schema={
        "type": "object",
        "additionalProperties": {"type": "integer"},
        "contentMediaType": "application/json",
    },
)
_QUALITY = Parameter(
    title="Quality",
    description="How many checks something fails, by severity; all of it is at the job's `quality` link.",
    schema={"type": "object", "additionalProperties": True, "contentMediaType": "application/json"},
)


def _stage(task: str, title: str, description: str, **outputs: Parameter) -> Process:
    inputs = {"collection": _COLLECTION} if task == "collect" else {"collection": _COLLECTION, "job": _JOB}
    keywords = ("stage", "open data")
    return Process(task, title, description, inputs=inputs, outputs=outputs, task=task, keywords=keywords)


_STAGES = (
    _stage(
        "collect",
        "Collect a collection",
        "Reads the collection's source into a new job, and keeps the records for the stages after it. Nothing is "
        "published until the job is exported.",
        summary=_SUMMARY,
    ),
    _stage("process", "Compile records", "Compiles the releases of each contracting process.", summary=_SUMMARY),
    _stage("check", "Check quality", "Judges the compiled records by every quality check.", quality=_QUALITY),
    _stage(
        "export",
        "Export as JSON Lines",
        "Writes compressed JSON Lines files, all records and by year, and publishes them.",
        files=_FILES,
    ),
    _stage("coverage", "Count fields", "Counts how often each field occurs in what is exported.", coverage=_COVERAGE),
    _stage("flatten", "Flatten", "Turns the exported files into CSV and Excel.", files=_FILES),
)

_BBOX = {
    "type": "object",
    "required": ["bbox"],
    "format": "ogc-bbox",
    "properties": {
        "bbox": {
            "type": "array",
            "items": {"type": "number"},
            "oneOf": [{"minItems": 4, "maxItems": 4}, {"minItems": 6, "maxItems": 6}],
        },
        "crs": {"type": "string"},
    },
}
_POINT = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "value": {"type": "number"}},
    "contentMediaType": "application/json",
}
_ECHOED: dict[str, Parameter] = {
    "text": Parameter("Text", {"type": "string", "maxLength": MAX_TEXT}, "Comes back as it is."),
    "numbers": Parameter("Numbers", {"type": "number"}, "Up to ten.", least=0, most=10),
    "object": Parameter("Object", _POINT, "A thing with a name.", least=0),
    "mixed": Parameter(
        "Text or object", {"oneOf": [{"type": "string", "maxLength": MAX_TEXT}, _POINT]}, "Either.", least=0
    ),
    "binary": Parameter(
        "Bytes",
        {"type": "string", "contentEncoding": "base64", "contentMediaType": "application/octet-stream"},
        "In base64.",
        least=0,
    ),
    "bbox": Parameter("Bounding box", _BBOX, "In any reference system.", least=0),
}


def _echo_output(name: str, parameter: Parameter) -> Parameter:
    schema = parameter.schema if name != "numbers" else {"type": "array", "items": parameter.schema}
    return Parameter(parameter.title, schema, "The input of the same name.")


_ECHO = Process(
    ECHO,
    "Echo",
    "Gives back what it is given, after a pause if asked for one: to try out clients. It goes the way of all work, "
    "through queue and worker, behind everything else.",
    inputs={
        **_ECHOED,
        "pause": Parameter(
            "Pause",
            {"type": "number", "minimum": 0, "maximum": MAX_PAUSE_SECONDS, "default": 0},
            "Seconds to wait before answering.",
            least=0,
        ),
        "fail": Parameter(
            "Fail", {"type": "boolean", "default": False}, "End as failed, to see what that is like.", least=0
        ),
    },
    outputs={name: _echo_output(name, parameter) for name, parameter in _ECHOED.items()},
    task=ECHO,
    keywords=("test",),
    sync=True,
    scope=None,
)

_PUBLISH = Process(
    PUBLISH,
    "Publish a collection",
    "The whole line: collects the source, compiles, checks, exports, counts and flattens, as the collection's plan "
    "says; and publishes the files if all went well.",
    inputs={"collection": _COLLECTION, "keep_all_data": _KEEP},
    outputs={"files": _FILES, "summary": _SUMMARY, "coverage": _COVERAGE},
    keywords=("open data", "OCDS"),
)

BUILT_IN: dict[str, Process] = {process.id: process for process in (_PUBLISH, *_STAGES, _ECHO)}
"""The processes that there are, by id, in the order in which they are listed."""


def kind_of(process: str, request: Mapping[str, Any]) -> str:
    """Return which of the processes that there are in code a job is an execution of, whatever is offered by now.

    :param process: the id in the job's row; ``request``: how it was asked for, which names the base of a variant.
    """
    return str(request.get("base") or process)
