"""What other systems harvest: ``publications.json`` of the OCP Data Registry, schema.org, and a DCAT-AP catalogue.

Harvests are of what is public, whoever asks: what was harvested is shown to anyone elsewhere.
"""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter
from starlette.responses import Response

from services.api import dcat, harvest_openapi, openapi, schema_org
from services.api.collections import position_of
from services.api.harvest_schemas import Publications
from services.api.metadata import Site
from services.api.routes import Api, ApiParameter, Language, ReaderParameter, Ref, require_collection
from services.api.schemas import LD_JSON
from shared.published import active_job, harvest
from shared.published import list_publications as publications_of

router = APIRouter()


@router.head("/publications.json", include_in_schema=False)
@router.get(
    "/publications.json",
    tags=["catalogue"],
    operation_id="listPublications",
    summary="All publications, as a Data Registry lists them",
    description="Every public collection that is published, or says why it is not, with the members that the OCP Data "
    "Registry's list of the same name has: programs that read that one can read this one. By id, and not in pages.",
    response_model=Publications,
    responses=openapi.answers("All publications.", openapi.NOT_MODIFIED, openapi.BAD_QUERY, openapi.AWAY),
)
def list_publications(api: ApiParameter, language: Language = "") -> Response:
    """List all publications."""
    with api.context.sessions() as session:
        return api.answer(Publications(publications_of(session, language=language)))


@router.head("/{language}/publications.json", include_in_schema=False)
@router.get("/{language}/publications.json", include_in_schema=False)
def list_publications_at_old_address(
    api: ApiParameter, language: Annotated[str, PathParameter(pattern="^(en|es|ru)$")]
) -> Response:
    """List all publications, at the addresses that a Data Registry has for its languages."""
    return list_publications(api, language)


@router.head("/collections/{ref}/dataset", include_in_schema=False)
@router.get(
    "/collections/{ref}/dataset",
    tags=["catalogue"],
    operation_id="getDataset",
    summary="Describe a collection for search engines",
    description="The collection as a Dataset of schema.org, as JSON-LD, with its files. It can be put into a page as "
    "it is, in a `script` element of this media type.",
    response_class=Response,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=harvest_openapi.document_reads(
        "The data set.", "DatasetDocument", harvest_openapi.DATASET, openapi.BAD_QUERY, openapi.NO_COLLECTION
    ),
)
def get_dataset(api: ReaderParameter, ref: Ref, language: Language = "") -> Response:
    """Describe a collection."""
    with api.context.sessions() as session:
        view = require_collection(session, ref, public_only=api.public_only, language=language)
        job = active_job(session, view.active_job_id)
    links = [
        api.link("self", f"/collections/{view.source_id}/dataset", LD_JSON),
        api.link("describes", f"/collections/{view.source_id}"),
    ]
    return api.send(_json(schema_org.dataset(view, job, _site(api))), LD_JSON, links)


@router.head("/catalog", include_in_schema=False)
@router.get(
    "/catalog",
    tags=["catalogue"],
    operation_id="getCatalog",
    summary="The catalogue, for data portals",
    description="All public collections that are published as a catalogue of DCAT-AP 3, as JSON-LD, in pages: "
    "`hydra:next` and the `Link` header lead to the next one.",
    response_class=Response,
    responses=harvest_openapi.documents(
        "A page of the catalogue.", "CatalogDocument", harvest_openapi.CATALOG, openapi.BAD_QUERY
    ),
)
def get_catalog(
    api: ApiParameter,
    after: Annotated[str, Query(description="Taken from a `next` link.", max_length=20, examples=["3"])] = "",
) -> Response:
    """Show a page of the catalogue."""
    start = position_of(after, "id")
    with api.context.sessions() as session:
        harvested, position = harvest(session, after=start, limit=api.context.page_size)
    following = None if position is None else str(position[1])
    links = [
        link.model_copy(update={"type": LD_JSON})
        for link in api.page_links("/catalog", {}, "after", after or None, following)
    ]
    here, *rest = (link.href for link in links)
    document = dcat.catalog(harvested, _site(api), here=here, following=rest[0] if rest else None)
    return api.send(_json(document), LD_JSON, links)


def _site(api: Api) -> Site:
    return Site.of(api.base, api.context.settings)


def _json(document: dict[str, Any]) -> bytes:
    """Return a document as JSON that ends no element of a page that it is put into."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()
