"""The endpoints. Each opens a session, asks a read model of shared/views.py, and answers; GET and HEAD alike."""

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as PathParameter
from pydantic import BaseModel
from sqlalchemy.orm import Session, sessionmaker
from starlette.responses import Response

from services.api import downloads, keys, openapi, schemas
from services.api.negotiation import choose
from services.api.problems import base_url, no_such_collection, unavailable
from services.api.schemas import ATOM, JOB_LIST, JSON, LD_JSON, OGC_RELATIONS, RSS, Link
from shared import metrics, views
from shared.db.revision import current_revision, is_known
from shared.exports import MEDIA_TYPES, split_name
from shared.keys import Holder
from shared.logging import mask
from shared.processes import Process
from shared.settings import Settings

TITLE = "Bowerbird"
LARGEST_PAGE = 1000
LARGEST_ID = 2**63 - 1
OPENAPI_30 = "application/vnd.oai.openapi+json;version=3.0"
EMPTY: Mapping[str, Any] = {}

Resource = TypeVar("Resource", bound=schemas.Linked)

router = APIRouter()


@dataclass(frozen=True)
class Context:
    """What the endpoints need, for as long as the process lives."""

    sessions: sessionmaker[Session]
    exports: Path
    page_size: int
    public_url: str | None
    database_url: str
    head_revision: str
    settings: Settings
    processes: Mapping[str, Process]
    """Those that are offered."""


@dataclass(frozen=True)
class Api:
    """One request: what it may use, who asks, and how to answer it."""

    context: Context
    request: Request
    holder: Holder | None = None
    """Whose key came with it; None: the public."""

    @property
    def public_only(self) -> bool:
        """Whether only what is public may be shown."""
        return self.holder is None

    @functools.cached_property
    def base(self) -> str:
        """The address of this API as its users reach it, without a slash at the end."""
        return base_url(self.request)

    def link(self, rel: str, path: str, media_type: str = JSON, query: Mapping[str, Any] = EMPTY) -> Link:
        """Return a link to a path of this API, as its users reach it. Query values that are None are left out."""
        wanted = {name: value for name, value in query.items() if value is not None}
        given = urlencode(wanted, doseq=True) if wanted else ""
        return Link(href=f"{self.base}{path}{'?' if given else ''}{given}", rel=rel, type=media_type)

    def page_links(
        self, path: str, query: Mapping[str, Any], cursor: str, here: str | int | None, following: str | int | None
    ) -> list[Link]:
        """Return the links of a page of a list: to itself and, unless ``following`` is None, to the next one.

        ``query`` chooses what is listed; ``cursor`` names the parameter that says where a page starts.
        """
        links = [self.link("self", path, query={**query, cursor: here})]
        if following is not None:
            links.append(self.link("next", path, query={**query, cursor: following}))
        return links

    def body(self, model: BaseModel) -> bytes:
        """Return a model as JSON. Operators are shown texts in full, except for passwords."""
        if self.public_only:
            return model.model_dump_json(by_alias=True).encode()
        value = _masked(model.model_dump(mode="json", by_alias=True))
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    def caching(self) -> dict[str, str]:
        """Return what caches are told: to ask each time, and to keep what operators see for nobody else."""
        kept = "no-cache" if self.public_only else "private, no-cache"
        return {"Cache-Control": kept, "Vary": "Accept, Authorization"}

    def answer(self, model: BaseModel) -> Response:
        """Return a model as JSON; see :meth:`send`. Raise a problem (406) if the client accepts no JSON."""
        choose(self.request, [JSON])
        return self.send(self.body(model), JSON, model.links if isinstance(model, schemas.Linked) else ())

    def send(
        self, body: bytes, media_type: str, links: Iterable[Link] = (), further: Mapping[str, str] = EMPTY
    ) -> Response:
        """Return a body with an entity tag, its links and further headers, or 304 if the client has just that."""
        headers = {"ETag": entity_tag(body), **self.caching(), **further}
        if written := ", ".join(f'<{link.href}>; rel="{link.rel}"; type="{link.type}"' for link in links):
            headers["Link"] = written
        if downloads.matches(", ".join(self.request.headers.getlist("if-none-match")), headers["ETag"]):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        headers["Content-Length"] = str(len(body))
        return Response(b"" if self.request.method == "HEAD" else body, headers=headers, media_type=media_type)


