"""API keys: made, shown once, found again, rotated and revoked.

A key is ``bowerbird_``, twelve hexadecimal digits that name it, ``_``, and a secret of 256 random bits in hexadecimal.
The beginning lets secret scanners recognise it, and the name finds its row without the secret. The database holds the
SHA-256 of the whole. That is the right hash here: slow ones (bcrypt, Argon2) make guessing a *password* dear, and 256
random bits cannot be guessed at any speed, while a slow hash would cost every request. Hashes are compared in constant
time, also where no row was found, so that time tells nothing.

Rotating gives a key a new secret; the one before is valid for a while longer, so that whoever uses it can change over.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import case, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.db.models import ApiKey, Audit, KeyScope
from shared.errors import BowerbirdError

KEY_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_KEY = re.compile(r"(bowerbird_[0-9a-f]{12})_[0-9a-f]{64}")
_NOBODY = bytes(32)
"""Compared with where there is no such key; the SHA-256 of nothing that is known."""

GRACE = timedelta(days=1)
"""How long a replaced secret is valid, unless told otherwise."""
SCOPES = tuple(KeyScope)


class InvalidKeyError(BowerbirdError):
    """What was asked of a key is not possible; the text says why and what is."""


class KeyRefusedError(BowerbirdError):
    """A key that was presented is not valid. ``reason`` is ``unknown``, ``revoked`` or ``expired``."""

    def __init__(self, reason: Literal["unknown", "revoked", "expired"], text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Holder:
    """Whoever presented a valid key."""

    name: str
    scope: KeyScope

    @property
    def actor(self) -> str:
        """Who it is in the audit. A person at the shell is ``user@host``; no user's name has a colon."""
        return f"key:{self.name}"

    def may(self, scope: KeyScope) -> bool:
        """Return whether the key's scope includes another."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


class KeyView(BaseModel):
    """An API key as it is shown: never its secret, which nobody has but its holder."""

    model_config = ConfigDict(frozen=True)

    name: str
    scope: KeyScope
    prefix: str = Field(description="The key's beginning, to recognise it by.")
    state: Literal["valid", "replaced", "expired", "revoked"] = Field(
        description="`replaced`: a newer secret took its place; valid until `expires_at`."
    )
    created: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None


def digest(key: str) -> bytes:
    """Return what the database holds of a key."""
    return hashlib.sha256(key.encode()).digest()


def authenticate(session: Session, key: str) -> Holder:
    """Return who holds a key. Raise :class:`KeyRefusedError`, whose text may be shown to whoever presented it.

    That a key is revoked or expired is told to its holder only.
    """
    match = _KEY.fullmatch(key)
    row = session.execute(_by_prefix(match[1])).one_or_none() if match else None
    known = hmac.compare_digest(digest(key), row.hash if row is not None else _NOBODY)
    if row is None or not known:
        raise KeyRefusedError("unknown", "This API key is not known here. Check that it is whole, and of this suite.")
    if row.revoked:
        raise KeyRefusedError("revoked", "This API key is revoked. Ask the operators for another.")
    if row.expired:
        text = f"This API key expired at {row.expires_at:%Y-%m-%d %H:%M} UTC. Ask the operators for another."
        raise KeyRefusedError("expired", text)
    if row.stale:
        _note_use(session, row.id)
    return Holder(row.name, KeyScope(row.scope))


def _by_prefix(prefix: str) -> Any:
    return select(
        ApiKey.id,
        ApiKey.name,
        ApiKey.scope,
        ApiKey.hash,
        ApiKey.expires_at,
        ApiKey.revoked_at.is_not(None).label("revoked"),
        func.coalesce(ApiKey.expires_at <= func.now(), False).label("expired"),
        _stale().label("stale"),
    ).where(ApiKey.prefix == prefix)


def _stale() -> Any:
    return or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - timedelta(minutes=1))


def _note_use(session: Session, key_id: int) -> None:
    """Note that the key is used, unless another request is just doing so: nobody waits for that."""
    free = select(ApiKey.id).where(ApiKey.id == key_id, _stale()).with_for_update(skip_locked=True)
    session.execute(
        update(ApiKey)
        .where(ApiKey.id.in_(free))
        .values(last_used_at=func.now())
        .execution_options(synchronize_session=False)
    )


def create_key(
    session: Session, name: str, *, scope: KeyScope, actor: str, expires_in: timedelta | None = None
) -> tuple[KeyView, str]:
    """Make a key; return what is shown of it, and the key itself, which is nowhere else.

    :raises InvalidKeyError: the name is not possible, or in use.
    """
    if not KEY_NAME.fullmatch(name):
        raise InvalidKeyError(f"{name!r:.100} is no name for a key. Use a-z, 0-9, - and _, at most 63 of them.")
    if _current(session, name) is not None:
        raise _taken(name)
    key, row = _insert(session, name, scope, actor, expires_in)
    _audit(session, "key create", row, actor)
    return _view(session, row.id), key


def rotate_key(
    session: Session, name: str, *, actor: str, grace: timedelta = GRACE, expires_in: timedelta | None = None
) -> tuple[KeyView, str]:
    """Give a key a new secret; return what is shown of it, and the key itself. The old one is valid for ``grace``.

    :param expires_in: by default as long as the old secret was given.
    :raises InvalidKeyError: there is no such key, or it is revoked.
    """
    old = _require(session, name)
    if expires_in is None and old.expires_at is not None:
        expires_in = old.expires_at - old.created
    session.execute(
        update(ApiKey)
        .where(ApiKey.id == old.id)
        .values(replaced_at=func.now(), expires_at=func.least(ApiKey.expires_at, func.now() + grace))
        .execution_options(synchronize_session=False)
    )
    key, row = _insert(session, name, KeyScope(old.scope), actor, expires_in)
    _audit(session, "key rotate", row, actor, replaces=old.prefix)
    return _view(session, row.id), key


def revoke_key(session: Session, name: str, *, actor: str) -> int:
    """End a key now, with the secrets that it had before; return how many were still valid.

    :raises InvalidKeyError: there is no such key, or it is revoked.
    """
    current = _require(session, name)
    ended = session.execute(
        update(ApiKey)
        .where(ApiKey.name == name, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(func.coalesce(ApiKey.expires_at > func.now(), True))
        .execution_options(synchronize_session=False)
    )
    _audit(session, "key revoke", current, actor)
    return sum(valid for (valid,) in ended)


def list_keys(session: Session, *, every: bool = False) -> list[KeyView]:
    """Return the keys by name, newest secret first: those in use, expired ones too, or ``every`` one there ever was."""
    statement = _views().order_by(ApiKey.name, ApiKey.id.desc())
    if not every:
        valid = or_(ApiKey.replaced_at.is_(None), ApiKey.expires_at > func.now())
        statement = statement.where(ApiKey.revoked_at.is_(None), valid)
    return [KeyView.model_validate(dict(row)) for row in session.execute(statement).mappings()]


def _insert(
    session: Session, name: str, scope: KeyScope, actor: str, expires_in: timedelta | None
) -> tuple[str, ApiKey]:
    prefix = f"bowerbird_{secrets.token_hex(6)}"
    key = f"{prefix}_{secrets.token_hex(32)}"
    row = ApiKey(name=name, scope=scope, prefix=prefix, hash=digest(key), created_by=actor)
    row.expires_at = func.now() + expires_in if expires_in is not None else None
    try:
        with session.begin_nested():
            session.add(row)
            session.flush()
    except IntegrityError:  # another was faster
        raise _taken(name) from None
    return key, row


def _taken(name: str) -> InvalidKeyError:
    return InvalidKeyError(f"There is a key {name} already. Rotate it, or revoke it first: bowerbird key rotate {name}")


def _current(session: Session, name: str) -> ApiKey | None:
    current = select(ApiKey).where(ApiKey.name == name, ApiKey.revoked_at.is_(None), ApiKey.replaced_at.is_(None))
    return session.scalar(current.with_for_update())


def _require(session: Session, name: str) -> ApiKey:
    row = _current(session, name)
    if row is None:
        raise InvalidKeyError(f"There is no key {name!r:.100}, or it is revoked. `bowerbird key list` shows them.")
    return row


def _audit(session: Session, action: str, row: ApiKey, actor: str, **details: str) -> None:
    details = {"name": row.name, "scope": row.scope, "prefix": row.prefix} | details
    session.add(Audit(actor=actor, action=action, details=details))


def _views() -> Any:
    columns = (name for name in KeyView.model_fields if name != "state")
    state = case(
        (ApiKey.revoked_at.is_not(None), "revoked"),
        (ApiKey.expires_at <= func.now(), "expired"),
        (ApiKey.replaced_at.is_not(None), "replaced"),
        else_="valid",
    )
    return select(*(getattr(ApiKey, name) for name in columns), state.label("state"))


def _view(session: Session, key_id: int) -> KeyView:
    return KeyView.model_validate(dict(session.execute(_views().where(ApiKey.id == key_id)).mappings().one()))
