"""Changing and removing collections: one or many, with a preview, and a question before more than one."""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from shared.cli.collections import actor
from shared.cli.database import command_settings, opened
from shared.cli.errors import CommandError, WrongCallError
from shared.cli.output import say, show, show_json, show_table, size
from shared.cli.services import run_service
from shared.db.models import Collection
from shared.editing import Edit, apply, chosen, compare, prepare
from shared.publications import check_outbound, remove_collection
from shared.selection import UnknownConditionError, conditions

PREVIEW = 50
SHOWN_CHARACTERS = 60


def edit(
    names: Sequence[str],
    *,
    where: Sequence[str],
    every: bool,
    given: Mapping[str, str | bool | None],
    translations: Sequence[str],
    options: Mapping[str, Any],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Change collections. Raise :class:`CommandError` if it is not confirmed."""
    settings = command_settings()
    fields = {name: read_text(value) for name, value in given.items() if value is not None}
    check_outbound(str(fields.get("source", "")), settings)
    texts = parse_translations(translations)
    kept = {name: value for name, value in options.items() if value is not None}
    if not (fields or texts or kept):
        raise WrongCallError("Say what to change, such as --title, --frequency, --freeze. See: bowerbird edit --help")
    conditions_ = _which(names, where, every=every)

    def edits(session: Session, *, lock: bool) -> list[Edit]:
        wanted = prepare(session, fields, translations=texts, options=kept, default_language=settings.default_language)
        collections = chosen(session, conditions_, lock=lock)
        _require_all(names, collections, where)
        if fields.get("active_job") and len(collections) > 1:
            raise WrongCallError("A job is of one collection: give --active-job with one NAME.")
        return [compare(collection, wanted) for collection in collections]

    with opened(settings) as sessions:
        if not dry_run and not yes:
            with sessions() as session:
                preview = [each for each in edits(session, lock=False) if each.changes]
            if len(preview) > 1:
                _show_edits(preview, to_stderr=as_json)
                _confirm(f"change {_number(len(preview))}")
        with sessions() as session, session.begin() as transaction:
            done = edits(session, lock=True)
            for each in done:
                apply(session, each, actor=actor())
            session.flush()
            if dry_run:
                transaction.rollback()
    changed = [each for each in done if each.changes]
    if as_json:
        show_json([_facts(each) for each in done])
        return
    _show_edits(changed)
    same = f"; {_number(len(done) - len(changed))} stay as they are" if len(done) > len(changed) else ""
    show(f"{'Would change' if dry_run else 'Changed'} {_number(len(changed))}{same}.")


def remove(name: str, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete a collection with its jobs and files. Raise :class:`CommandError` if it is not confirmed."""
    settings = command_settings()

    def take(session: Session) -> Any:
        return remove_collection(session, find(session, name).id, actor=actor())

    with opened(settings) as sessions:
        with sessions() as session:
            removal = take(session)  # and rolled back: it says what would go
        what = f"{name}, its jobs ({removal.jobs:,}) and files ({removal.files:,}, {size(removal.bytes)})"
        if not dry_run:
            if not yes:
                if removal.published:
                    say(f"{name} is published: its files will be gone.", style="yellow")
                _confirm(f"delete {what}, for good")
            with sessions.begin() as session:
                take(session)
    if as_json:
        show_json({"collection": name, "removed": not dry_run, **asdict(removal)})
    else:
        show(f"{'Would delete' if dry_run else 'Deleting'} {what}.")
    if not dry_run:
        run_service("scheduler", "--delete-marked")


def find(session: Session, name: str) -> Collection:
    """Return a collection. Raise :class:`CommandError` if there is none of the name."""
    collection = session.scalar(select(Collection).where(Collection.source_id == name))
    if collection is None:
        raise CommandError(f"There is no collection {name!r}. `bowerbird collections` lists them.")
    return collection


def read_text(value: Any) -> Any:
    """Return a value; for ``@PATH`` what the file has, for ``@-`` what standard input has."""
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    if value == "@-":
        return sys.stdin.read()
    try:
        return Path(value[1:]).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongCallError(f"{value[1:]} cannot be read: {error}") from None


def parse_translations(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return ``es.title=Contratos`` as language → field → text. Raise :class:`WrongCallError` for what is none."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        language, dot, field = place.partition(".")
        if not (equals and dot and language and field):
            raise WrongCallError(f"{text!r} is no translation. Write LANGUAGE.FIELD=TEXT, such as es.title=Contratos.")
        found.setdefault(language, {})[field.replace("-", "_")] = read_text(value)
    return found


def where_of(texts: Sequence[str]) -> list[ColumnElement[bool]]:
    """Return conditions about collections. Raise :class:`WrongCallError` for what is none."""
    try:
        return conditions(texts)
    except UnknownConditionError as error:
        raise WrongCallError(str(error)) from None


def _which(names: Sequence[str], where: Sequence[str], *, every: bool) -> list[ColumnElement[bool]]:
    if not (names or where or every):
        raise WrongCallError("Say which: names of collections, --where CONDITION, or --all.")
    named = [Collection.source_id.in_(names)] if names else []
    return [*named, *where_of(where)]


def _require_all(names: Sequence[str], found: Sequence[Collection], where: Sequence[str]) -> None:
    missing = sorted(set(names) - {collection.source_id for collection in found})
    if missing and not where:
        raise CommandError(f"There is no collection {', '.join(missing)}. `bowerbird collections` lists them.")


def _confirm(what: str) -> None:
    with contextlib.suppress(typer.Abort):  # no answer is an answer
        if typer.confirm(f"This would {what}. Go on?", err=True):
            return
    raise CommandError("Not confirmed: nothing is changed. --yes skips the question, --dry-run only looks.")


def _show_edits(edits: Sequence[Edit], *, to_stderr: bool = False) -> None:
    rows = [
        (edit.source_id, name, _short(before), _short(after))
        for edit in edits
        for name, before, after in _leaves(edit.changes)
    ]
    if to_stderr:
        for row in rows[:PREVIEW]:
            say("  ".join(row))
    else:
        show_table(["collection", "field", "from", "to"], rows[:PREVIEW], empty="Nothing would differ.")
    if len(rows) > PREVIEW:
        say(f"… and {len(rows) - PREVIEW:,} changes more.")


def _leaves(changes: Mapping[str, tuple[Any, Any]]) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, before and after of each change; of translations, each text that differs: ``es.title``."""
    for name, (before, after) in changes.items():
        if name != "translations":
            yield name, before, after
            continue
        for language in sorted({*before, *after}):
            old, new = before.get(language, {}), after.get(language, {})
            for field in sorted({*old, *new}):
                if old.get(field) != new.get(field):
                    yield f"{language}.{field}", old.get(field), new.get(field)


def _facts(edit: Edit) -> dict[str, Any]:
    changes = {name: {"from": before, "to": after} for name, (before, after) in edit.changes.items()}
    return {"collection": edit.source_id, "changes": changes}


def _short(value: Any) -> str:
    text = "" if value is None else "yes" if value is True else "no" if value is False else str(value)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def _number(count: int) -> str:
    return f"{count:,} collection{'' if count == 1 else 's'}"


def settings_texts(texts: Sequence[str]) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as a mapping. Raise :class:`WrongCallError` for what is none."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (equals and key):
            raise WrongCallError(f"{text!r} is no setting. Write KEY=VALUE.")
        found[key] = value
    return found