def entity_tag(body: bytes) -> str:
    """Return the strong validator of a body."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


async def _api(request: Request) -> Api:
    return Api(request.app.state.context, request)


async def reader(request: Request) -> Api:
    """Return the request, with whoever sent a key. Raise a problem (401) if the key is not valid."""
    return Api(request.app.state.context, request, await keys.holder_of(request))


ApiParameter = Annotated[Api, Depends(_api)]
ReaderParameter = Annotated[Api, Depends(reader)]
Ref = Annotated[str, PathParameter(description="The collection's `source_id`, or its `id`.", examples=["river_works"])]
Limit = Annotated[int | None, Query(description="Items a page holds.", ge=1, le=LARGEST_PAGE, examples=[50])]
After = Annotated[int | None, Query(description="Taken from a `next` link.", ge=0, le=LARGEST_ID, examples=[3])]
Language = Annotated[
    str,
    Query(
        description="Language of texts, such as `es` or `pt-br`. What is not translated is in the default language.",
        max_length=35,
        examples=["es"],
    ),
]
Before = Annotated[int | None, Query(description="Taken from a `next` link.", ge=0, le=LARGEST_ID, examples=[7])]


@router.head("/", include_in_schema=False)
@router.get(
    "/",
    tags=["service"],
    operation_id="getLanding",
    summary="Where to begin",
    description="What this is, with links to all there is.",
    response_model=schemas.Landing,
    responses=openapi.answers("Title and links."),
)
def get_landing(api: ApiParameter) -> Response:
    """Say what this is."""
    links = [
        api.link("self", "/"),
        api.link("service-desc", "/openapi.json"),
        api.link("service-desc", "/api", OPENAPI_30),
        api.link("service-doc", "/docs", "text/html"),
        api.link("collections", "/collections"),
        api.link("publications", "/publications.json"),
        api.link("describedby", "/catalog", LD_JSON),
        api.link("alternate", "/feed.atom", ATOM),
        api.link("alternate", "/feed.rss", RSS),
        api.link(f"{OGC_RELATIONS}conformance", "/conformance"),
        api.link(f"{OGC_RELATIONS}processes", "/processes"),
        api.link(JOB_LIST, "/jobs"),
        api.link("status", "/health/ready"),
        api.link("related", "/problems"),
    ]
    return api.answer(schemas.Landing(title=TITLE, description="Open data, kept published.", links=links))


@router.head("/collections/{ref}/downloads", include_in_schema=False)
@router.get(
    "/collections/{ref}/downloads",
    tags=["downloads"],
    operation_id="listDownloads",
    summary="List a collection's files",
    description="The files of the active job, with size, number of records and SHA-256. Without an active job: none.",
    response_model=schemas.DownloadList,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=openapi.reads("The files.", openapi.NOT_MODIFIED, openapi.NO_COLLECTION),
)
def list_downloads(api: ReaderParameter, ref: Ref) -> Response:
    """List a collection's files."""
    with api.context.sessions() as session:
        view = require_collection(session, ref, public_only=api.public_only)
        job_id = view.active_job_id
        files = [] if job_id is None else views.list_files(session, job_id)
    path = f"/collections/{view.source_id}"
    links = [api.link("self", f"{path}/downloads"), api.link("collection", path)]
    if job_id is not None:
        links.append(api.link("job", f"/jobs/{job_id}"))
    items = [download_resource(api, view.source_id, file) for file in files]
    return api.answer(schemas.DownloadList(job_id=job_id, items=items, links=links))


@router.head(
    "/collections/{ref}/downloads/{name}",
    tags=["downloads"],
    operation_id="headDownload",
    summary="Ask about a file",
    description="The headers that a download would have, without the file.",
    response_class=Response,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=openapi.head_answers(),
)
@router.get(
    "/collections/{ref}/downloads/{name}",
    tags=["downloads"],
    operation_id="getDownload",
    summary="Download a file",
    description="A file of the active job. Interrupted downloads can be resumed (`Range`, `If-Range`); one range at a "
    "time. The `ETag` is the SHA-256 of the file. If another server sends the files, the answer leads there (302).",
    response_class=Response,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=openapi.download_answers(),
)
def get_download(
    api: ReaderParameter,
    ref: Ref,
    name: Annotated[str, PathParameter(description="The file's name.", examples=["full.jsonl.gz"])],
) -> Response:
    """Send a file, or a part of it."""
    downloads.require_file_name(name)
    with api.context.sessions() as session:
        response = downloads.serve(
            api.request,
            lambda: downloads.find(session, api.context.exports, ref, name, public_only=api.public_only),
            server=api.context.settings.download_url,
        )
    response.headers.update(api.caching())
    return response


