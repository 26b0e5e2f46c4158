"""What is told of collections elsewhere: schema.org, DCAT-AP and feeds, read by others' parsers or by the rules."""

import json
from datetime import UTC, date, datetime
from xml.etree import ElementTree as ET

import feedparser
import pytest
from rdflib import RDF, Graph, Literal, Namespace, URIRef
from rdflib.namespace import DCTERMS, FOAF, SKOS, XSD

from services.api import dcat, feeds, harvest, openapi, schema_org
from services.api.metadata import DESCRIPTION_CHARACTERS, Site, full_description, full_title
from shared.db.models import RetrievalFrequency, UpdateFrequency
from shared.published import ActiveJobView, Harvested
from shared.views import CollectionView, OperatorCollectionView

# The parser uses, itself, what its library advises against.
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")

SITE = Site("https://data.example.org", "River Authority", "https://rivers.example/", "en")
DCAT = Namespace("http://www.w3.org/ns/dcat#")
SPDX = Namespace("http://spdx.org/rdf/terms#")
HYDRA = Namespace("http://www.w3.org/ns/hydra/core#")
AUTHORITY = "http://publications.europa.eu/resource/authority"
RIVERS = URIRef("https://data.example.org/collections/river_works")
ATOM = "{http://www.w3.org/2005/Atom}"


def collection(**fields):
    return OperatorCollectionView.model_validate(openapi.OPERATOR_COLLECTION | fields)


def job(**fields):
    return ActiveJobView.model_validate(openapi.ACTIVE_JOB | fields)


def harvested(**fields):
    return Harvested(collection=collection(**fields), job=job())


# Texts


def texts(**given):
    return {"title": "Works", "country": "Ruritania", "description": "", "description_long": ""} | given


@pytest.mark.parametrize(
    ("given", "title"),
    [({}, "Ruritania: Works"), ({"country": ""}, "Works"), ({"title": "Works of RURITANIA"}, "Works of RURITANIA")],
)
def test_a_title_names_the_country_once(given, title):
    assert full_title(texts(**given)) == title


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"country": "", "title": "x"},
        {"description": "Short."},
        {"description": "A sentence that is longer than fifty characters are.", "description_long": "More."},
        {"description": "long " * 2000},
        {"description": "First.", "description_long": "€" * 6000},
    ],
)
def test_a_description_has_the_length_that_search_engines_take(given):
    shortest, longest = DESCRIPTION_CHARACTERS
    description = full_description(texts(**given))
    assert shortest <= len(description) <= longest
    assert description.startswith(given.get("description", "")[:longest].strip()[:4000])


# schema.org


