"""Signatures of webhooks, by the conventions of Standard Webhooks (standardwebhooks.com).

A secret is ``whsec_`` and 32 random bytes in base64. What is signed is the message's id, the time and the body, joined
by ``.``: so neither can a body be changed on the way, nor an old message be sent again as a new one.
"""

import base64
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Iterable

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    """Return a new secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def new_message_id() -> str:
    """Return the id of a new message."""
    return f"msg_{uuid.uuid4()}"


def headers(secrets_: Iterable[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a message: with a signature for each secret, or without any.

    :param timestamp: when it is sent, in seconds since 1970: anew at each attempt.
    """
    signatures = " ".join(sign(secret, message_id, timestamp, body) for secret in secrets_)
    values = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    return values | ({"webhook-signature": signatures} if signatures else {})


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return one signature: ``v1,`` and the HMAC-SHA256 in base64."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    content = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()}"
