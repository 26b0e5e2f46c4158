"""Webhooks over HTTP: the same functions as ``bowerbird webhook``, audited as ``key:NAME``.

Adding, changing, rotating and removing need *admin*: they decide where what happens here is told, that of private
collections included, and the answer has a secret. A test needs *operate*, looking *read*.
"""

import contextlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter
from sqlalchemy.orm import Session
from starlette.responses import Response

from services.api import bodies, control_openapi, openapi
from services.api import webhooks_openapi as documented
from services.api import webhooks_schemas as shapes
from services.api.actions import ADMIN, OPERATE, Action, Done, Reader, acting, asked_for, reading
from services.api.control_schemas import Nothing
from services.api.problems import ProblemError
from services.api.routes import LARGEST_ID, Api, Before, Limit, number_of, with_links
from services.api.schemas import Link
from shared import deliveries, outbound, webhooks
from shared.db.models import DeliveryStatus
from shared.deliveries import DeliveryView, NoDeliveryError
from shared.durations import parse_duration
from shared.outbound import ForbiddenAddressError
from shared.sending import InvalidTargetError
from shared.webhooks import NoWebhookError, WebhookError, WebhookView

router = APIRouter()

WebhookId = Annotated[str, PathParameter(description="The webhook's `id`.", examples=["1"])]
DeliveryId = Annotated[str, PathParameter(description="The delivery's `id`.", examples=["12"])]


@reading(
    router,
    "/webhooks",
    tags=["webhooks"],
    operation_id="listWebhooks",
    summary="List the webhooks",
    description="Who is told of jobs, and whether they listen. Secrets are not shown.",
    response_model=shapes.WebhookList,
    responses=control_openapi.success("All webhooks.", openapi.NOT_MODIFIED),
)
def list_webhooks(api: Reader) -> Response:
    """List them."""
    with api.context.sessions() as session:
        views = webhooks.list_webhooks(session)
    items = [with_links(shapes.WebhookResource, view, *_links(api, view)) for view in views]
    return api.answer(shapes.WebhookList(items=items, links=[api.link("self", "/webhooks")]))


@reading(
    router,
    "/webhooks/{webhook_id}",
    tags=["webhooks"],
    operation_id="getWebhook",
    summary="Show a webhook",
    description="One webhook, without its secret.",
    response_model=shapes.WebhookResource,
    responses=control_openapi.success("The webhook.", openapi.NOT_MODIFIED, documented.NO_WEBHOOK),
)
def get_webhook(api: Reader, webhook_id: WebhookId) -> Response:
    """Show one."""
    number = _number(webhook_id)
    with api.context.sessions() as session, _found(webhook_id):
        view = webhooks.get_webhook(session, number)
    return api.answer(with_links(shapes.WebhookResource, view, *_links(api, view)))


@acting(
    router,
    "POST",
    "/webhooks",
    scope=ADMIN,
    body=shapes.NewWebhook,
    tags=["webhooks"],
    operation_id="addWebhook",
    summary="Add a webhook",
    description="Has a URL told of jobs by signed messages. The answer has the secret that signs them, this once.",
    status_code=HTTPStatus.CREATED,
    response_model=shapes.WebhookSecret,
    responses=control_openapi.success("It is there.", documented.INVALID_WEBHOOK, status=HTTPStatus.CREATED),
)
def add_webhook(action: Annotated[Action[shapes.NewWebhook], asked_for(ADMIN, shapes.NewWebhook)]) -> Response:
    """Add one."""
    asked = action.asked

    def do(session: Session) -> Done:
        with _invalid():
            outbound.check_url(asked.url, action.api.context.settings)
            view, secret = webhooks.add_webhook(
                session, asked.url, events=asked.events, collection=asked.collection, actor=action.actor
            )
        location = {"Location": action.api.link("self", f"/webhooks/{view.id}").href}
        return Done(_with_secret(action.api, view, secret), HTTPStatus.CREATED, location)

    return action.carry_out(do)


