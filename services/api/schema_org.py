"""A collection as a schema.org Dataset, in JSON-LD: what search engines for data sets read.

https://schema.org/Dataset; name and description are required, the description of 50 to 5000 characters
(https://developers.google.com/search/docs/appearance/structured-data/dataset).
"""

from typing import Any

from services.api.metadata import Site, file_title, full_description, full_title, iri_of, texts_of
from shared.exports import CSV, JSONL, MEDIA_TYPES, PARQUET, XLSX
from shared.published import ActiveJobView
from shared.views import CollectionView, FileView

_ENCODINGS = {
    JSONL: "application/jsonlines",
    CSV: "text/csv",
    XLSX: MEDIA_TYPES[XLSX],
    PARQUET: "application/vnd.apache.parquet",
}
"""Media types of what is in the files, by suffix: those that the OCP Data Registry names."""
_KEYWORDS = ("open contracting", "public procurement", "open data")


def dataset(view: CollectionView, job: ActiveJobView | None, site: Site) -> dict[str, Any]:
    """Return the document. What is not known is left out."""
    url = site.collection(view.source_id)
    texts = texts_of(view)
    members = {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        "@id": url,
        "url": url,
        "identifier": view.source_id,
        "name": full_title(texts),
        "description": full_description(texts),
        "keywords": [*_KEYWORDS, *filter(None, (view.country, view.title))],
        "isAccessibleForFree": True,
        "creator": _organization(site),
        "publisher": _organization(site),
        "includedInDataCatalog": {"@type": "DataCatalog", "@id": f"{site.base}/catalog", "url": f"{site.base}/catalog"},
        "isBasedOn": iri_of(view.source_url),
        "license": iri_of(view.license) or _licence_in_words(view),
        "inLanguage": view.language,
        "spatialCoverage": view.country and {"@type": "Place", "name": view.country},
        "temporalCoverage": _period(view),
        "dateModified": view.last_retrieved and view.last_retrieved.isoformat(),
    }
    found = _found(job, view.source_id, site) if job is not None else {}
    return {name: value for name, value in (members | found).items() if value}


def _found(job: ActiveJobView, source_id: str, site: Site) -> dict[str, Any]:
    """Return what the active job found and made."""
    return {
        "version": str(job.id),
        "variableMeasured": [
            {"@type": "PropertyValue", "name": name, "value": count} for name, count in job.counts.items() if count
        ],
        "distribution": [_download(file, site.file(source_id, file.name)) for file in job.files],
    }


def _download(file: FileView, url: str) -> dict[str, Any]:
    return {
        "@type": "DataDownload",
        "name": file_title(file),
        "contentUrl": url,
        "encodingFormat": _ENCODINGS[file.name.partition(".")[2]],
        "contentSize": f"{file.size} B",
        "sha256": file.sha256,
        "dateModified": file.created.date().isoformat(),
    }


def _organization(site: Site) -> dict[str, str]:
    return {"@type": "Organization", "name": site.publisher, "url": site.publisher_url or f"{site.base}/"}


def _licence_in_words(view: CollectionView) -> dict[str, str] | None:
    name = view.licence.name if view.licence else view.license
    return {"@type": "CreativeWork", "name": name} if name else None


def _period(view: CollectionView) -> str | None:
    return f"{view.date_from}/{view.date_to}" if view.date_from and view.date_to else None
