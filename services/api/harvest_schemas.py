"""The shapes of what other systems harvest. Those of JSON-LD are their vocabularies' own."""

from typing import Any

from pydantic import RootModel

from shared.published import PublicationView


class Publications(RootModel[list[PublicationView]]):
    """All publications, by id."""


class DatasetDocument(RootModel[dict[str, Any]]):
    """A `Dataset` of https://schema.org/Dataset, as JSON-LD."""


class CatalogDocument(RootModel[dict[str, Any]]):
    """A page of a `dcat:Catalog` of DCAT-AP 3, as JSON-LD with prefixes."""
