"""Single services, migrations, and the table of settings."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from types import FrameType
from typing import Any

import typer
from rich.text import Text

from shared.cli.database import command_settings, database, database_server
from shared.cli.output import show, show_json, show_table
from shared.db.migrate import downgrade, upgrade
from shared.db.revision import current_revision
from shared.logging import mask
from shared.settings import PREFIX, Settings, load_settings
from shared.supervisor import launch, service_command, service_environment

# Defaults that depend on the machine, in words that do not.
DEFAULTS_IN_WORDS = {"data_dir": "~/.local/share/bowerbird"}


def run_service(service: str, *arguments: str) -> None:
    """Become the service. With the embedded database: run it as a child, for as long as this command keeps that one."""
    settings = command_settings()
    command = service_command(service, *arguments)
    if settings.database_url is not None:
        os.execve(command[0], command, service_environment(settings, settings.database_url))  # noqa: S606  no shell
    with database(settings) as url:
        process = launch(command, service_environment(settings, url))
        with _passed_on(process):
            status = process.wait()
    raise typer.Exit(status if status >= 0 else 128 - status)


@contextlib.contextmanager
def _passed_on(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Pass SIGINT and SIGTERM on: the child ends in its own time, and we after it."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def migrate(revision: str, *, down: bool) -> None:
    """Bring the database up to a revision (``head``: the newest), or down to one."""
    with database_server(command_settings()) as url:
        before = current_revision(url)
        if down:
            downgrade(url, revision)
        else:
            upgrade(url, revision)
        after = current_revision(url)
    if before == after:
        show(f"Nothing to do: the database is at revision {after}.")
    else:
        show(f"Migrated the database from {before or 'no tables'} to {after or 'no tables'}.")


def settings_table(*, markdown: bool, as_json: bool) -> None:
    """Print every setting: as Markdown the page docs/settings.md, which does not depend on this machine."""
    if markdown:
        print(_markdown(), end="")  # noqa: T201
        return
    rows = _rows(load_settings())
    if as_json:
        show_json(rows)
        return
    show_table(
        ["setting", "value", "default", "meaning"],
        [
            (row["variable"], row["value"], "" if row["is_default"] else row["default"], Text(row["meaning"]))
            for row in rows
        ],
        empty="",
    )


def _rows(settings: Settings) -> list[dict[str, Any]]:
    rows = []
    for name, field in Settings.model_fields.items():
        value, default = getattr(settings, name), field.get_default(call_default_factory=True)
        rows.append(
            {
                "variable": PREFIX + name.upper(),
                "value": _text(value),
                "default": DEFAULTS_IN_WORDS.get(name) or _text(default),
                "is_default": value == default,
                "meaning": field.description,
            }
        )
    return rows


def _text(value: Any) -> str:
    """Return a value as its variable would hold it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else mask(str(value))


def _markdown() -> str:
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable, read once when a process starts; every default works as it is. A",
        "variable that begins with `BOWERBIRD_` and is not in this table is refused: it is probably a typing error.",
        "`bowerbird settings` prints the values in effect, passwords masked. This page is what",
        "`bowerbird settings --markdown` prints.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = DEFAULTS_IN_WORDS.get(name) or _text(field.get_default(call_default_factory=True))
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{PREFIX}{name.upper()}` | {f'`{default}`' if default else ''} | {meaning} |")
    return "\n".join([*lines, ""])
