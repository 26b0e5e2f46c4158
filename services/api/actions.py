"""How an action is carried out over HTTP: key and scope, body, the action in shared code, answer.

The order matters: nothing of a request is read or looked up before it is known who sends it. Every action is audited as
``key:NAME``, by the shared code, in its own transaction. What does not fit the state of things is 409 with the sentence
of the command line.

Scopes: ``read`` sees everything that operators see and changes nothing; ``operate`` does what can be undone or
repeated; ``admin`` deletes for good.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.responses import Response

from services.api import bodies, control_openapi, idempotency, keys, openapi
from services.api.bodies import Asked, Body
from services.api.idempotency import Answer
from services.api.negotiation import choose
from services.api.problems import ProblemError, unavailable
from services.api.routes import Api, reader
from services.api.schemas import JSON, PROBLEMS, Linked
from shared import jobs
from shared.broker import Broker, open_broker
from shared.db.models import KeyScope
from shared.errors import BowerbirdError, BrokerUnavailableError, ConfigurationError
from shared.jobs import JobInProgressError
from shared.keys import Holder
from shared.logging import get_logger
from shared.pauses import PausedError

READ, OPERATE, ADMIN = KeyScope.READ, KeyScope.OPERATE, KeyScope.ADMIN

B = TypeVar("B", bound=Body)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Response])

log = get_logger()


@dataclass(frozen=True)
class Done:
    """What an action answers, and what follows once it is committed."""

    model: BaseModel
    status: HTTPStatus = HTTPStatus.OK
    headers: dict[str, str] | None = None
    then: Callable[[], None] | None = None


@dataclass(frozen=True)
class Action(Generic[B]):
    """A request to change something: who asks, for what."""

    api: Api
    holder: Holder
    asked: B
    once: idempotency.Once | None

    @property
    def actor(self) -> str:
        """Who asks, for the audit."""
        return self.holder.actor

    def carry_out(self, do: Callable[[Session], Done]) -> Response:
        """Do it in a transaction, and answer; a repetition is answered as the first was.

        ``do`` may use transactions of its own instead, if what it does is harmless to repeat.
        """
        try:
            with self.api.context.sessions.begin() as session:
                if self.once is not None and (before := self.once.begin(session)) is not None:
                    return before.response(replayed=True)
                done = do(session)
                answer = Answer(done.status, self.api.body(done.model), _headers(done))
                if self.once is not None:
                    self.once.keep(session, answer)
        except BowerbirdError as error:
            raise refusal(self.api, error) from error
        if done.then is not None:
            done.then()
        return answer.response()

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        """Yield a broker. It connects when it is first used."""
        with opened_broker(self.api) as broker:
            yield broker

    def announce(self, job_id: int) -> None:
        """Tell the scheduler of a committed job. If that fails, its next tick sees it."""
        announce(self.api, job_id)


def _headers(done: Done) -> dict[str, str]:
    headers = dict(done.headers or {})
    if isinstance(done.model, Linked):
        headers["Link"] = ", ".join(f'<{link.href}>; rel="{link.rel}"; type="{link.type}"' for link in done.model.links)
    return headers


@contextlib.contextmanager
def opened_broker(api: Api) -> Iterator[Broker]:
    """Yield a broker of this request's own: brokers belong to one thread, requests to many.

    One that is set up wrongly counts as one that is away: whoever asks here cannot mend it.
    """
    context = api.context
    try:
        broker = open_broker(context.settings, context.database_url)
        try:
            yield broker
        finally:
            broker.close()
    except ConfigurationError as error:
        raise BrokerUnavailableError(str(error)) from error


@contextlib.contextmanager
def going_on_without(otherwise: str) -> Iterator[None]:
    """Go on without the broker while it is away."""
    try:
        yield
    except BrokerUnavailableError as error:
        log.warning("done without the broker", consequence=otherwise, error=str(error))


def announce(api: Api, job_id: int) -> None:
    """Tell the scheduler of a committed job. If that fails, its next tick sees it."""
    with going_on_without("scheduler not told; its next tick will see it"), opened_broker(api) as broker:
        broker.declare()
        with api.context.sessions() as session:
            trace = jobs.trace_of(session, job_id)
        jobs.announce_job(broker, job_id, trace=trace)


def refusal(api: Api, error: BowerbirdError) -> ProblemError:
    """Return the problem of an action that is not possible now."""
    if isinstance(error, BrokerUnavailableError):
        return broker_away(error)
    if isinstance(error, JobInProgressError):
        link = api.link("related", f"/jobs/{error.job_id}").href
        return conflict(str(error), "job-in-progress", {"Link": f'<{link}>; rel="related"; type="{JSON}"'})
    return conflict(str(error), "paused" if isinstance(error, PausedError) else "state-conflict")


def conflict(detail: str, kind: str = "state-conflict", headers: dict[str, str] | None = None) -> ProblemError:
    """Return the problem (409) of what the state of things does not allow."""
    return ProblemError(HTTPStatus.CONFLICT, detail, kind=PROBLEMS + kind, headers=headers)


def broker_away(error: BowerbirdError) -> ProblemError:
    """Return the problem (503) of what cannot be done while the broker is away."""
    log.warning("request refused without a broker", error=str(error))
    return unavailable("The broker cannot be reached for the moment. Nothing is lost. Try again in a few seconds.")


def _may_read(api: Annotated[Api, Depends(reader)]) -> Api:
    keys.require(api.holder, READ)
    return api


Reader = Annotated[Api, Depends(_may_read)]


def asked_for(scope: KeyScope, kind: type[Asked]) -> Any:
    """Return the dependency that gives an endpoint its :class:`Action`."""

    async def ask(api: Annotated[Api, Depends(reader)], request: Request) -> Action[Asked]:
        holder = keys.require(api.holder, scope)
        choose(request, [JSON])
        body = await bodies.read(request)
        asked = bodies.parse(kind, body)
        return Action(api, holder, asked, idempotency.once_of(request, holder.actor, body))

    return Depends(ask)


def reading(
    router: APIRouter, path: str, *, responses: openapi.Responses, **options: Any
) -> Callable[[Endpoint], Endpoint]:
    """Register a read for holders of a key, as GET and HEAD."""

    def register(function: Endpoint) -> Endpoint:
        documented = openapi.merged(responses, control_openapi.DENIED, openapi.FAULT)
        extra = control_openapi.secured(READ)
        router.get(path, responses=documented, openapi_extra=extra, **options)(function)
        router.head(path, include_in_schema=False)(function)
        return function

    return register


def acting(
    router: APIRouter,
    method: Literal["POST", "PUT", "PATCH", "DELETE"],
    path: str,
    *,
    scope: KeyScope,
    body: type[Body],
    responses: openapi.Responses,
    **options: Any,
) -> Callable[[Endpoint], Endpoint]:
    """Register an action. ``scope`` and ``body`` are those of the function's :func:`asked_for`."""
    documented = control_openapi.with_refusals(responses, body, once=method == "POST")
    extra = control_openapi.secured(scope) | control_openapi.asking(body, once=method == "POST")
    return router.api_route(path, methods=[method], responses=documented, openapi_extra=extra, **options)