@router.head("/health/live", include_in_schema=False)
@router.get(
    "/health/live",
    tags=["service"],
    operation_id="getLiveness",
    summary="Is the process alive?",
    description="Answers while the process does, whatever the database's state.",
    response_model=schemas.Health,
    responses=openapi.answers("It is alive."),
)
def get_liveness(api: ApiParameter) -> Response:
    """Answer."""
    return api.answer(schemas.Health(status="ok"))


@router.head("/health/ready", include_in_schema=False)
@router.get(
    "/health/ready",
    tags=["service"],
    operation_id="getReadiness",
    summary="Can requests be answered?",
    description="Whether the database can be reached and its schema is the one this version needs, or a newer one.",
    response_model=schemas.Health,
    responses=openapi.answers("It is ready.", openapi.NOT_READY),
)
def get_readiness(api: ApiParameter) -> Response:
    """Ask the database for its schema's revision, on a new connection. One that is not known here is a newer one."""
    revision, needed = current_revision(api.context.database_url), api.context.head_revision
    if revision is None or (revision != needed and is_known(revision)):
        raise unavailable(
            f"The database's schema is at {revision or 'nothing'} and this version needs {needed}. "
            "Run `bowerbird migrate`."
        )
    return api.answer(schemas.Health(status="ok"))


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", include_in_schema=False)
def get_metrics(api: ApiParameter) -> Response:
    """Answer with this process's metrics, for Prometheus. For operators: a proxy in front had better not pass it on."""
    body, media_type = metrics.exposition(api.request.headers.get("accept", ""))
    headers = {"Cache-Control": "no-store", "Content-Length": str(len(body)), "Content-Type": media_type}
    return Response(b"" if api.request.method == "HEAD" else body, headers=headers)


def number_of(text: str) -> int | None:
    """Return the number of a row that a path names; None: its form is one that no row's number has."""
    return int(text) if re.fullmatch("[0-9]+", text) and len(text) <= views.MAX_ID_DIGITS else None


def _masked(value: Any) -> Any:
    """Return a JSON value with passwords masked in every text, and numbers that JSON does not have as texts."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask(name): _masked(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def require_collection(session: Session, ref: str, *, public_only: bool, language: str = "") -> views.CollectionView:
    """Return a collection. Raise a problem (404) if there is none, or it may not be seen."""
    view = views.get_collection(session, ref, public_only=public_only, language=language)
    if view is None:
        raise no_such_collection(ref)
    return view


def collection_resource(api: Api, view: views.CollectionView) -> schemas.CollectionResource:
    """Return a collection with its links; as operators see it, it has more members."""
    path = f"/collections/{view.source_id}"
    kind: Any = schemas.CollectionResource if api.public_only else schemas.OperatorCollectionResource
    resource: schemas.CollectionResource = with_links(
        kind,
        view,
        api.link("self", path),
        api.link("jobs", "/jobs", query={"collection": view.source_id}),
        api.link("downloads", f"{path}/downloads"),
        api.link("describedby", f"{path}/dataset", LD_JSON),
    )
    return resource


def download_resource(api: Api, source_id: str, file: views.FileView) -> schemas.Download:
    """Return a collection's file with the link to it."""
    _, suffix = split_name(file.name)
    link = api.link("enclosure", f"/collections/{source_id}/downloads/{file.name}", MEDIA_TYPES[suffix])
    return with_links(schemas.Download, file, link)


def with_links(kind: type[Resource], view: BaseModel, *links: Link) -> Resource:
    """Return a read model with links beside its members. It was validated when it was made; not again here."""
    return cast("Resource", kind.model_construct(**dict(view), links=list(links)))
