"""``bowerbird licence``, ``bundle`` and ``issue``: list, add, edit, remove."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from shared import catalogue
from shared.cli.collections import actor
from shared.cli.database import command_settings, opened
from shared.cli.edit import find, parse_translations, read_text, settings_texts
from shared.cli.errors import CommandError, WrongCallError
from shared.cli.output import show, show_json, show_table
from shared.db.models import Issue, Licence, SettingsBundle
from shared.editing import named


def list_licences(*, as_json: bool) -> None:
    """List the licences."""
    with opened(command_settings()) as sessions, sessions() as session:
        rows = catalogue.list_licences(session)
    if as_json:
        show_json(rows)
        return
    show_table(
        ["licence>", "name", "URL", "languages", "collections>"],
        [(str(row.id), row.name, row.url, " ".join(row.translations), len(row.collections)) for row in rows],
        empty="No licences yet. Add one: bowerbird licence add NAME --url URL",
    )


def save_licence(
    ref: str | None,
    *,
    name: str | None,
    url: str | None,
    description: str | None,
    translations: Sequence[str],
    as_json: bool,
) -> None:
    """Add a licence, or change the one that ``ref`` names."""
    settings = command_settings()
    with opened(settings) as sessions, sessions.begin() as session:
        row = catalogue.save_licence(
            session,
            None if ref is None else named(session, Licence, ref),
            name=name,
            url=url,
            description=read_text(description),
            translations=parse_translations(translations),
            default_language=settings.default_language,
            actor=actor(),
        )
        number, name = row.id, row.name
    _saved("licence", number, f"licence {number}: {name}", added=ref is None, as_json=as_json)


def remove_licence(ref: str, *, as_json: bool) -> None:
    """Delete a licence that no collection names."""
    with opened(command_settings()) as sessions, sessions.begin() as session:
        licence = named(session, Licence, ref)
        number, name = licence.id, licence.name
        catalogue.remove_licence(session, licence, actor=actor())
    _removed("licence", number, f"the licence {name}", as_json=as_json)


def list_bundles(*, as_json: bool) -> None:
    """List the settings bundles."""
    with opened(command_settings()) as sessions, sessions() as session:
        rows = catalogue.list_bundles(session)
    if as_json:
        show_json(rows)
        return
    show_table(
        ["bundle>", "name", "settings", "collections"],
        [
            (
                str(row.id),
                row.name,
                "\n".join(f"{key}={value}" for key, value in row.settings.items()),
                " ".join(row.collections),
            )
            for row in rows
        ],
        empty="No settings bundles yet. Add one: bowerbird bundle add NAME KEY=VALUE",
    )


def save_bundle(
    ref: str | None, *, name: str | None, settings: Sequence[str], unset: Sequence[str], as_json: bool
) -> None:
    """Add a settings bundle, or change the one that ``ref`` names."""
    with opened(command_settings()) as sessions, sessions.begin() as session:
        row = catalogue.save_bundle(
            session,
            None if ref is None else named(session, SettingsBundle, ref),
            name=name,
            settings=settings_texts(settings),
            unset=unset,
            actor=actor(),
        )
        number, name = row.id, row.name
    _saved("bundle", number, f"settings bundle {number}: {name}", added=ref is None, as_json=as_json)


def remove_bundle(ref: str, *, as_json: bool) -> None:
    """Delete a settings bundle."""
    with opened(command_settings()) as sessions, sessions.begin() as session:
        bundle = named(session, SettingsBundle, ref)
        number, name = bundle.id, bundle.name
        catalogue.remove_bundle(session, bundle, actor=actor())
    _removed("bundle", number, f"the settings bundle {name}", as_json=as_json)


def list_issues(name: str | None, *, as_json: bool) -> None:
    """List the issues of a collection, or of all."""
    with opened(command_settings()) as sessions, sessions() as session:
        rows = catalogue.list_issues(session, None if name is None else find(session, name).id)
    if as_json:
        show_json(rows)
        return
    show_table(
        ["issue>", "collection", "languages", "text"],
        [(str(row.id), row.collection, " ".join(row.translations), row.description) for row in rows],
        empty="No issues.",
    )


def add_issue(name: str, text: str, *, translations: Sequence[str], as_json: bool) -> None:
    """Add an issue to a collection."""
    settings = command_settings()
    with opened(settings) as sessions, sessions.begin() as session:
        number = catalogue.save_issue(
            session,
            None,
            collection=find(session, name),
            description=read_text(text),
            translations=parse_translations(translations),
            default_language=settings.default_language,
            actor=actor(),
        ).id
    _saved("issue", number, f"issue {number} of {name}", added=True, as_json=as_json)


def edit_issue(number: int, *, text: str | None, translations: Sequence[str], as_json: bool) -> None:
    """Change an issue."""
    settings = command_settings()
    if text is None and not translations:
        raise WrongCallError("Say what to change: --text or --translation.")
    with opened(settings) as sessions, sessions.begin() as session:
        catalogue.save_issue(
            session,
            _issue(session, number),
            description=read_text(text),
            translations=parse_translations(translations),
            default_language=settings.default_language,
            actor=actor(),
        )
    _saved("issue", number, f"issue {number}", added=False, as_json=as_json)


def remove_issue(number: int, *, as_json: bool) -> None:
    """Delete an issue."""
    with opened(command_settings()) as sessions, sessions.begin() as session:
        catalogue.remove_issue(session, _issue(session, number), actor=actor())
    _removed("issue", number, f"issue {number}", as_json=as_json)


def _issue(session: Session, number: int) -> Issue:
    issue = session.get(Issue, number)
    if issue is None:
        raise CommandError(f"There is no issue {number}. See: bowerbird issue list")
    return issue


def _saved(kind: str, number: int, what: str, *, added: bool, as_json: bool) -> None:
    if as_json:
        show_json({kind: number, "added": added})
    else:
        show(f"{'Added' if added else 'Changed'} {what}")


def _removed(kind: str, number: int, what: str, *, as_json: bool) -> None:
    if as_json:
        show_json({kind: number, "removed": True})
    else:
        show(f"Removed {what}.")
