"""The kinds of problem, explained: where the ``type`` of a problem leads, for programs and for people."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter
from starlette.responses import Response

from services.api import openapi, pages, schemas
from services.api.negotiation import FORMS, choose
from services.api.pages import escape, prose
from services.api.problem_types import BY_ID, ProblemType
from services.api.problems import ProblemError, type_uri
from services.api.routes import Api, ApiParameter
from services.api.schemas import HTML, JSON, PROBLEMS, Link

router = APIRouter()

Form = Annotated[
    str | None,
    Query(alias="f", description=f"The form: {', '.join(FORMS)}. It goes before `Accept`.", examples=["html"]),
]
KindId = Annotated[str, PathParameter(description="The last segment of a `type`.", examples=["job-in-progress"])]


@router.head("/problems", include_in_schema=False)
@router.get(
    "/problems",
    tags=["service"],
    operation_id="listProblems",
    summary="List the kinds of problem",
    description="Every kind that an answer can have as its `type`, by status; as JSON, or as a page.",
    response_model=schemas.ProblemKinds,
    responses=openapi.negotiated("The kinds."),
)
def list_problems(api: ApiParameter, _form: Form = None) -> Response:
    """List the kinds."""
    chosen = choose(api.request, [JSON, HTML])
    types = sorted(BY_ID.values(), key=lambda type_: (type_.status, type_.id))
    links = _links(api, "/problems", "alternate")
    if chosen == HTML:
        rows = [[_reference(api, type_), str(int(type_.status)), escape(type_.title)] for type_ in types]
        body = f"<h1>Problems</h1>\n{pages.table(['id', 'status', 'title'], rows)}"
        return _page(api, "Problems", body, links)
    kinds = schemas.ProblemKinds(items=[_kind(api, type_) for type_ in types], links=links)
    return api.send(api.body(kinds), JSON, links)


@router.head("/problems/{id}", include_in_schema=False)
@router.get(
    "/problems/{id}",
    tags=["service"],
    operation_id="getProblem",
    summary="Explain a kind of problem",
    description="What it means and what to do: where the `type` of a problem leads, and where those kinds are "
    "explained too that a standard has named. As JSON, or as a page.",
    response_model=schemas.ProblemKind,
    responses=openapi.negotiated("The kind.", openapi.NO_KIND),
)
def get_problem(api: ApiParameter, id: KindId, _form: Form = None) -> Response:  # noqa: A002  the path's word
    """Explain one."""
    type_ = BY_ID.get(id)
    if type_ is None:
        detail = f"There is no kind of problem {id!r:.100}; /problems lists them."
        raise ProblemError(HTTPStatus.NOT_FOUND, detail, path="/problems")
    chosen = choose(api.request, [JSON, HTML])
    kind = _kind(api, type_)
    if chosen == HTML:
        return _page(api, type_.title, _explained(kind), kind.links)
    return api.send(api.body(kind), JSON, kind.links)


def _reference(api: Api, type_: ProblemType) -> str:
    href = api.link("about", PROBLEMS + type_.id, HTML, {"f": "html"}).href
    return f'<a href="{escape(href)}">{type_.id}</a>'


def _kind(api: Api, type_: ProblemType) -> schemas.ProblemKind:
    return schemas.ProblemKind(
        id=type_.id,
        type=type_uri(api.request, type_),
        status=type_.status,
        title=type_.title,
        explanation=type_.explanation,
        remedy=type_.remedy,
        links=_links(api, PROBLEMS + type_.id, "about"),
    )


def _links(api: Api, path: str, rel: str) -> list[Link]:
    return [api.link("self", path), api.link(rel, path, HTML, {"f": "html"})]


def _explained(kind: schemas.ProblemKind) -> str:
    return (
        f"<h1>{escape(kind.title)}</h1>\n<p><code>{escape(kind.type)}</code>, status {kind.status}</p>\n"
        f"{prose(kind.explanation)}<h2>What to do</h2>\n{prose(kind.remedy)}"
    )


def _page(api: Api, title: str, body: str, links: list[Link]) -> Response:
    return api.send(pages.page(title, body), pages.MEDIA_TYPE, links, pages.HEADERS)
