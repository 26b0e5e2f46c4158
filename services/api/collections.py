"""The endpoints of collections: a list that is searched, filtered, sorted and counted, and all about one of them."""

import base64
import binascii
import json
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy.orm import Session
from starlette.responses import Response

from services.api import keys, openapi, schemas
from services.api.queries import NO_NUL, bad_query, naming
from services.api.routes import (
    LARGEST_ID,
    LARGEST_PAGE,
    Api,
    Language,
    ReaderParameter,
    Ref,
    collection_resource,
    download_resource,
    require_collection,
    with_links,
)
from shared.db.models import KeyScope, Region, RetrievalFrequency, UpdateFrequency
from shared.published import ActiveJobView, active_job
from shared.search import SORTS, Order, Position, Search, count_facets, find_collections
from shared.selection import conditions
from shared.views import COUNTS

MAX_VALUES = 100
MAX_SEARCH_CHARACTERS = 200

Name = Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)]
SORT = f"^-?({'|'.join(('id', *SORTS))})$"

router = APIRouter()


class CollectionQuery(BaseModel):
    """What collections are asked for, and how they are listed."""

    q: str = Field(
        default="",
        description="Words, all of which are in its texts, in any language; accents and case do not matter.",
        max_length=MAX_SEARCH_CHARACTERS,
        pattern=NO_NUL,
        examples=["river ruritania"],
    )
    country: list[Name] = Field(
        default=[],
        description="Only those of this country, in the default language or in `language`. May be repeated: any fits.",
        max_length=MAX_VALUES,
        examples=[["Ruritania"]],
    )
    region: list[Region] = Field(
        default=[], description="Only those of this region. May be repeated: any fits.", examples=[["EU", "LAC"]]
    )
    update_frequency: list[UpdateFrequency] = Field(
        default=[],
        description="Only those whose source updates so often. May be repeated: any fits.",
        examples=[["DAILY"]],
    )
    retrieval_frequency: list[RetrievalFrequency] = Field(
        default=[],
        description="Only those that are collected so often. May be repeated: any fits.",
        examples=[["WEEKLY"]],
    )
    data_language: list[Name] = Field(
        default=[],
        description="Only those whose data is (also) in this language, in words of the default language. May be "
        "repeated: any fits.",
        max_length=MAX_VALUES,
        examples=[["English"]],
    )
    date_from: date | None = Field(
        default=None, description="Only those with data of this day or later.", examples=["2025-01-01"]
    )
    date_to: date | None = Field(
        default=None, description="Only those with data of this day or earlier.", examples=["2025-12-31"]
    )
    has: list[Literal[COUNTS]] = Field(  # type: ignore[valid-type]
        default=[],
        description="Only those whose active job counted some of these. May be repeated: all must be there.",
        examples=[["tenders", "awards"]],
    )
    published: bool | None = Field(
        default=None, description="Only those that have an active job, or have none.", examples=[True]
    )
    frozen: bool | None = Field(
        default=None, description="Only those that are not collected for now, or that are.", examples=[False]
    )
    where: list[str] = Field(
        default=[],
        description="Only those that meet this condition, as of `bowerbird conditions`: `not-licence`, `region=LAC`. "
        "May be repeated: all must be met. Needs a key.",
        max_length=MAX_VALUES,
        examples=[["not-licence"]],
    )
    sort: str = Field(
        default="id",
        description="What to sort by, `-` before it for the other way round. What is not known comes last. `country`: "
        "by country, then title; `published`: by when the files were published.",
        pattern=SORT,
        examples=["-published"],
    )
    facets: bool = Field(
        default=False,
        description="Also count, for each filter, what each of its values would find, the other filters as they are.",
        examples=[True],
    )
    limit: int | None = Field(default=None, description="Items a page holds.", ge=1, le=LARGEST_PAGE, examples=[50])
    after: str = Field(
        default="", description="Taken from a `next` link of the same `sort`.", max_length=2000, examples=["3"]
    )
    language: Language = ""

    def search(self) -> Search:
        """Return what is looked for."""
        same = ("country", "region", "update_frequency", "retrieval_frequency", "data_language", "has")
        rest = ("published", "frozen", "date_from", "date_to", "language")
        return Search(text=self.q, **{name: getattr(self, name) for name in (*same, *rest)})

    def order(self) -> Order:
        """Return the order of the list."""
        return Order(self.sort.removeprefix("-"), descending=self.sort.startswith("-"))

    def given(self) -> dict[str, Any]:
        """Return what a link to another page repeats, as a query has it."""
        return self.model_dump(mode="json", exclude={"after"}, exclude_defaults=True) | {
            name: str(flag).lower()
            for name, flag in (("published", self.published), ("frozen", self.frozen), ("facets", self.facets or None))
            if flag is not None
        }


