"""What collections refer to, or carry along: licences, settings bundles, issues. Every change is audited.

A licence that collections name is not deleted: they would lose it unseen. A settings bundle may be; its collections are
then collected without. Values of settings may be secret, so the audit names their keys only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert
from sqlalchemy.orm import Session

from shared.db.models import Audit, Collection, Issue, Licence, Setting, SettingsBundle
from shared.editing import Translations, check_address, check_translations, merge_translations
from shared.errors import BowerbirdError
from shared.publications import InvalidCollectionError

LICENCE_TEXTS = ("name", "description")
ISSUE_TEXTS = ("description",)


class InUseError(BowerbirdError):
    """Something refers to what should be deleted; the text says what."""


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class LicenceRow(_View):
    """A licence, and how many collections name it."""

    id: int
    name: str
    url: str
    description: str
    translations: dict[str, dict[str, str]]
    collections: list[str] = Field(description="Names of the collections that name it.")


class BundleRow(_View):
    """A settings bundle with its settings."""

    id: int
    name: str
    settings: dict[str, str]
    collections: list[str] = Field(description="Names of the collections that have it.")


class IssueRow(_View):
    """An issue of a collection."""

    id: int
    collection: str
    description: str
    translations: dict[str, dict[str, str]]


def list_licences(session: Session) -> list[LicenceRow]:
    """Return the licences, by name. One statement."""
    statement = select(*Licence.__table__.columns, _users(Collection.licence_id == Licence.id))
    rows = session.execute(statement.order_by(Licence.name, Licence.id)).mappings()
    return [LicenceRow.model_validate(dict(row)) for row in rows]


def list_bundles(session: Session) -> list[BundleRow]:
    """Return the settings bundles, by name. Two statements."""
    settings: dict[int, dict[str, str]] = {}
    for setting in session.scalars(select(Setting).order_by(Setting.key)):
        settings.setdefault(setting.settings_bundle_id, {})[setting.key] = setting.value
    users = _users(Collection.settings_bundle_id == SettingsBundle.id)
    statement = select(SettingsBundle.id, SettingsBundle.name, users).order_by(SettingsBundle.name, SettingsBundle.id)
    rows = session.execute(statement).mappings()
    return [BundleRow.model_validate({**row, "settings": settings.get(row["id"], {})}) for row in rows]


def list_issues(session: Session, collection_id: int | None = None) -> list[IssueRow]:
    """Return the issues of one collection, or of all. One statement."""
    columns = (Issue.id, Collection.source_id.label("collection"), Issue.description, Issue.translations)
    statement = select(*columns).join(Collection, Collection.id == Issue.collection_id)
    if collection_id is not None:
        statement = statement.where(Issue.collection_id == collection_id)
    rows = session.execute(statement.order_by(Collection.source_id, Issue.id)).mappings()
    return [IssueRow.model_validate(dict(row)) for row in rows]


def _users(link: Any) -> Any:
    names = func.array_agg(aggregate_order_by(Collection.source_id, Collection.source_id))
    return func.coalesce(select(names).where(link).scalar_subquery(), []).label("collections")


def settings_of(session: Session, collection: Collection) -> list[tuple[str, str]]:
    """Return the settings of a collection's bundle, by key: what a spider is to be started with."""
    statement = select(Setting.key, Setting.value).where(Setting.settings_bundle_id == collection.settings_bundle_id)
    return [(row.key, row.value) for row in session.execute(statement.order_by(Setting.key))]


def save_licence(
    session: Session,
    licence: Licence | None,
    *,
    name: str | None = None,
    url: str | None = None,
    description: str | None = None,
    translations: Translations | None = None,
    default_language: str,
    actor: str,
) -> Licence:
    """Add a licence, or change one: what is None stays. Raise :class:`InvalidCollectionError`."""
    changes = check_translations(translations or {}, LICENCE_TEXTS, default_language=default_language)
    action = "licence edit"
    if licence is None:
        action, licence = "licence add", Licence(name="", url="", description="", translations={})
        session.add(licence)
    licence.name = (licence.name if name is None else name).strip()
    licence.url = licence.url if url is None else check_address(url)
    licence.description = (licence.description if description is None else description).strip()
    licence.translations = merge_translations(licence.translations, changes)
    if not licence.name:
        raise InvalidCollectionError("A licence has a name: give one.")
    session.flush()
    _audit(session, actor, action, licence=licence.id, name=licence.name, url=licence.url)
    return licence


