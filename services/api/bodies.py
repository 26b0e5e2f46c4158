"""Request bodies: small, JSON, and nothing in them that is not known.

They are read here and not by the framework, which would read a body before it asks who sends it.
"""

from http import HTTPStatus
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect

from services.api.problems import ProblemError
from services.api.schemas import JSON, PROBLEMS

MAX_REQUEST_BYTES = 65_536


class Body(BaseModel):
    """Base of what is asked for. A member that is not known is refused: it was meant to say something."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Asked = TypeVar("Asked", bound=Body)


async def read(request: Request) -> bytes:
    """Return the request's body. Raise a problem: 413 if it is too large, 415 if it is not said to be JSON."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > MAX_REQUEST_BYTES:
        raise _too_large()
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_REQUEST_BYTES:
                raise _too_large()
    except ClientDisconnect:
        raise _malformed("The body ends too early.") from None
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != JSON:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The body must be JSON, and said to be. Send: Content-Type: {JSON}",
            headers={"Accept-Post": JSON} if request.method == "POST" else {},
        )
    return bytes(body)


def parse(kind: type[Asked], body: bytes) -> Asked:
    """Return what a body asks for; no body is an empty one. Raise a problem (400 or 422) that names what is wrong."""
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
    if faults[0]["type"] == "json_invalid":
        raise _malformed(f"The body is not valid JSON: {faults[0]['msg']}.")
    texts = []
    for fault in faults:
        name = ".".join(map(str, fault["loc"])) or "body"
        if fault["type"] == "extra_forbidden":
            texts.append(f"{name:.100}: there is no such member; there are: {_members(kind, fault['loc'])}")
        else:
            texts.append(f"{name:.100}: {fault['msg'].removeprefix('Value error, ')}")
    raise invalid("; ".join(texts))


def _members(kind: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """Return the members there are where one is that is not known."""
    for name in place[:-1]:
        inner = kind.model_fields[str(name)].annotation if name in kind.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            kind = inner
    return ", ".join(kind.model_fields) or "none"


def invalid(detail: str) -> ProblemError:
    """Return the problem (422) of a body that can be read, and not meant."""
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail, kind=f"{PROBLEMS}invalid-body")


def _malformed(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, detail, kind=f"{PROBLEMS}malformed-body")


def _too_large() -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is over the limit of {MAX_REQUEST_BYTES:,} bytes.",
        headers={"Connection": "close"},  # the rest of it is not read
    )
