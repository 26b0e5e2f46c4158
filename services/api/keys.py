"""Who asks: the API key that came with a request, and whether its scope is enough.

A key comes as ``Authorization: Bearer KEY`` (RFC 6750). One that is not valid is refused everywhere, also where none is
needed: whoever sends a key should not be taken for the public without noticing. Other schemes of that header are not
ours (a proxy may use them) and count as no key. Nothing of a key gets into an answer or a log line: neither quotes the
header, and both mask what looks like one (:func:`shared.logging.mask`).
"""

import re
from http import HTTPStatus

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session, sessionmaker

from services.api.problems import ProblemError
from services.api.schemas import PROBLEMS
from shared.db.models import KeyScope
from shared.keys import Holder, KeyRefusedError, authenticate

SCHEME = "apiKey"
"""What the OpenAPI document calls it."""
REALM = 'Bearer realm="bowerbird"'
_BEARER = re.compile(r"bearer +([!-~]+) *", re.IGNORECASE)


async def holder_of(request: Request) -> Holder | None:
    """Return who holds the key that came along, None if none did. Raise a problem (401) if it is not valid."""
    given = request.headers.getlist("authorization")
    if not any(value[:6].lower() == "bearer" for value in given):
        return None
    match = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    if match is None:
        raise _refused("malformed-key", "The header Authorization is not understood. Send: Authorization: Bearer KEY")
    return await run_in_threadpool(_authenticate, request.app.state.context.sessions, match[1])


def _authenticate(sessions: sessionmaker[Session], key: str) -> Holder:
    try:
        with sessions.begin() as session:
            return authenticate(session, key)
    except KeyRefusedError as error:
        raise _refused(f"{error.reason}-key", str(error)) from None


def _refused(kind: str, detail: str) -> ProblemError:
    headers = {"WWW-Authenticate": f'{REALM}, error="invalid_token"'}
    return ProblemError(HTTPStatus.UNAUTHORIZED, detail, kind=PROBLEMS + kind, headers=headers)


def require(holder: Holder | None, scope: KeyScope) -> Holder:
    """Return the holder. Raise a problem: 401 if there is none, 403 if the key's scope does not include ``scope``."""
    if holder is None:
        raise ProblemError(
            HTTPStatus.UNAUTHORIZED,
            f"This needs an API key of scope {scope}. Send: Authorization: Bearer KEY. "
            f"Operators make one: bowerbird key create NAME --scope {scope}",
            kind=f"{PROBLEMS}no-key",
            headers={"WWW-Authenticate": REALM},
        )
    if not holder.may(scope):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"This needs an API key of scope {scope}; {holder.name} is of scope {holder.scope}.",
            kind=f"{PROBLEMS}scope-too-small",
            headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{scope}"'},
        )
    return holder