def remove_licence(session: Session, licence: Licence, *, actor: str) -> None:
    """Delete a licence. Raise :class:`InUseError` while a collection names it."""
    users = session.scalars(select(Collection.source_id).where(Collection.licence_id == licence.id).limit(4)).all()
    if users:
        more = ", …" if len(users) > 3 else ""
        raise InUseError(
            f"The licence {licence.name!r} is named by {', '.join(users[:3])}{more}. Take it away from them first: "
            f'bowerbird edit --where licence={licence.id} --licence ""'
        )
    _audit(session, actor, "licence remove", licence=licence.id, name=licence.name)
    session.delete(licence)
    session.flush()


def save_bundle(
    session: Session,
    bundle: SettingsBundle | None,
    *,
    name: str | None = None,
    settings: Mapping[str, str] | None = None,
    unset: Sequence[str] = (),
    actor: str,
) -> SettingsBundle:
    """Add a settings bundle, or change one: settings that are not mentioned stay.

    :raises InvalidCollectionError: no name, or a key that is none.
    """
    action = "bundle edit"
    if bundle is None:
        action, bundle = "bundle add", SettingsBundle(name="")
        session.add(bundle)
    bundle.name = (bundle.name if name is None else name).strip()
    if not bundle.name:
        raise InvalidCollectionError("A settings bundle has a name: give one.")
    session.flush()
    for key, value in (settings or {}).items():
        if not key or key != key.strip() or "=" in key:
            raise InvalidCollectionError(f"{key!r} is no name of a setting.")
        row = insert(Setting).values(settings_bundle_id=bundle.id, key=key, value=value)
        changed = {"value": value, "modified": func.now()}
        session.execute(row.on_conflict_do_update(index_elements=["settings_bundle_id", "key"], set_=changed))
    session.execute(delete(Setting).where(Setting.settings_bundle_id == bundle.id, Setting.key.in_(unset)))
    names = {"bundle": bundle.id, "name": bundle.name, "set": sorted(settings or {}), "unset": sorted(unset)}
    _audit(session, actor, action, **names)
    session.flush()
    return bundle


def remove_bundle(session: Session, bundle: SettingsBundle, *, actor: str) -> None:
    """Delete a settings bundle. Its collections are collected without."""
    _audit(session, actor, "bundle remove", bundle=bundle.id, name=bundle.name)
    session.delete(bundle)
    session.flush()


def save_issue(
    session: Session,
    issue: Issue | None,
    *,
    collection: Collection | None = None,
    description: str | None = None,
    translations: Translations | None = None,
    default_language: str,
    actor: str,
) -> Issue:
    """Add an issue to a collection, or change one. Raise :class:`InvalidCollectionError`."""
    changes = check_translations(translations or {}, ISSUE_TEXTS, default_language=default_language)
    action = "issue edit"
    if issue is None:
        assert collection is not None
        action, issue = "issue add", Issue(collection_id=collection.id, description="", translations={})
        session.add(issue)
    issue.description = (issue.description if description is None else description).strip()
    issue.translations = merge_translations(issue.translations, changes)
    if not issue.description:
        raise InvalidCollectionError("An issue has a text: give one.")
    session.flush()
    _audit(session, actor, action, issue=issue.id, text=issue.description)
    return issue


def remove_issue(session: Session, issue: Issue, *, actor: str) -> None:
    """Delete an issue."""
    _audit(session, actor, "issue remove", issue=issue.id, text=issue.description)
    session.delete(issue)
    session.flush()


def _audit(session: Session, actor: str, action: str, **details: Any) -> None:
    session.add(Audit(actor=actor, action=action, details=details))
