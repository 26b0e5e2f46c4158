"""What all forms of metadata (schema.org, DCAT, feeds) say alike: who publishes, where things are, their names.

Addresses begin with ``BOWERBIRD_PUBLIC_URL``: they name things for good, so it had better be set.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from shared.exports import CSV, JSONL, PARQUET, XLSX
from shared.settings import Settings
from shared.views import CollectionView, FileView

DESCRIPTION_CHARACTERS = (50, 5000)
"""The shortest and the longest description that search engines for data sets take."""
FORMATS = {JSONL: "JSON Lines", CSV: "CSV", XLSX: "Excel", PARQUET: "Parquet"}
"""What the formats are called, by suffix."""
_IRI = re.compile(r"https?://[^\s<>\"{}|\\^`]+")


@dataclass(frozen=True)
class Site:
    """The site that publishes: its address, without a slash at the end, and its publisher."""

    base: str
    publisher: str
    publisher_url: str | None
    language: str
    """Of the texts that are no translations."""

    @classmethod
    def of(cls, base: str, settings: Settings) -> "Site":
        """Return the site that settings describe."""
        return cls(base, settings.publisher_name, settings.publisher_url, settings.default_language)

    def collection(self, source_id: str) -> str:
        """Return the address of a collection."""
        return f"{self.base}/collections/{source_id}"

    def file(self, source_id: str, name: str) -> str:
        """Return the address of a file."""
        return f"{self.collection(source_id)}/downloads/{name}"


def iri_of(text: str) -> str | None:
    """Return a text that is an http(s) address, None if it is something else."""
    return text if _IRI.fullmatch(text) else None


def full_title(texts: Mapping[str, str]) -> str:
    """Return a collection's title, which is without the country, with it: ``Ruritania: River works``."""
    country, title = texts["country"], texts["title"]
    return f"{country}: {title}" if country and country.casefold() not in title.casefold() else title


def full_description(texts: Mapping[str, str]) -> str:
    """Return a collection's description, at least and at most as long as search engines take."""
    shortest, longest = DESCRIPTION_CHARACTERS
    parts = [texts["description"], texts["description_long"]]
    if sum(map(len, parts)) < shortest:
        parts.append(
            f"{full_title(texts)}: collected from its source, and published as JSON Lines, CSV and Excel files."
        )
    whole = "\n\n".join(filter(None, (part.strip() for part in parts)))
    return whole if len(whole) <= longest else f"{whole[: longest - 1]}…"


def texts_of(view: CollectionView) -> dict[str, str]:
    """Return the texts that :func:`full_title` and :func:`full_description` read."""
    return {name: getattr(view, name) for name in ("title", "country", "description", "description_long")}


def file_title(file: FileView) -> str:
    """Return what a file is called, for people: ``full, JSON Lines``."""
    return f"{file.segment}, {FORMATS[file.name.partition('.')[2]]}"
