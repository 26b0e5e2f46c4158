"""Sending a message to an address that somebody named: one POST, of whose answer the status counts.

Redirects are not followed, as they would lead where nobody has agreed to, and the answer's body is not read, so it can
have any length; its head has to be there in time, however slowly it comes. Addresses that are not on the internet are
refused (shared/outbound.py).
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

from shared import outbound
from shared.errors import BowerbirdError, TemporaryError
from shared.settings import Settings

OK, REDIRECT, GONE = 200, 300, 410
MAX_URL_CHARACTERS = 2000
TIMEOUTS = 3
"""How many timeouts an attempt may take in all: to connect, to send, and to be answered."""


class InvalidTargetError(BowerbirdError):
    """An address cannot be told anything; the text says why."""


@dataclass(frozen=True)
class Answer:
    """What a receiver said. ``retry_after``: the seconds that it asked us to wait."""

    status: int
    reason: str
    retry_after: float | None

    @property
    def ok(self) -> bool:
        """Whether it has taken the message."""
        return OK <= self.status < REDIRECT

    @property
    def gone(self) -> bool:
        """Whether it wants no more of them."""
        return self.status == GONE

    def __str__(self) -> str:
        return f"It answered {self.status} {self.reason}".rstrip() + "."


def check_target(url: str) -> None:
    """Raise :class:`InvalidTargetError` for what cannot be an address of a receiver."""
    try:
        parts = urlsplit(url)
        possible = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 0) >= 0
    except ValueError:
        possible = False
    if not possible or len(url) > MAX_URL_CHARACTERS or any(character <= " " for character in url):
        raise InvalidTargetError(f"{url!r:.100} is no address. Write an http:// or https:// URL.")


def send(url: str, body: bytes, headers: dict[str, str], *, settings: Settings) -> Answer:
    """Send a JSON message; return what the receiver said.

    :raises TemporaryError: it did not answer, or not properly. The text does not repeat the URL, which may be secret.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "bowerbird"} | headers
    deadline = outbound.Deadline(TIMEOUTS * settings.webhook_timeout_seconds)
    try:
        with (
            deadline,
            outbound.session(settings, deadline) as session,
            session.post(
                url,
                data=body,
                headers=headers,
                timeout=settings.webhook_timeout_seconds,
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            waits = response.headers.get("Retry-After", "").strip()
            reason = "".join(character for character in response.reason or "" if character.isprintable())
            answer = Answer(response.status_code, reason[:100], float(waits[:9]) if waits.isdecimal() else None)
            if deadline.over:  # what there was of its head was taken for all of it
                raise requests.Timeout
            return answer
    except (requests.RequestException, ValueError) as error:  # ValueError: of a URL that urllib3 understands otherwise
        reason = f"no whole answer within {deadline.seconds:g} s" if deadline.over else _reason(error, settings)
        raise TemporaryError(f"It cannot be told: {reason}.") from None


def _reason(error: Exception, settings: Settings) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer within {settings.webhook_timeout_seconds:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate was refused"
    if isinstance(error, requests.ConnectionError):
        return "no connection, or it broke"
    return f"no proper answer ({type(error).__name__})"