def test_a_data_set_says_what_search_engines_require_and_recommend():
    document = schema_org.dataset(CollectionView.model_validate(openapi.COLLECTION), job(), SITE)
    assert document["@context"] == "https://schema.org/"
    assert document["@type"] == "Dataset"
    assert document["name"] == "Ruritania: River works"
    assert 50 <= len(document["description"]) <= 5000
    assert document["url"] == document["@id"] == str(RIVERS)
    assert document["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert document["temporalCoverage"] == "2024-01-08/2026-02-27"
    assert document["spatialCoverage"] == {"@type": "Place", "name": "Ruritania"}
    assert document["dateModified"] == "2026-03-02"
    assert document["isBasedOn"] == "https://rivers.example/open-contracting"
    assert document["creator"] == {
        "@type": "Organization",
        "name": "River Authority",
        "url": "https://rivers.example/",
    }
    assert {"@type": "PropertyValue", "name": "tenders", "value": 1200} in document["variableMeasured"]
    assert [file["encodingFormat"] for file in document["distribution"]] == [
        "application/jsonlines",
        "text/csv",
        "application/jsonlines",
    ]
    assert document["distribution"][0] == {
        "@type": "DataDownload",
        "name": "full, JSON Lines",
        "contentUrl": f"{RIVERS}/downloads/full.jsonl.gz",
        "encodingFormat": "application/jsonlines",
        "contentSize": "104857 B",
        "sha256": openapi.SHA256,
        "dateModified": "2026-03-02",
    }


def test_what_is_not_known_of_a_data_set_is_left_out():
    blank = {"country": "", "language": "", "source_url": "ask us", "license": "", "licence": None, "date_to": None}
    document = schema_org.dataset(collection(**blank, last_retrieved=None), None, SITE)
    absent = {"spatialCoverage", "inLanguage", "isBasedOn", "license", "temporalCoverage", "dateModified"}
    assert not (absent | {"distribution", "version", "variableMeasured"}) & set(document)
    assert "" not in document["keywords"]


def test_a_licence_without_an_address_is_a_work_with_a_name():
    document = schema_org.dataset(collection(license="Ask the ministry", licence=None), None, SITE)
    assert document["license"] == {"@type": "CreativeWork", "name": "Ask the ministry"}


def test_a_document_ends_no_element_of_the_page_that_it_is_put_into():
    document = schema_org.dataset(collection(description="</script><script>alert('&')"), job(), SITE)
    body = harvest._json(document).decode()
    assert not {"<", ">", "&"} & set(body)
    assert json.loads(body) == document


def test_a_data_set_is_rdf():
    document = schema_org.dataset(collection(), job(), SITE)
    offline = document | {"@context": {"@vocab": "https://schema.org/"}}  # the real one is fetched from the network
    graph = Graph().parse(data=json.dumps(offline), format="json-ld")
    assert (RIVERS, RDF.type, URIRef("https://schema.org/Dataset")) in graph


# DCAT-AP


def catalog(*given, here="https://data.example.org/catalog", following=None):
    """Return the catalogue as an independent parser reads it."""
    document = dcat.catalog(given or [harvested()], SITE, here=here, following=following)
    return Graph().parse(data=json.dumps(document), format="json-ld")


MANDATORY = {
    DCAT.Catalog: [DCTERMS.title, DCTERMS.description, DCTERMS.publisher],
    DCAT.Dataset: [DCTERMS.title, DCTERMS.description],
    DCAT.Distribution: [DCAT.accessURL],
    DCAT.DataService: [DCTERMS.title, DCAT.endpointURL],
    FOAF.Agent: [FOAF.name],
    SKOS.Concept: [SKOS.prefLabel],
    SPDX.Checksum: [SPDX.algorithm, SPDX.checksumValue],
}
"""What DCAT-AP 3 asks of each class (its mandatory properties)."""

SINGLE = {
    DCAT.Catalog: [DCTERMS.publisher, FOAF.homepage],
    DCAT.Dataset: [DCTERMS.publisher, DCTERMS.accrualPeriodicity, DCTERMS.issued, DCTERMS.modified, DCAT.version],
    DCAT.Distribution: [
        *(DCAT.byteSize, DCAT.mediaType, DCAT.compressFormat, DCAT.packageFormat),
        *(DCTERMS.license, DCTERMS.format, DCTERMS.issued, SPDX.checksum),
    ],
    SPDX.Checksum: [SPDX.algorithm, SPDX.checksumValue],
}
"""What it allows once at most."""

RANGES = {
    DCTERMS.publisher: FOAF.Agent,
    DCTERMS.spatial: DCTERMS.Location,
    DCTERMS.temporal: DCTERMS.PeriodOfTime,
    DCTERMS.license: DCTERMS.LicenseDocument,
    DCTERMS.rights: DCTERMS.RightsStatement,
    DCTERMS.accrualPeriodicity: DCTERMS.Frequency,
    DCTERMS.conformsTo: DCTERMS.Standard,
    DCTERMS.format: DCTERMS.MediaTypeOrExtent,
    DCAT.mediaType: DCTERMS.MediaType,
    DCAT.compressFormat: DCTERMS.MediaType,
    DCAT.packageFormat: DCTERMS.MediaType,
    DCAT.dataset: DCAT.Dataset,
    DCAT.distribution: DCAT.Distribution,
    DCAT.service: DCAT.DataService,
    DCAT.landingPage: FOAF.Document,
    FOAF.homepage: FOAF.Document,
    FOAF.page: FOAF.Document,
    SPDX.checksum: SPDX.Checksum,
    SPDX.algorithm: SPDX.ChecksumAlgorithm,
    DCAT.theme: SKOS.Concept,
}
"""The class of what each property leads to."""

DATATYPES = {
    DCAT.byteSize: XSD.nonNegativeInteger,
    DCAT.startDate: XSD.date,
    DCAT.endDate: XSD.date,
    DCTERMS.issued: XSD.dateTime,
    DCTERMS.modified: XSD.dateTime,
    SPDX.checksumValue: XSD.hexBinary,
}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"license": "Ask the ministry", "licence": None},
        {"license": "", "licence": None, "country": "", "ocid_prefix": "", "source_url": "", "date_from": None},
        {"description": "", "description_long": "", "translations": {}, "publication_policy": "by post"},
    ],
)
def test_a_catalogue_keeps_the_rules_of_the_application_profile(fields):
    graph = catalog(harvested(**fields), harvested(source_id="road_works", title="Roads"))
    for kind, properties in MANDATORY.items():
        subjects = list(graph.subjects(RDF.type, kind))
        assert subjects, kind
        for subject, property_ in ((subject, property_) for subject in subjects for property_ in properties):
            assert list(graph.objects(subject, property_)), (subject, property_)
    for kind, properties in SINGLE.items():
        for subject in graph.subjects(RDF.type, kind):
            for property_ in properties:
                assert len(list(graph.objects(subject, property_))) <= 1, (subject, property_)
    for property_, kind in RANGES.items():
        for value in graph.objects(None, property_):
            assert (value, RDF.type, kind) in graph, (property_, value)
    for property_, datatype in DATATYPES.items():
        for value in graph.objects(None, property_):
            assert isinstance(value, Literal), property_
            assert (value.datatype, value.ill_typed) == (datatype, False), (property_, value)


