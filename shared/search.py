"""Finding collections: words, filters, counts of what each filter would find, and pages in any order.

Texts are compared *folded*: without accents and case (shared/db/folding.py). A word may be a part of a longer one, for
which no index helps that PostgreSQL has without an extension: the texts of all collections are read, which takes some
20 milliseconds for a thousand of them.

A page begins after a :data:`Position`, the place of the last item of the page before: what is added meanwhile is
neither skipped nor shown twice, and no page costs more than the first.
"""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Collection as Values
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, Literal, TypeAlias, TypeVar, overload

from pydantic import Field
from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    Text,
    and_,
    case,
    cast,
    collate,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.orm import Session

from shared.db.folding import folded
from shared.db.models import Collection, Job
from shared.views import (
    COUNTS,
    CollectionView,
    OperatorCollectionView,
    View,
    collection_view,
    first_text,
    select_collections,
)

_LAST = "\U0010ffff"
_COMMA = r"\s*,\s*"

Position: TypeAlias = tuple[str | None, int]
"""Where an item is in an order: its key (None: the order has only ids), and its id."""
ViewT = TypeVar("ViewT", bound=CollectionView)


class FacetValue(View):
    """A value that a filter can have, and what it would find."""

    value: str = Field(description="What to filter by.")
    label: str = Field(description="The same for people, in the language that was asked for.")
    count: int = Field(description="How many collections there are with it that meet the other filters.")


class Facets(View):
    """What each filter would find, the most frequent value first. Blank values are left out."""

    total: int = Field(description="How many collections meet all filters.")
    country: list[FacetValue]
    region: list[FacetValue]
    update_frequency: list[FacetValue]
    retrieval_frequency: list[FacetValue]
    data_language: list[FacetValue]
    published: list[FacetValue]
    frozen: list[FacetValue]
    has: list[FacetValue] = Field(description="Counted among what meets all filters, as every further one narrows it.")


@dataclass(frozen=True)
class Page(Generic[ViewT]):
    """Some collections, and where the next page begins; None: there are no more."""

    items: list[ViewT]
    following: Position | None


@dataclass(frozen=True)
class Order:
    """An order of collections. What has nothing to be sorted by comes last, either way."""

    by: str = "id"
    descending: bool = False

    def keys(self, language: str) -> list[ColumnElement[Any]]:
        """Return what to sort by: a text (unless by id), compared by code points, then the id."""
        if self.by == "id":
            return [Collection.id]  # type: ignore[list-item]
        known = func.nullif(SORTS[self.by](language), "")
        text = func.coalesce(known, "" if self.descending else _LAST)
        return [collate(text, "C"), Collection.id]  # type: ignore[list-item]


BY_ID = Order()


def text_in(field: str, language: str) -> ColumnElement[str]:
    """Return a field in a language, as :func:`shared.views.translated` has it."""
    tags = dict.fromkeys((language.lower(), language.lower().partition("-")[0])) if language else ()
    return first_text(*(Collection.translations[tag][field].astext for tag in tags), getattr(Collection, field))


def _by_country(language: str) -> ColumnElement[str]:
    """By country, then by title; blank without a country."""
    country, title = (folded(text_in(field, language)) for field in ("country", "title"))
    return func.nullif(country, "") + "\x01" + title


def _time(column: Any) -> ColumnElement[str]:
    return func.to_char(func.timezone("UTC", column), "YYYY-MM-DD HH24:MI:SS.US")


def _day(column: Any) -> ColumnElement[str]:
    return func.to_char(column, "YYYY-MM-DD")


_DATE_FROM = func.coalesce(Collection.date_from, Job.date_from)
_DATE_TO = func.coalesce(Collection.date_to, Job.date_to)

