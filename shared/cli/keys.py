"""``bowerbird key``: who may steer over the API."""

import json
from datetime import datetime

from shared import keys
from shared.cli.collections import actor
from shared.cli.database import command_settings, opened
from shared.cli.errors import WrongCallError
from shared.cli.output import say, show, show_json, show_table
from shared.cli.steer import duration_of
from shared.db.models import KeyScope
from shared.keys import KeyView


def create(name: str, *, scope: str, expires: str | None, as_json: bool) -> None:
    """Make a key and print it."""
    wanted = _scope(scope)
    expires_in = duration_of(expires) if expires is not None else None
    with opened(command_settings()) as sessions, sessions.begin() as session:
        view, key = keys.create_key(session, name, scope=wanted, actor=actor(), expires_in=expires_in)
    _show_once(view, key, as_json=as_json)


def rotate(name: str, *, grace: str, expires: str | None, as_json: bool) -> None:
    """Give a key a new secret and print it."""
    expires_in = duration_of(expires) if expires is not None else None
    valid_for = duration_of(grace)
    with opened(command_settings()) as sessions, sessions.begin() as session:
        view, key = keys.rotate_key(session, name, actor=actor(), grace=valid_for, expires_in=expires_in)
    _show_once(view, key, as_json=as_json)


def revoke(name: str, *, as_json: bool) -> None:
    """End a key."""
    with opened(command_settings()) as sessions, sessions.begin() as session:
        ended = keys.revoke_key(session, name, actor=actor())
    if as_json:
        show_json({"name": name, "revoked": ended})
    else:
        show(f"Revoked {name}: nothing is let in with it any more.")


def list_all(*, every: bool, as_json: bool) -> None:
    """List the keys."""
    with opened(command_settings()) as sessions, sessions() as session:
        rows = keys.list_keys(session, every=every)
    if as_json:
        show_json(rows)
        return
    show_table(
        ["name", "scope", "state", "begins with", "created (UTC)", "by", "expires (UTC)", "last used (UTC)"],
        [
            (
                row.name,
                row.scope,
                row.state,
                row.prefix,
                row.created,
                row.created_by,
                row.expires_at or "never",
                _minute(row.last_used_at),
            )
            for row in rows
        ],
        empty="No keys. Make one: bowerbird key create NAME --scope operate",
    )


def _show_once(view: KeyView, key: str, *, as_json: bool) -> None:
    """Print a key: the one text that is not masked. Alone on standard output, so that a shell can catch it."""
    if as_json:
        print(json.dumps(view.model_dump(mode="json") | {"key": key}, indent=2))  # noqa: T201
        return
    print(key)  # noqa: T201
    until = f"until {view.expires_at:%Y-%m-%d %H:%M} UTC" if view.expires_at else "until it is revoked"
    say(f"This is the key {view.name}, of scope {view.scope}, valid {until}. It is not shown again: keep it safe.")


def _scope(text: str) -> KeyScope:
    try:
        return KeyScope(text.lower())
    except ValueError:
        raise WrongCallError(f"{text!r} is no scope of a key. There are: {', '.join(KeyScope)}.") from None


def _minute(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment is not None else "never"
