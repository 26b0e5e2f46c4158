"""The shapes of webhooks over HTTP. The same promises hold as for the other answers."""

from pydantic import BaseModel, Field

from services.api.bodies import Body
from services.api.control_schemas import Duration, PlainText
from services.api.schemas import Linked
from shared.deliveries import DeliveryView
from shared.sending import MAX_URL_CHARACTERS
from shared.webhooks import WebhookView

# Asked for


class NewWebhook(Body):
    """Have an address told of jobs."""

    url: str = Field(max_length=MAX_URL_CHARACTERS, description="Who is told: an http(s) URL.")
    events: list[PlainText] = Field(
        default=[],
        max_length=20,
        description="Of what: `job.started`, `job.succeeded`, `job.failed`, `job.cancelled`. None: the last three.",
    )
    collection: PlainText | None = Field(
        default=None, description="Only of this collection's jobs: `source_id` or `id`; null: of all, private ones too."
    )


class WebhookChange(Body):
    """What of a webhook can be changed."""

    active: bool = Field(description="Whether it is told anything. False gives up what is pending.")


class RotateRequest(Body):
    """Give a webhook a new secret."""

    grace: Duration = Field(default="1d", description="How long the old secret signs, too: `0s`, `90m`, `2d`.")


# Answered


class WebhookResource(Linked, WebhookView):
    """A webhook, without its secret. Links: `self`, `deliveries`, and `collection` if it is of one."""


class WebhookSecret(Linked, WebhookView):
    """A webhook with its secret, which is not shown again."""

    secret: str = Field(description="What signs its messages: docs/events.md says how to verify.")


class WebhookList(Linked):
    """All webhooks, oldest first. Links: `self`."""

    items: list[WebhookResource]


class RemovedWebhook(BaseModel):
    """The number of the webhook that was removed."""

    id: int


class DeliveryPage(Linked):
    """A page of deliveries, newest first. Links: `self`, and `next` unless it is the last page."""

    items: list[DeliveryView]