SORTS: dict[str, Callable[[str], ColumnElement[str]]] = {
    "title": lambda language: folded(text_in("title", language)),
    "country": _by_country,
    "source_id": lambda _: Collection.source_id,  # type: ignore[dict-item,return-value]
    "last_retrieved": lambda _: _day(Collection.last_retrieved),
    "published": lambda _: _time(func.coalesce(Job.end, Job.created)),
    "created": lambda _: _time(Collection.created),
    "date_from": lambda _: _day(_DATE_FROM),
    "date_to": lambda _: _day(_DATE_TO),
}
"""What collections can be sorted by, beside ``id``."""


@dataclass(frozen=True)
class Search:
    """What is looked for. What is empty or None does not matter.

    ``text``: words, all of which are in some text of the collection, in any language. Of several countries, regions and
    so on, one must fit; of the counts in ``has`` none may be 0 for the active job. The dates are a period that the
    data's own overlaps. ``language`` is that of the answer: countries may be named in it.
    """

    text: str = ""
    country: Values[str] = ()
    region: Values[str] = ()
    update_frequency: Values[str] = ()
    retrieval_frequency: Values[str] = ()
    data_language: Values[str] = ()
    has: Values[str] = ()
    published: bool | None = None
    frozen: bool | None = None
    date_from: date | None = None
    date_to: date | None = None
    language: str = ""

    def conditions(self) -> dict[str, ColumnElement[bool]]:
        """Return the condition about Collection and its active Job for each field that matters."""
        asked = {
            "text": [mentions(self.text)] if self.text.split() else [],
            "country": self._countries(),
            "data_language": _of_languages(self.data_language),
            "has": [_count(name) > 0 for name in self.has],
            "published": _is(Collection.active_job_id.is_not(None), self.published),
            "frozen": _is(Collection.frozen, self.frozen),
            "date_from": [func.coalesce(_DATE_TO, _DATE_FROM) >= self.date_from] if self.date_from else [],
            "date_to": [func.coalesce(_DATE_FROM, _DATE_TO) <= self.date_to] if self.date_to else [],
        }
        for name in ("region", "update_frequency", "retrieval_frequency"):
            values = getattr(self, name)
            asked[name] = [getattr(Collection, name).in_(values)] if values else []
        return {name: and_(*conditions) for name, conditions in asked.items() if conditions}

    def _countries(self) -> list[ColumnElement[bool]]:
        if not self.country:
            return []
        wanted = [folded(literal(name)) for name in self.country]
        names = (folded(Collection.country), folded(text_in("country", self.language)))
        return [or_(*(name.in_(wanted) for name in names))]


EVERYTHING = Search()
FACETS = tuple(name for name in Facets.model_fields if name != "total")


def mentions(text: str) -> ColumnElement[bool]:
    """Return the condition that all words of a text, or parts of words, are in some text of a collection."""
    return and_(true(), *(func.strpos(Collection.search_text, folded(literal(word))) > 0 for word in text.split()))


def _of_languages(wanted: Iterable[str]) -> list[ColumnElement[bool]]:
    names = [folded(literal(name)) for name in wanted]
    return [func.regexp_split_to_array(folded(Collection.language), _COMMA).op("&&")(array(names))] if names else []


def _is(condition: Any, wanted: bool | None) -> list[ColumnElement[bool]]:
    return [] if wanted is None else [condition if wanted else ~condition]


def _count(name: str) -> Any:
    return getattr(Job, f"{name}_count")