@router.head("/collections", include_in_schema=False)
@router.get(
    "/collections",
    tags=["collections"],
    operation_id="listCollections",
    summary="List, search and count collections",
    description="Public collections, oldest first unless `sort` says otherwise. Follow the `next` link for more.",
    response_model=schemas.CollectionPage | schemas.OperatorCollectionPage,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=openapi.reads("A page of collections.", openapi.NOT_MODIFIED, openapi.BAD_QUERY),
)
def list_collections(api: ReaderParameter, query: Annotated[CollectionQuery, Query()]) -> Response:
    """List collections. Conditions also ask about what only operators see: they are for operators."""
    if query.where:
        keys.require(api.holder, KeyScope.READ)
    if any("\x00" in text for text in query.where):
        raise bad_query("where", "There is a character in it that no text has.")
    with naming("where"):
        met = conditions(query.where)
    search, order = query.search(), query.order()
    chosen: dict[str, Any] = {"public_only": api.public_only, "where": met}
    after = position_of(query.after, query.sort)
    with api.context.sessions() as session:
        page = find_collections(
            session, search, order=order, after=after, limit=query.limit or api.context.page_size, **chosen
        )
        facets = count_facets(session, search, **chosen) if query.facets else None
    following = None if page.following is None else cursor_of(page.following, query.sort)
    links = api.page_links("/collections", query.given(), "after", query.after or None, following)
    kind: Any = schemas.CollectionPage if api.public_only else schemas.OperatorCollectionPage
    items = [collection_resource(api, view) for view in page.items]
    return api.answer(kind(items=items, facets=facets, links=links))


@router.head("/collections/{ref}", include_in_schema=False)
@router.get(
    "/collections/{ref}",
    tags=["collections"],
    operation_id="getCollection",
    summary="Show a collection",
    description="One public collection, with what its active job found out about the data, and its files.",
    response_model=schemas.CollectionDetail | schemas.OperatorCollectionDetail,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=openapi.reads("The collection.", openapi.NOT_MODIFIED, openapi.BAD_QUERY, openapi.NO_COLLECTION),
)
def get_collection(api: ReaderParameter, ref: Ref, language: Language = "") -> Response:
    """Show one collection."""
    with api.context.sessions() as session:
        return api.answer(collection_detail(session, api, ref, language))


def collection_detail(session: Session, api: Api, ref: str, language: str = "") -> schemas.CollectionDetail:
    """Return a collection with its active job. Raise a problem (404) if there is none, or it may not be seen."""
    view = require_collection(session, ref, public_only=api.public_only, language=language)
    job = active_job(session, view.active_job_id)
    kind: Any = schemas.CollectionDetail if api.public_only else schemas.OperatorCollectionDetail
    shown = None if job is None else _job_resource(api, view.source_id, job)
    detail: schemas.CollectionDetail = kind.model_construct(**dict(collection_resource(api, view)), active_job=shown)
    return detail


def _job_resource(api: Api, source_id: str, job: ActiveJobView) -> schemas.ActiveJobResource:
    resource = with_links(schemas.ActiveJobResource, job, api.link("self", f"/jobs/{job.id}"))
    files = [download_resource(api, source_id, file) for file in job.files]
    return resource.model_copy(update={"files": files})


def cursor_of(position: Position, sort: str) -> str:
    """Return a position as ``next`` links have it: an id alone, or with its key and what is sorted by, in base64."""
    key, number = position
    if key is None:
        return str(number)
    return base64.urlsafe_b64encode(json.dumps([sort, key, number]).encode()).decode().rstrip("=")


def position_of(cursor: str, sort: str) -> Position | None:
    """Return the position of a cursor, None for a blank one. Raise a problem (400) if it is none of this order."""
    if not cursor:
        return None
    by_id = sort.removeprefix("-") == "id"
    position = _number(cursor) if by_id else _decoded(cursor, sort)
    if position is None or not 0 <= position[1] <= LARGEST_ID:
        raise bad_query("after", "This is from no next link of a list with this sort. Begin at the first page.")
    return position


def _number(cursor: str) -> Position | None:
    return (None, int(cursor)) if cursor.isascii() and cursor.isdecimal() else None


def _decoded(cursor: str, sort: str) -> Position | None:
    try:
        match json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)):
            case [str() as of, str() as key, int() as number] if of == sort and "\x00" not in key:
                return key, number
    except (ValueError, binascii.Error, RecursionError):
        pass
    return None
