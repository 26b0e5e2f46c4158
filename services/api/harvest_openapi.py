"""The description of what other systems harvest. The server itself makes the documents, of the example collection."""

from typing import Any

from services.api import dcat, openapi, schema_org
from services.api.harvest_schemas import CatalogDocument, DatasetDocument
from services.api.metadata import Site
from services.api.openapi import Responses
from services.api.schemas import LD_JSON
from shared.published import ActiveJobView, Harvested
from shared.views import CollectionView, OperatorCollectionView

TAGS = [
    {"name": "catalogue", "description": "The collections for other systems: portals, search engines, feed readers."}
]

_SITE = Site(openapi.BASE, "River Authority", "https://rivers.example/", "en")
_JOB = ActiveJobView.model_validate(openapi.ACTIVE_JOB)
_COLLECTION = CollectionView.model_validate(openapi.COLLECTION)

DATASET = schema_org.dataset(_COLLECTION, _JOB, _SITE)
CATALOG = dcat.catalog(
    [Harvested(collection=OperatorCollectionView.model_validate(openapi.OPERATOR_COLLECTION), job=_JOB)],
    _SITE,
    here=f"{openapi.BASE}/catalog",
    following=f"{openapi.BASE}/catalog?after=3",
)
_PUBLICATION_MEMBERS = (
    "id",
    "title",
    "country",
    "region",
    "language",
    "update_frequency",
    "source_url",
    "source_id",
    "retrieval_frequency",
    "last_retrieved",
    "frozen",
    "date_from",
    "date_to",
)
EXAMPLES = {
    "listPublications": [
        {name: openapi.COLLECTION[name] for name in _PUBLICATION_MEMBERS} | {"coverage": openapi.ACTIVE_JOB["coverage"]}
    ]
}


def models() -> dict[str, Any]:
    """Return the schemas of the documents, which the framework does not know, by name."""
    return {kind.__name__: kind.model_json_schema() for kind in (DatasetDocument, CatalogDocument)}


def documents(description: str, model: str, example: Any, *others: Responses) -> Responses:
    """Document the answers of a read that sends JSON-LD."""
    content = {LD_JSON: {"schema": {"$ref": f"#/components/schemas/{model}"}, "example": example}}
    whole: Responses = {200: {"description": description, "content": content}}
    return openapi.merged(whole, openapi.NOT_MODIFIED, *others, openapi.FAULT, openapi.AWAY)


def document_reads(description: str, model: str, example: Any, *others: Responses) -> Responses:
    """Document the same of a read that a key can come along with."""
    return openapi.merged(documents(description, model, example, *others), openapi.BAD_KEY)


def feed_answers(media_type: str) -> Responses:
    """Document the answers of a feed."""
    etag = {"description": "Of this state of the feed.", "schema": {"type": "string"}, "example": '"5d41402abc4b2a76"'}
    content = {media_type: {"schema": {"type": "string"}}}
    whole: Responses = {200: {"description": "The feed.", "headers": {"ETag": etag}, "content": content}}
    return openapi.merged(whole, openapi.NOT_MODIFIED, openapi.FAULT, openapi.AWAY)
