"""The published collections as a DCAT-AP 3 catalogue, in JSON-LD: what data portals harvest.

https://semiceu.github.io/DCAT-AP/releases/3.0.1/. The catalogue is one, whatever page of it is read: a page holds some
of its data sets, and says by Hydra (https://www.hydra-cg.com/spec/latest/core/) where the next ones are. Texts come in
all languages that there are. Every thing has an address of its own, which stays: the collection's for a data set, with
the file's name behind ``#`` for a distribution. The rules that its SHACL shapes (3.0.1) check are in the tests.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.api.metadata import Site, file_title, full_description, full_title, iri_of
from shared.exports import CSV, JSONL, MEDIA_TYPES, PARQUET, XLSX
from shared.published import Harvested
from shared.views import FileView, OperatorCollectionView, translated

_AUTHORITY = "http://publications.europa.eu/resource/authority"
_MEDIA_TYPE = "https://www.iana.org/assignments/media-types"
_OCDS = "https://standard.open-contracting.org/latest/en/"

CONTEXT = {
    "dcat": "http://www.w3.org/ns/dcat#",
    "dcatap": "http://data.europa.eu/r5r/",
    "dct": "http://purl.org/dc/terms/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "hydra": "http://www.w3.org/ns/hydra/core#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "spdx": "http://spdx.org/rdf/terms#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}

FREQUENCIES = {
    "UNKNOWN": "UNKNOWN",
    "REAL_TIME": "UPDATE_CONT",
    "HOURLY": "HOURLY",
    "DAILY": "DAILY",
    "WEEKLY": "WEEKLY",
    "BIWEEKLY": "BIWEEKLY",
    "MONTHLY": "MONTHLY",
    "QUARTERLY": "QUARTERLY",
    "HALF_YEARLY": "ANNUAL_2",
    "ANNUALLY": "ANNUAL",
    "NEVER": "NEVER",
}
"""Our frequencies, and those of the EU's vocabulary. BIWEEKLY is every two weeks in both."""

_FORMATS = {
    JSONL: ("JSON", "application/gzip", None, None),
    CSV: ("CSV", "text/csv", "application/gzip", "application/x-tar"),
    XLSX: ("XLSX", MEDIA_TYPES[XLSX], None, None),
    PARQUET: ("PARQUET", "application/vnd.apache.parquet", None, "application/x-tar"),
}
"""By suffix: the EU's file type, media type, compression, package. JSON Lines has no registered type; its gzip has."""
_TEXTS = ("title", "country", "description", "description_long")


def catalog(harvested: Sequence[Harvested], site: Site, *, here: str, following: str | None) -> dict[str, Any]:
    """Return a page of the catalogue.

    :param here: the page's address.
    :param following: that of the next one; None: this is the last.
    """
    datasets = [_dataset(each, site) for each in harvested]
    return {
        "@context": CONTEXT,
        "@id": f"{site.base}/catalog",
        "@type": ["dcat:Catalog", "hydra:Collection"],
        "dct:title": _text(f"{site.publisher}: open data", "en"),
        "dct:description": _text("Data that is kept published, with files for bulk download.", "en"),
        "dct:publisher": _publisher(site),
        "foaf:homepage": _document(f"{site.base}/"),
        "dcat:service": _service(site, datasets),
        "dcat:dataset": datasets,
        "hydra:view": _page(site, here, following),
    }


def _page(site: Site, here: str, following: str | None) -> dict[str, Any]:
    page = {"@id": here, "@type": "hydra:PartialCollectionView", "hydra:first": _iri(f"{site.base}/catalog")}
    return page if following is None else page | {"hydra:next": _iri(following)}


def _service(site: Site, datasets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "@id": f"{site.base}/#service",
        "@type": "dcat:DataService",
        "dct:title": _text(f"{site.publisher}: API", "en"),
        "dct:description": _text("Collections, the jobs that keep them published, and their files.", "en"),
        "dct:publisher": _publisher(site),
        "dcat:endpointURL": _iri(f"{site.base}/"),
        "dcat:endpointDescription": _iri(f"{site.base}/openapi.json"),
        "dcat:servesDataset": [_iri(dataset["@id"]) for dataset in datasets],
    }


def _dataset(harvested: Harvested, site: Site) -> dict[str, Any]:
    view, job = harvested.collection, harvested.job
    url = site.collection(view.source_id)
    frequency = FREQUENCIES[view.retrieval_frequency or view.update_frequency]
    members = {
        "@id": url,
        "@type": "dcat:Dataset",
        "dct:identifier": view.source_id,
        "dct:title": _in_all_languages(view, site, full_title),
        "dct:description": _in_all_languages(view, site, full_description),
        "dct:publisher": _publisher(site),
        "dct:issued": _time(view.created.isoformat()),
        "dct:modified": _time(job.end.isoformat()) if job.end else None,
        "dcat:version": str(job.id),
        "dcat:keyword": _in_all_languages(view, site, lambda texts: texts["country"]),
        "dcat:theme": _concept("data-theme/GOVE", "Government and public sector"),
        "dct:accrualPeriodicity": _iri(f"{_AUTHORITY}/frequency/{frequency}", "dct:Frequency"),
        "dct:spatial": _place(view, site),
        "dct:temporal": _period(view),
        "dct:conformsTo": _iri(_OCDS, "dct:Standard") if view.ocid_prefix else None,
        "dcat:landingPage": _document(iri_of(view.source_url)),
        "foaf:page": _document(iri_of(view.publication_policy)),
        "dcat:distribution": [_distribution(file, view, site) for file in job.files],
    }
    return _known(members)