@overload
def find_collections(
    session: Session,
    search: Search = ...,
    *,
    public_only: Literal[True] = True,
    order: Order = ...,
    after: Position | None = None,
    limit: int,
    where: Sequence[ColumnElement[bool]] = (),
) -> Page[CollectionView]: ...
@overload
def find_collections(
    session: Session,
    search: Search = ...,
    *,
    public_only: Literal[False],
    order: Order = ...,
    after: Position | None = None,
    limit: int,
    where: Sequence[ColumnElement[bool]] = (),
) -> Page[OperatorCollectionView]: ...
@overload
def find_collections(
    session: Session,
    search: Search = ...,
    *,
    public_only: bool,
    order: Order = ...,
    after: Position | None = None,
    limit: int,
    where: Sequence[ColumnElement[bool]] = (),
) -> Page[Any]: ...
def find_collections(
    session: Session,
    search: Search = EVERYTHING,
    *,
    public_only: bool = True,
    order: Order = BY_ID,
    after: Position | None = None,
    limit: int,
    where: Sequence[ColumnElement[bool]] = (),
) -> Page[Any]:
    """Return a page of collections. One statement.

    :param after: the ``following`` of the page before, in the same order.
    :param where: further conditions, such as those of shared/selection.py.
    """
    keys = order.keys(search.language)
    statement = select_collections(public_only=public_only).add_columns(
        *(key.label(f"key_{n}") for n, key in enumerate(keys))
    )
    statement = statement.where(*where, *search.conditions().values())
    if after is not None:
        here, there = tuple_(*keys), tuple_(*after[-len(keys) :])
        statement = statement.where(here < there if order.descending else here > there)
    statement = statement.order_by(*(key.desc() if order.descending else key for key in keys)).limit(limit + 1)
    rows = session.execute(statement).mappings().all()
    items = [collection_view(row, public_only=public_only, language=search.language) for row in rows[:limit]]
    last = rows[limit - 1] if len(rows) > limit else None
    return Page(items, None if last is None else (last["key_0"] if len(keys) > 1 else None, last["id"]))


def count_facets(
    session: Session, search: Search, *, public_only: bool = True, where: Sequence[ColumnElement[bool]] = ()
) -> Facets:
    """Return how many collections each value of each filter would find, the other filters as they are. One statement.

    A candidate meets what has no facet; of each filter that has one it says whether it fits. So all is judged once.
    """
    conditions = search.conditions()
    fits = {name: conditions.pop(name, true()) for name in FACETS if name != "has"}
    values = _facet_values()
    candidate = (
        select(
            *(column.label(name) for name, column in values.items()),
            *(fit.label(f"fits_{name}") for name, fit in fits.items()),
            text_in("country", search.language).label("label"),
        )
        .select_from(Collection)
        .outerjoin(Job, Job.id == Collection.active_job_id)
        .where(*where, *conditions.values(), *([Collection.public] if public_only else []))
        .cte("candidate")
    )
    counted: dict[str, list[FacetValue]] = {name: [] for name in ("total", *FACETS)}
    for name, value, label, count in session.execute(union_all(*(_counted(candidate, name) for name in counted))):
        counted[name].append(FacetValue(value=value, label=label, count=count))
    (total,) = counted.pop("total")
    ordered = {name: sorted(found, key=lambda each: (-each.count, each.label)) for name, found in counted.items()}
    return Facets(total=total.count, **ordered)


def _facet_values() -> dict[str, ColumnElement[Any]]:
    """Return each facet's values of a collection, as an array."""
    single: dict[str, Any] = {name: getattr(Collection, name) for name in FACETS if hasattr(Collection, name)}
    single |= {"frozen": cast(Collection.frozen, Text), "published": cast(Collection.active_job_id.is_not(None), Text)}
    return {name: array([column]) for name, column in single.items()} | {
        "data_language": func.regexp_split_to_array(Collection.language, _COMMA),
        "has": array([case((_count(name) > 0, name)) for name in COUNTS]),
    }


def _counted(candidate: CTE, name: str) -> "Select[*tuple[Any, ...]]":
    """Count the candidates that fit every facet but this one, by its values; ``total``: all that fit every facet."""
    fitting = [candidate.c[f"fits_{each}"] for each in FACETS if each not in (name, "has")]
    if name == "total":
        return select(literal(name), literal(""), literal(""), func.count()).select_from(candidate).where(*fitting)
    values = select(func.unnest(candidate.c[name], type_=Text).label("value"), candidate.c.label).where(*fitting)
    each = values.subquery().c
    label = func.min(each.label) if name == "country" else each.value
    return select(literal(name), each.value, label, func.count()).where(each.value != "").group_by(each.value)