def test_every_text_names_its_language_and_each_language_once():
    view = {"translations": {"es": {"title": "Obras fluviales"}, "pt-br": {"country": "Ruritânia"}, "fr": {}}}
    graph = catalog(harvested(**view))
    titles = {text.language: str(text) for text in graph.objects(RIVERS, DCTERMS.title)}
    assert titles == {
        "en": "Ruritania: River works",
        "es": "Ruritania: Obras fluviales",
        "pt-br": "Ruritânia: River works",
    }
    for property_ in (DCTERMS.title, DCTERMS.description, DCAT.keyword):
        for subject in graph.subjects(property_, None):
            languages = [text.language for text in graph.objects(subject, property_)]
            assert None not in languages
            assert len(languages) == len(set(languages))


def test_a_distribution_says_where_its_file_is_and_what_is_in_it():
    graph = catalog()
    file = URIRef(f"{RIVERS}#full.csv.tar.gz")
    assert (RIVERS, DCAT.distribution, file) in graph
    address = URIRef(f"{RIVERS}/downloads/full.csv.tar.gz")
    assert graph.value(file, DCAT.downloadURL) == graph.value(file, DCAT.accessURL) == address
    assert graph.value(file, DCAT.byteSize).toPython() == 98_304
    types = "https://www.iana.org/assignments/media-types"
    assert graph.value(file, DCAT.mediaType) == URIRef(f"{types}/text/csv")
    assert graph.value(file, DCAT.compressFormat) == URIRef(f"{types}/application/gzip")
    assert graph.value(file, DCAT.packageFormat) == URIRef(f"{types}/application/x-tar")
    assert graph.value(file, DCTERMS.format) == URIRef(f"{AUTHORITY}/file-type/CSV")
    assert graph.value(file, DCTERMS.license) == URIRef("https://creativecommons.org/licenses/by/4.0/")
    checksum = graph.value(file, SPDX.checksum)
    assert graph.value(checksum, SPDX.algorithm) == SPDX.checksumAlgorithm_sha256
    assert graph.value(checksum, SPDX.checksumValue) == Literal(openapi.SHA256, datatype=XSD.hexBinary)