@acting(
    router,
    "PATCH",
    "/webhooks/{webhook_id}",
    scope=ADMIN,
    body=shapes.WebhookChange,
    tags=["webhooks"],
    operation_id="changeWebhook",
    summary="Turn a webhook on or off",
    description="What is pending is given up when it is turned off.",
    response_model=shapes.WebhookResource,
    responses=control_openapi.success("The webhook as it is now.", documented.NO_WEBHOOK, documented.INVALID_WEBHOOK),
)
def change_webhook(
    action: Annotated[Action[shapes.WebhookChange], asked_for(ADMIN, shapes.WebhookChange)], webhook_id: WebhookId
) -> Response:
    """Turn one on or off."""
    number = _number(webhook_id)

    def do(session: Session) -> Done:
        with _found(webhook_id):
            view = webhooks.turn(session, number, on=action.asked.active, actor=action.actor)
        return Done(with_links(shapes.WebhookResource, view, *_links(action.api, view)))

    return action.carry_out(do)


@acting(
    router,
    "DELETE",
    "/webhooks/{webhook_id}",
    scope=ADMIN,
    body=Nothing,
    tags=["webhooks"],
    operation_id="removeWebhook",
    summary="Remove a webhook",
    description="It is told nothing more; what is pending is given up.",
    response_model=shapes.RemovedWebhook,
    responses=control_openapi.success("It is removed.", documented.NO_WEBHOOK),
)
def remove_webhook(action: Annotated[Action[Nothing], asked_for(ADMIN, Nothing)], webhook_id: WebhookId) -> Response:
    """Remove one."""
    number = _number(webhook_id)

    def do(session: Session) -> Done:
        with _found(webhook_id):
            webhooks.remove_webhook(session, number, actor=action.actor)
        return Done(shapes.RemovedWebhook(id=number))

    return action.carry_out(do)


@acting(
    router,
    "POST",
    "/webhooks/{webhook_id}/rotate",
    scope=ADMIN,
    body=shapes.RotateRequest,
    tags=["webhooks"],
    operation_id="rotateWebhook",
    summary="Give a webhook a new secret",
    description="The answer has it, this once. The old one signs, too, for a while.",
    response_model=shapes.WebhookSecret,
    responses=control_openapi.success("The webhook.", documented.NO_WEBHOOK, documented.INVALID_WEBHOOK),
)
def rotate_webhook(
    action: Annotated[Action[shapes.RotateRequest], asked_for(ADMIN, shapes.RotateRequest)], webhook_id: WebhookId
) -> Response:
    """Rotate one's secret."""
    number, grace = _number(webhook_id), parse_duration(action.asked.grace)

    def do(session: Session) -> Done:
        with _found(webhook_id):
            view, secret = webhooks.rotate_secret(session, number, grace=grace, actor=action.actor)
        return Done(_with_secret(action.api, view, secret))

    return action.carry_out(do)


@acting(
    router,
    "POST",
    "/webhooks/{webhook_id}/test",
    scope=OPERATE,
    body=Nothing,
    tags=["webhooks"],
    operation_id="testWebhook",
    summary="Have a test message sent",
    description="The scheduler sends it within seconds; `/deliveries` says what came of it.",
    status_code=HTTPStatus.ACCEPTED,
    response_model=DeliveryView,
    responses=control_openapi.success(
        "It is planned.", documented.NO_WEBHOOK, documented.TURNED_OFF, status=HTTPStatus.ACCEPTED
    ),
)
def test_webhook(action: Annotated[Action[Nothing], asked_for(OPERATE, Nothing)], webhook_id: WebhookId) -> Response:
    """Test one."""
    number = _number(webhook_id)

    def do(session: Session) -> Done:
        with _found(webhook_id):
            planned = webhooks.plan_test(session, number, actor=action.actor)
        return Done(planned, HTTPStatus.ACCEPTED)

    return action.carry_out(do)


