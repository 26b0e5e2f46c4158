"""Every kind of problem there is, in one place: its URI, status, title, explanation and remedy.

A kind is named by a reference: a path of this API (``/problems/job-in-progress``), or the URI that a standard gave it.
In an answer ``type`` is always absolute (RFC 9457 recommends that, as relative ones are resolved wrongly by many): the
path below the API's own address, where a page explains it (problem_pages.py). The last segment is the kind's id. It
never changes, while an address may: programs compare that.
"""

from dataclasses import dataclass
from http import HTTPStatus as Status

from services.api.schemas import NO_SUCH_JOB, NO_SUCH_OUTPUT, NO_SUCH_PROCESS, PROBLEMS, RESULT_NOT_READY


@dataclass(frozen=True)
class ProblemType:
    """A kind of problem. ``kind`` is its reference; ``general``: of its status, where no other kind says more."""

    kind: str
    status: Status
    title: str
    explanation: str
    remedy: str
    general: bool = False

    @property
    def id(self) -> str:
        """What programs compare: the last segment of the URI."""
        return self.kind.rpartition("/")[2]


def _own(id_: str, status: Status, title: str, explanation: str, remedy: str, *, general: bool = False) -> ProblemType:
    return ProblemType(PROBLEMS + id_, status, title, explanation, remedy, general)


_KEY_REMEDY = "Ask the operators for a key: `bowerbird key create NAME`. Without one, what is public is answered."
_LIST = "Follow the link in `detail`: it lists what there is."