@pytest.mark.parametrize(
    ("fields", "frequency"),
    [
        ({}, "WEEKLY"),
        ({"retrieval_frequency": ""}, "DAILY"),
        ({"retrieval_frequency": "", "update_frequency": "UNKNOWN"}, "UNKNOWN"),
        ({"retrieval_frequency": "HALF_YEARLY"}, "ANNUAL_2"),
        ({"retrieval_frequency": "", "update_frequency": "REAL_TIME"}, "UPDATE_CONT"),
    ],
)
def test_a_data_set_is_updated_as_often_as_it_is_collected_or_else_as_its_source(fields, frequency):
    graph = catalog(harvested(**fields))
    assert graph.value(RIVERS, DCTERMS.accrualPeriodicity) == URIRef(f"{AUTHORITY}/frequency/{frequency}")


def test_every_frequency_has_one_of_the_vocabulary():
    assert set(dcat.FREQUENCIES) == {each.value for each in (*UpdateFrequency, *RetrievalFrequency) if each.value}


def test_the_service_serves_the_data_sets_of_the_page():
    graph = catalog()
    service = URIRef("https://data.example.org/#service")
    assert (service, DCAT.servesDataset, RIVERS) in graph
    assert graph.value(service, DCAT.endpointDescription) == URIRef("https://data.example.org/openapi.json")


def test_pages_are_of_one_catalogue_and_name_the_next():
    page = "https://data.example.org/catalog?after=3"
    graph = catalog(here=page, following="https://data.example.org/catalog?after=9")
    (subject,) = graph.subjects(RDF.type, DCAT.Catalog)
    assert subject == URIRef("https://data.example.org/catalog")
    assert graph.value(subject, HYDRA.view) == URIRef(page)
    assert graph.value(URIRef(page), HYDRA.next) == URIRef("https://data.example.org/catalog?after=9")
    assert catalog(here=page).value(URIRef(page), HYDRA.next) is None


def test_the_catalogue_shows_nothing_that_only_operators_see():
    secret = {"source": "https://u:secret@h.example/x", "options": {"x": "secret"}, "bundle": "secret"}
    document = dcat.catalog([harvested(**secret)], SITE, here="x", following=None)
    assert "secret" not in json.dumps(document)
    assert b"secret" not in feeds.atom([harvested(**secret)], SITE) + feeds.rss([harvested(**secret)], SITE)


# Feeds


def one(element, path):
    (found,) = element.findall(path)
    return found


def test_an_atom_feed_has_what_the_standard_asks_for():
    feed = ET.fromstring(feeds.atom([harvested(), harvested(source_id="road_works")], SITE))
    assert feed.tag == f"{ATOM}feed"
    entries = feed.findall(f"{ATOM}entry")
    assert len(entries) == 2
    assert one(feed, f"{ATOM}author/{ATOM}name").text == "River Authority"
    for element in (feed, *entries):
        for name in ("id", "title", "updated"):
            assert one(element, f"{ATOM}{name}").text
        moment = datetime.fromisoformat(one(element, f"{ATOM}updated").text)
        assert moment.tzinfo is not None
        pairs = [(link.get("rel"), link.get("type")) for link in element.findall(f"{ATOM}link")]
        assert pairs.count(("alternate", "application/json")) == 1
    (self_link,) = (link for link in feed.findall(f"{ATOM}link") if link.get("rel") == "self")
    assert self_link.get("href") == "https://data.example.org/feed.atom"


