"""Carrying out a request once, however often it is sent: the header ``Idempotency-Key``.

Follows draft-ietf-httpapi-idempotency-key-header (version 07). The answer is kept for a day under the asker and the
key, together with a fingerprint of the request: the same request gets the same answer again (with
``Idempotency-Replayed: true``), another one with the same key is 422.

The model: an advisory lock on asker and key is held by the transaction that does what is asked for; who finds it taken
is told so (409). The answer is kept in that same transaction. So whether it was done and what was answered can never
differ, and a process that dies leaves nothing behind that would have to be cleared up: neither a lock nor half an
answer. What takes several transactions (dead letters, messages, retention) is harmless to repeat by itself.

Only success is kept. After a problem nothing is changed, and a repetition is judged anew.

PUT, DELETE and PATCH need no such key: doing them twice is doing them once.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from fastapi import Request
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from starlette.responses import Response

from services.api.problems import ProblemError
from services.api.schemas import JSON, PROBLEMS
from shared.db.models import KeptAnswer

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEPT_FOR = timedelta(days=1)
CLEANED_AT_ONCE = 100
"""Old answers that go whenever a new one is kept: more than come."""
_KEY = re.compile(r'"([ !#-~]{1,255})"|([!#-~]{1,255})')


@dataclass(frozen=True)
class Answer:
    """An answer, complete enough to be given again."""

    status: int
    body: bytes
    headers: dict[str, str]

    def response(self, *, replayed: bool = False) -> Response:
        """Return it as it is sent."""
        again = {REPLAYED: "true"} if replayed else {}
        headers = {"Cache-Control": "no-store", "Content-Length": str(len(self.body))} | self.headers | again
        return Response(self.body, status_code=self.status, headers=headers, media_type=JSON)


@dataclass(frozen=True)
class Once:
    """A request that is to be carried out once: who asks, under which key, and its fingerprint."""

    actor: str
    key: str
    fingerprint: bytes

    def begin(self, session: Session) -> Answer | None:
        """Take the lock until the transaction ends; return the answer that was given before, if one was.

        Raise a problem: 409 while the first such request is under way, 422 if it was another one.
        """
        lock = func.pg_try_advisory_xact_lock(func.hashtextextended(f"{self.actor}\n{self.key}", 0))
        if not session.scalar(select(lock)):
            raise ProblemError(
                HTTPStatus.CONFLICT,
                "The request that first had this Idempotency-Key is still under way. Ask again in a moment.",
                kind=f"{PROBLEMS}request-under-way",
                headers={"Retry-After": "1"},
            )
        kept = session.scalar(
            select(KeptAnswer).where(
                KeptAnswer.actor == self.actor,
                KeptAnswer.key == self.key,
                KeptAnswer.created > func.now() - KEPT_FOR,
            )
        )
        if kept is None:
            return None
        if kept.fingerprint != self.fingerprint:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "Another request had this Idempotency-Key before. Use a new one for each request.",
                kind=f"{PROBLEMS}idempotency-key-reused",
            )
        return Answer(kept.status, kept.body, kept.headers)

    def keep(self, session: Session, answer: Answer) -> None:
        """Keep the answer, in the transaction that did what is answered; remove some that are old."""
        old = select(KeptAnswer.actor, KeptAnswer.key).where(KeptAnswer.created < func.now() - KEPT_FOR)
        old = old.limit(CLEANED_AT_ONCE).with_for_update(skip_locked=True)
        session.execute(
            delete(KeptAnswer)
            .where(tuple_(KeptAnswer.actor, KeptAnswer.key).in_(old))
            .execution_options(synchronize_session=False)
        )
        values: dict[str, Any] = {
            "fingerprint": self.fingerprint,
            "status": answer.status,
            "headers": answer.headers,
            "body": answer.body,
            "created": func.now(),
        }
        statement = insert(KeptAnswer).values(actor=self.actor, key=self.key, **values)
        session.execute(statement.on_conflict_do_update(index_elements=["actor", "key"], set_=values))


def once_of(request: Request, actor: str, body: bytes) -> Once | None:
    """Return what the header asks for, None without it. Raise a problem (400) if it is malformed."""
    given = request.headers.getlist(HEADER)
    if request.method != "POST" or not given:
        return None
    match = _KEY.fullmatch(given[0].strip()) if len(given) == 1 else None
    if match is None:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, f'{HEADER} must be one text of 1 to 255 ASCII characters: {HEADER}: "8e03978e-40d5"'
        )
    said = (request.method, request.url.path, request.url.query, request.headers.get("content-type", ""))
    fingerprint = hashlib.sha256("\n".join(said).encode() + b"\n" + body).digest()
    return Once(actor, match[1] or match[2], fingerprint)