@reading(
    router,
    "/deliveries",
    tags=["webhooks"],
    operation_id="listDeliveries",
    summary="List deliveries",
    description="What webhooks and callbacks were told, or are to be, newest first.",
    response_model=shapes.DeliveryPage,
    responses=control_openapi.success("A page of deliveries.", openapi.NOT_MODIFIED, openapi.BAD_QUERY),
)
def list_deliveries(
    api: Reader,
    webhook: Annotated[
        int | None, Query(description="Only to this webhook.", ge=1, le=LARGEST_ID, examples=[1])
    ] = None,
    job: Annotated[int | None, Query(description="Only about this job.", ge=1, le=LARGEST_ID, examples=[7])] = None,
    status: Annotated[
        DeliveryStatus | None, Query(description="Only those with this status.", examples=["GIVEN_UP"])
    ] = None,
    limit: Limit = None,
    before: Before = None,
) -> Response:
    """List deliveries."""
    size = limit or api.context.page_size
    with api.context.sessions() as session:
        rows = deliveries.list_deliveries(
            session, webhook_id=webhook, job_id=job, status=status, limit=size + 1, before=before
        )
    wanted = {"webhook": webhook, "job": job, "status": status, "limit": limit}
    following = rows[size - 1].id if len(rows) > size else None
    links = api.page_links("/deliveries", wanted, "before", before, following)
    return api.answer(shapes.DeliveryPage(items=rows[:size], links=links))


@acting(
    router,
    "POST",
    "/deliveries/{delivery_id}/retry",
    scope=OPERATE,
    body=Nothing,
    tags=["webhooks"],
    operation_id="retryDelivery",
    summary="Try a delivery again",
    description="One that was given up, from its first attempt, within seconds.",
    status_code=HTTPStatus.ACCEPTED,
    response_model=DeliveryView,
    responses=control_openapi.success(
        "It is planned.", documented.NO_DELIVERY, documented.NOT_GIVEN_UP, status=HTTPStatus.ACCEPTED
    ),
)
def retry_delivery(
    action: Annotated[Action[Nothing], asked_for(OPERATE, Nothing)], delivery_id: DeliveryId
) -> Response:
    """Try one again."""
    number = number_of(delivery_id)

    def do(session: Session) -> Done:
        try:
            return Done(deliveries.retry(session, number or 0, actor=action.actor), HTTPStatus.ACCEPTED)
        except NoDeliveryError:
            detail = f"There is no delivery {delivery_id!r:.100}; /deliveries lists them."
            raise ProblemError(HTTPStatus.NOT_FOUND, detail, path="/deliveries") from None

    return action.carry_out(do)


def _with_secret(api: Api, view: WebhookView, secret: str) -> shapes.WebhookSecret:
    return shapes.WebhookSecret(**dict(view), secret=secret, links=_links(api, view))


def _links(api: Api, view: WebhookView) -> list[Link]:
    links = [
        api.link("self", f"/webhooks/{view.id}"),
        api.link("deliveries", "/deliveries", query={"webhook": view.id}),
    ]
    if view.source_id is not None:
        links.append(api.link("collection", f"/collections/{view.source_id}"))
    return links


def _number(webhook_id: str) -> int:
    """Return the number of the webhook that a path names. Raise a problem (404) if it is none's."""
    number = number_of(webhook_id)
    if number is None:
        raise _no_webhook(webhook_id)
    return number


@contextlib.contextmanager
def _found(webhook_id: str) -> Iterator[None]:
    """Make of a webhook that is not there a problem (404)."""
    try:
        yield
    except NoWebhookError:
        raise _no_webhook(webhook_id) from None


def _no_webhook(webhook_id: Any) -> ProblemError:
    detail = f"There is no webhook {webhook_id!r:.100}; /webhooks lists them."
    return ProblemError(HTTPStatus.NOT_FOUND, detail, path="/webhooks")


@contextlib.contextmanager
def _invalid() -> Iterator[None]:
    """Make of a value that is not possible a problem (422)."""
    try:
        yield
    except (InvalidTargetError, ForbiddenAddressError, WebhookError) as error:
        raise bodies.invalid(str(error)) from None