def test_an_entry_is_a_job_with_its_files():
    feed = ET.fromstring(feeds.atom([harvested()], SITE))
    entry = one(feed, f"{ATOM}entry")
    assert one(entry, f"{ATOM}id").text == "https://data.example.org/jobs/7"
    assert one(entry, f"{ATOM}title").text == "Ruritania: River works"
    assert one(entry, f"{ATOM}updated").text == one(feed, f"{ATOM}updated").text == "2026-03-02T04:00:14+00:00"
    assert one(entry, f"{ATOM}summary").text == "1200 records, 2024-01-08 to 2026-02-27"
    files = [link.attrib for link in entry.findall(f"{ATOM}link") if link.get("rel") == "enclosure"]
    assert files[0] == {
        "rel": "enclosure",
        "href": f"{RIVERS}/downloads/full.jsonl.gz",
        "type": "application/gzip",
        "length": "104857",
        "title": "full, JSON Lines",
    }
    assert len(files) == 3


def test_an_rss_feed_has_what_the_standard_asks_for():
    root = ET.fromstring(feeds.rss([harvested()], SITE))
    assert (root.tag, root.get("version")) == ("rss", "2.0")
    channel = one(root, "channel")
    for name in ("title", "link", "description", "lastBuildDate"):
        assert one(channel, name).text
    assert one(channel, f"{ATOM}link").get("href") == "https://data.example.org/feed.rss"
    item = one(channel, "item")
    guid = one(item, "guid")
    assert (guid.text, guid.get("isPermaLink")) == ("https://data.example.org/jobs/7", "false")
    assert one(item, "pubDate").text == "Mon, 02 Mar 2026 04:00:14 GMT"
    assert one(item, "enclosure").attrib == {
        "url": f"{RIVERS}/downloads/full.jsonl.gz",
        "length": "104857",
        "type": "application/gzip",
    }


@pytest.mark.parametrize(("write", "version", "files"), [(feeds.atom, "atom10", 3), (feeds.rss, "rss20", 1)])
def test_a_feed_reader_understands_a_feed(write, version, files):
    feed = feedparser.parse(write([harvested()], SITE))
    assert (feed.version, feed.bozo) == (version, False)
    (entry,) = feed.entries
    assert (entry.id, entry.title) == ("https://data.example.org/jobs/7", "Ruritania: River works")
    assert str(RIVERS) in [link.href for link in entry.links]
    assert len(entry.enclosures) == files
    assert (entry.enclosures[0].href, entry.enclosures[0].length) == (f"{RIVERS}/downloads/full.jsonl.gz", "104857")
    moment = entry.updated_parsed if version == "atom10" else entry.published_parsed
    assert moment[:6] == (2026, 3, 2, 4, 0, 14)


def test_a_feed_of_nothing_is_a_feed():
    feed = ET.fromstring(feeds.atom([], SITE))
    assert datetime.fromisoformat(one(feed, f"{ATOM}updated").text) == datetime(1970, 1, 1, tzinfo=UTC)
    assert one(ET.fromstring(feeds.rss([], SITE)), "channel").findall("item") == []


def test_any_text_makes_a_feed_that_can_be_read():
    title = "a\x0b\x1b\ud800<b>&amp;\uffff é"
    each = Harvested.model_construct(collection=collection().model_copy(update={"title": title}), job=job())
    for body in (feeds.atom([each], SITE), feeds.rss([each], SITE)):
        titles = [element.text for element in ET.fromstring(body).iter() if element.tag.endswith("title")]
        assert "Ruritania: a<b>&amp; é" in titles


def test_dates_of_one_side_are_shown_alone():
    each = harvested(date_to=None)
    assert each.collection.date_from == date(2024, 1, 8)
    assert b"1200 records, 2024-01-08<" in feeds.atom([each], SITE)
