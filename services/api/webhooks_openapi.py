"""The description of webhooks: an example for every answer. They go on with the story of openapi.py."""

from typing import Any

from services.api import openapi
from services.api import webhooks_schemas as shapes
from services.api.bodies import Body
from services.api.openapi import problem
from services.api.schemas import PROBLEMS

TAGS = [{"name": "webhooks", "description": "Who is told of jobs, and whether they listen. With a key."}]

_MOMENT = "2026-03-09T04:00:09.204551Z"
_WEBHOOK = {
    "id": 1,
    "url": "https://rivers.example/hook",
    "events": ["job.succeeded", "job.failed", "job.cancelled"],
    "source_id": "river_works",
    "active": True,
    "failing_since": None,
    "old_secret_until": None,
    "created": _MOMENT,
    "created_by": "key:night-watch",
    "links": [
        openapi.link("self", "/webhooks/1"),
        openapi.link("deliveries", "/deliveries?webhook=1"),
        openapi.link("collection", "/collections/river_works"),
    ],
}
_SECRET = _WEBHOOK | {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_DELIVERY = {
    "id": 12,
    "message_id": "msg_5f0c7a52-3c43-4d0e-9c63-3f3c9f6a1d11",
    "type": "job.failed",
    "webhook_id": 1,
    "url": "",
    "job_id": 8,
    "status": "PENDING",
    "attempts": 2,
    "due_at": "2026-03-09T04:00:25.204551Z",
    "error": "It answered 503 Service Unavailable.",
    "created": _MOMENT,
    "ended": None,
}
_TEST = {"id": 13, "type": "webhook.test", "job_id": None, "attempts": 0, "due_at": _MOMENT, "error": ""}

EXAMPLES: dict[str, Any] = {
    "listWebhooks": {"links": [openapi.link("self", "/webhooks")], "items": [_WEBHOOK]},
    "getWebhook": _WEBHOOK,
    "addWebhook": _SECRET,
    "changeWebhook": _WEBHOOK | {"active": False},
    "removeWebhook": {"id": 1},
    "rotateWebhook": _SECRET | {"old_secret_until": "2026-03-10T04:00:09.204551Z"},
    "testWebhook": _DELIVERY | _TEST,
    "retryDelivery": _DELIVERY | {"attempts": 0},
    "listDeliveries": {"links": [openapi.link("self", "/deliveries?webhook=1")], "items": [_DELIVERY]},
}
"""The example of each operation's success."""

BODIES: dict[type[Body], dict[str, Any]] = {
    shapes.NewWebhook: {"url": "https://rivers.example/hook", "collection": "river_works"},
    shapes.WebhookChange: {"active": False},
    shapes.RotateRequest: {"grace": "2h"},
}
"""An example of each body."""

NO_WEBHOOK = problem(
    404,
    "There is no such webhook.",
    "There is no webhook '9'; /webhooks lists them.",
    "/webhooks/9",
)
NO_DELIVERY = problem(
    404,
    "There is no such delivery.",
    "There is no delivery '99'; /deliveries lists them.",
    "/deliveries/99/retry",
)
NOT_GIVEN_UP = problem(
    409,
    "The delivery was not given up.",
    "Delivery 12 is PENDING: choose one that is GIVEN_UP.",
    "/deliveries/12/retry",
    f"{PROBLEMS}state-conflict",
)
INVALID_WEBHOOK = problem(
    422,
    "The body has a member that is not known, or a value that is not possible; the detail says what is.",
    "'job.done' is no event of a webhook. There are: job.started, job.succeeded, job.failed, job.cancelled.",
    "/webhooks",
    f"{PROBLEMS}invalid-body",
)
TURNED_OFF = problem(
    409,
    "The webhook is turned off.",
    "Webhook 1 is turned off. Turn it on: bowerbird webhook enable 1",
    "/webhooks/1/test",
    f"{PROBLEMS}state-conflict",
)