_ALL = (
    _own(
        "bad-request",
        Status.BAD_REQUEST,
        "The request is malformed",
        "A header or the name of a download is not possible.",
        "`detail` says which, and what is possible.",
        general=True,
    ),
    _own(
        "invalid-query",
        Status.BAD_REQUEST,
        "A query value is not possible",
        "A query parameter has a value that it cannot have.",
        "`detail` begins with its name; the API's description says what it takes.",
    ),
    _own(
        "malformed-body",
        Status.BAD_REQUEST,
        "The body is not JSON",
        "The body cannot be read as JSON, or ends too early.",
        "`detail` says where. Send valid JSON, whole.",
    ),
    _own(
        "invalid-inputs",
        Status.BAD_REQUEST,
        "The inputs do not fit the process",
        "An input of an execution is missing, is not known, or has a value that it cannot have. No job was made.",
        "`detail` names each; the process's description says what it takes.",
    ),
    _own(
        "process-failed",
        Status.BAD_REQUEST,
        "The job failed",
        "The results were asked for of a job that did not succeed.",
        "`detail` says why it failed. Mend that, and execute it again.",
    ),
    _own(
        "no-key",
        Status.UNAUTHORIZED,
        "A key is needed",
        "What was asked for is for holders of an API key, and none came.",
        "Send `Authorization: Bearer KEY`. Operators make one: `bowerbird key create NAME --scope SCOPE`.",
        general=True,
    ),
    _own(
        "malformed-key",
        Status.UNAUTHORIZED,
        "The key is not readable",
        "The header `Authorization` begins with Bearer and goes on with no key, or came twice.",
        "Send it once: `Authorization: Bearer KEY`.",
    ),
    _own(
        "unknown-key",
        Status.UNAUTHORIZED,
        "The key is not known",
        "No key here is this one.",
        f"Look whether it was copied whole. {_KEY_REMEDY}",
    ),
    _own(
        "expired-key",
        Status.UNAUTHORIZED,
        "The key is expired",
        "The key was valid until some time ago.",
        _KEY_REMEDY,
    ),
    _own("revoked-key", Status.UNAUTHORIZED, "The key is revoked", "Operators ended the key.", _KEY_REMEDY),
    _own(
        "scope-too-small",
        Status.FORBIDDEN,
        "The key allows less",
        "The key is valid, and its scope does not include what was asked for.",
        "`detail` names the scope that does. Operators make such a key.",
        general=True,
    ),
    _own(
        "not-found",
        Status.NOT_FOUND,
        "Nothing is at this path",
        "The path leads nowhere, or to what is not public.",
        "Begin at the landing page and follow its links.",
        general=True,
    ),
    _own(
        "no-such-collection",
        Status.NOT_FOUND,
        "There is no such collection",
        "No collection has this name or number, or it is not public.",
        _LIST,
    ),
    _own(
        "no-such-file",
        Status.NOT_FOUND,
        "There is no such file",
        "The collection's active job has no file of this name.",
        _LIST,
    ),
    _own("no-such-dead-letter", Status.NOT_FOUND, "There is no such dead letter", "No dead letter has this id.", _LIST),
    _own(
        "no-such-queue",
        Status.NOT_FOUND,
        "There is no such queue",
        "No worker service, and no queue, has this name.",
        "`detail` names those there are.",
    ),
    _own(
        "method-not-allowed",
        Status.METHOD_NOT_ALLOWED,
        "The method cannot be used here",
        "There is something at this path, and it does not do that.",
        "`Allow` names the methods that can be used.",
        general=True,
    ),
    _own(
        "not-acceptable",
        Status.NOT_ACCEPTABLE,
        "There is no form of it that is accepted",
        "`Accept`, or the parameter `f`, excludes every form there is.",
        "`detail` names the forms there are; ask for one of them, or send no `Accept`.",
        general=True,
    ),
    _own(
        "job-in-progress",
        Status.CONFLICT,
        "The collection has a job in progress",
        "A collection has one job at a time.",
        "`Link` leads to that job: wait for its end, or cancel it.",
    ),
    _own(
        "paused",
        Status.CONFLICT,
        "It is paused",
        "Nothing of the collection is started while it is paused.",
        "Resume it first: DELETE its pause.",
    ),
    _own(
        "state-conflict",
        Status.CONFLICT,
        "The state of things does not allow it",
        "What was asked for does not fit what is there now. Nothing was changed.",
        "`detail` says why, and what is possible.",
        general=True,
    ),
    _own(
        "request-under-way",
        Status.CONFLICT,
        "The first such request is under way",
        "Another request with this `Idempotency-Key` is not answered yet.",
        "Ask again after `Retry-After` seconds.",
    ),
    _own(
        "job-dismissed",
        Status.GONE,
        "The job was dismissed",
        "The results were asked for of a job that was ended before it was done.",
        "Execute it again.",
    ),
    _own(
        "precondition-failed",
        Status.PRECONDITION_FAILED,
        "It is another version by now",
        "`If-Match` or `If-Unmodified-Since` names a version that is not the present one. Nothing was changed.",
        "Read it again; then decide anew.",
        general=True,
    ),
    _own(
        "body-too-large",
        Status.REQUEST_ENTITY_TOO_LARGE,
        "The body is too large",
        "The body has more bytes than one may have.",
        "`detail` says how many it may have. Ask for less at once.",
        general=True,
    ),
    _own(
        "unsupported-media-type",
        Status.UNSUPPORTED_MEDIA_TYPE,
        "The body is of another type",
        "The body is not said to be of a type that is read here.",
        "Send `Content-Type: application/json`.",
        general=True,
    ),
    _own(
        "range-not-satisfiable",
        Status.REQUESTED_RANGE_NOT_SATISFIABLE,
        "The range is beyond the end",
        "The file has no byte where the range begins.",
        "`Content-Range` says how long the file is.",
        general=True,
    ),
    _own(
        "invalid-body",
        Status.UNPROCESSABLE_ENTITY,
        "The body asks for what is not possible",
        "The body has a member that is not known, or a value that is not possible.",
        "`detail` names it, and what is possible.",
        general=True,
    ),
    _own(
        "idempotency-key-reused",
        Status.UNPROCESSABLE_ENTITY,
        "The Idempotency-Key is another request's",
        "Another request had this `Idempotency-Key` within the last day.",
        "Use a new one for each request.",
    ),
    _own(
        "too-many-requests",
        Status.TOO_MANY_REQUESTS,
        "Too many requests",
        "The key, or the address, has sent more requests than it may for the moment.",
        "Ask again after `Retry-After` seconds. `RateLimit` says how many are left.",
        general=True,
    ),
    _own(
        "too-many-streams",
        Status.TOO_MANY_REQUESTS,
        "Too many streams are open",
        "The address has as many streams of events open as it may.",
        "Close one, or use one for all jobs.",
    ),
    _own(
        "defect",
        Status.INTERNAL_SERVER_ERROR,
        "A defect of the service",
        "The service met something that it does not know how to handle.",
        "Report it with the `request_id`: the service's log has the rest.",
        general=True,
    ),
    _own(
        "unavailable",
        Status.SERVICE_UNAVAILABLE,
        "Not possible for the moment",
        "The database, the broker or a file that is needed cannot be reached. Nothing is lost.",
        "Ask again after `Retry-After` seconds.",
        general=True,
    ),
    ProblemType(
        NO_SUCH_PROCESS,
        Status.NOT_FOUND,
        "There is no such process",
        "No process has this id. OGC API - Processes gave the kind its name.",
        _LIST,
    ),
    ProblemType(
        NO_SUCH_OUTPUT,
        Status.NOT_FOUND,
        "There is no such output",
        "The job has no output of this name. OGC API - Processes gave the kind its name.",
        "`detail` names those there are.",
    ),
    ProblemType(
        NO_SUCH_JOB,
        Status.NOT_FOUND,
        "There is no such job",
        "No job has this id, or its collection is not public. OGC API - Processes gave the kind its name.",
        _LIST,
    ),
    ProblemType(
        RESULT_NOT_READY,
        Status.NOT_FOUND,
        "The results are not ready",
        "The job is not at its end. OGC API - Processes gave the kind its name.",
        "Ask for the job, and for its results once it is successful.",
    ),
)

TYPES = {type_.kind: type_ for type_ in _ALL}
"""Every kind, by its reference."""
BY_ID = {type_.id: type_ for type_ in _ALL}
"""Every kind, by its id."""
_GENERAL = {type_.status: type_ for type_ in _ALL if type_.general}


def kind_of(kind: str | None, status: Status) -> ProblemType:
    """Return a kind; None: the general one of a status. Raise ``LookupError`` for one that is not registered."""
    return TYPES[kind] if kind is not None else _GENERAL[status]