def _distribution(file: FileView, view: OperatorCollectionView, site: Site) -> dict[str, Any]:
    file_type, media_type, compression, package = _FORMATS[file.name.partition(".")[2]]
    url = site.file(view.source_id, file.name)
    members = {
        "@id": f"{site.collection(view.source_id)}#{file.name}",
        "@type": "dcat:Distribution",
        "dct:title": _text(file_title(file), "en"),
        "dcat:accessURL": _iri(url),
        "dcat:downloadURL": _iri(url),
        "dcat:accessService": _iri(f"{site.base}/#service"),
        "dct:format": _iri(f"{_AUTHORITY}/file-type/{file_type}", "dct:MediaTypeOrExtent"),
        "dcat:mediaType": _media_type(media_type),
        "dcat:compressFormat": _media_type(compression),
        "dcat:packageFormat": _media_type(package),
        "dcat:byteSize": {"@type": "xsd:nonNegativeInteger", "@value": str(file.size)},
        "spdx:checksum": {
            "@type": "spdx:Checksum",
            "spdx:algorithm": _iri("http://spdx.org/rdf/terms#checksumAlgorithm_sha256", "spdx:ChecksumAlgorithm"),
            "spdx:checksumValue": {"@type": "xsd:hexBinary", "@value": file.sha256},
        },
        "dct:issued": _time(file.created.isoformat()),
        "dcatap:availability": _concept("planned-availability/AVAILABLE", "available"),
        **_licence(view, site),
    }
    return _known(members)


def _licence(view: OperatorCollectionView, site: Site) -> dict[str, Any]:
    """Return the licence by its address; without one, what is said of rights."""
    if url := iri_of(view.license):
        return {"dct:license": _iri(url, "dct:LicenseDocument")}
    name = view.licence.name if view.licence else view.license
    return {"dct:rights": {"@type": "dct:RightsStatement", "rdfs:label": _text(name, site.language)}} if name else {}


def _publisher(site: Site) -> dict[str, Any]:
    members = {
        "@id": f"{site.base}/#publisher",
        "@type": "foaf:Agent",
        "foaf:name": site.publisher,
        "foaf:homepage": _document(site.publisher_url),
    }
    return _known(members)


def _place(view: OperatorCollectionView, site: Site) -> dict[str, Any] | None:
    names = _in_all_languages(view, site, lambda texts: texts["country"])
    return {"@type": "dct:Location", "skos:prefLabel": names} if names else None


def _period(view: OperatorCollectionView) -> dict[str, Any] | None:
    known = {"dcat:startDate": view.date_from, "dcat:endDate": view.date_to}
    dates = {name: {"@type": "xsd:date", "@value": day.isoformat()} for name, day in known.items() if day}
    return {"@type": "dct:PeriodOfTime", **dates} if dates else None


def _in_all_languages(
    view: OperatorCollectionView, site: Site, text_of: Callable[[Mapping[str, str]], str]
) -> list[dict[str, str]]:
    """Return a text in the default language, and in those in which it is another one; none if it is blank."""
    own = {**{name: getattr(view, name) for name in _TEXTS}, "translations": view.translations}
    texts = {site.language: text_of(own)}
    for language in sorted(view.translations):
        if (text := text_of(translated(own, _TEXTS, language))) != texts[site.language]:
            texts.setdefault(language, text)
    return [_text(text, language) for language, text in texts.items() if text]


def _text(text: str, language: str) -> dict[str, str]:
    return {"@value": text, "@language": language}


def _time(text: str) -> dict[str, str]:
    return {"@type": "xsd:dateTime", "@value": text}


def _media_type(name: str | None) -> dict[str, str] | None:
    return _iri(f"{_MEDIA_TYPE}/{name}", "dct:MediaType") if name else None


def _concept(name: str, label: str) -> dict[str, Any]:
    """Return an entry of one of the EU's vocabularies, which must be there with its label."""
    return {"@id": f"{_AUTHORITY}/{name}", "@type": "skos:Concept", "skos:prefLabel": _text(label, "en")}


def _document(url: str | None) -> dict[str, str] | None:
    return _iri(url, "foaf:Document") if url else None


def _iri(url: str, kind: str = "") -> dict[str, str]:
    return {"@id": url, "@type": kind} if kind else {"@id": url}


def _known(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}
