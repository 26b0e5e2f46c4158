"""Feeds of new exports: Atom (RFC 4287) and RSS 2.0, for readers that ask again and again.

An entry is a collection's active job: a newer one is a new entry, and takes the older one's place. Its id is the job's
address; it changes (``updated``) if the job was run again and its files are newer.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from xml.etree import ElementTree as ET

from fastapi import APIRouter
from starlette.responses import Response

from services.api import harvest_openapi
from services.api.metadata import Site, file_title, full_title, texts_of
from services.api.routes import Api, ApiParameter
from services.api.schemas import ATOM, JSON, RSS
from shared.exports import MEDIA_TYPES
from shared.published import NEWEST_FIRST, Harvested, harvest
from shared.views import FileView

ENTRIES = 100
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TITLE = "new exports"
_ATOM = "http://www.w3.org/2005/Atom"
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

ET.register_namespace("atom", _ATOM)

router = APIRouter()


@router.head("/feed.atom", include_in_schema=False)
@router.get(
    "/feed.atom",
    tags=["catalogue"],
    operation_id="getAtomFeed",
    summary="New exports, as an Atom feed",
    description=f"The {ENTRIES} public collections whose files were published last, newest first, with links to the "
    "files.",
    response_class=Response,
    responses=harvest_openapi.feed_answers(ATOM),
)
def get_atom_feed(api: ApiParameter) -> Response:
    """Show the feed."""
    return _send(api, ATOM)


@router.head("/feed.rss", include_in_schema=False)
@router.get(
    "/feed.rss",
    tags=["catalogue"],
    operation_id="getRssFeed",
    summary="New exports, as an RSS feed",
    description="The same in RSS 2.0, in which an item has one file at most: all records, as JSON Lines.",
    response_class=Response,
    responses=harvest_openapi.feed_answers(RSS),
)
def get_rss_feed(api: ApiParameter) -> Response:
    """Show the feed."""
    return _send(api, RSS)


def _send(api: Api, media_type: str) -> Response:
    with api.context.sessions() as session:
        harvested, _ = harvest(session, order=NEWEST_FIRST, limit=ENTRIES)
    site = Site.of(api.base, api.context.settings)
    body = atom(harvested, site) if media_type == ATOM else rss(harvested, site)
    return api.send(body, media_type)


def atom(harvested: Sequence[Harvested], site: Site) -> bytes:
    """Return an Atom feed, its entries in the order given."""
    feed = ET.Element(f"{{{_ATOM}}}feed")
    url = f"{site.base}/feed.atom"
    _add(feed, "id", url)
    _add(feed, "title", f"{site.publisher}: {TITLE}")
    _add(feed, "updated", max((_updated(each) for each in harvested), default=EPOCH).isoformat())
    _add(_add(feed, "author"), "name", site.publisher)
    _add(feed, "link", rel="self", href=url, type=ATOM)
    _add(feed, "link", rel="alternate", href=f"{site.base}/collections?sort=-published", type=JSON)
    for each in harvested:
        _entry(feed, each, site)
    return _xml(feed)


def _entry(feed: ET.Element, harvested: Harvested, site: Site) -> None:
    view, job = harvested.collection, harvested.job
    entry = _add(feed, "entry")
    _add(entry, "id", f"{site.base}/jobs/{job.id}")
    _add(entry, "title", full_title(texts_of(view)))
    _add(entry, "updated", _updated(harvested).isoformat())
    _add(entry, "summary", _summary(harvested))
    _add(entry, "link", rel="alternate", href=site.collection(view.source_id), type=JSON)
    for file in job.files:
        href = site.file(view.source_id, file.name)
        link = _add(entry, "link", rel="enclosure", href=href, type=_type(file), length=str(file.size))
        link.set("title", file_title(file))
    if view.country:
        _add(entry, "category", term=view.country)


def rss(harvested: Sequence[Harvested], site: Site) -> bytes:
    """Return an RSS 2.0 feed, its items in the order given."""
    root = ET.Element("rss", version="2.0")
    channel = ET.SubElement(root, "channel")
    url = f"{site.base}/feed.rss"
    _add_text(channel, "title", f"{site.publisher}: {TITLE}")
    _add_text(channel, "link", f"{site.base}/")
    _add_text(channel, "description", "Data that was published last, with links to the files.")
    _add(channel, "link", rel="self", href=url, type=RSS)
    if harvested:
        _add_text(channel, "lastBuildDate", _rfc_822(max(map(_updated, harvested))))
    for each in harvested:
        _item(channel, each, site)
    return _xml(root)


def _item(channel: ET.Element, harvested: Harvested, site: Site) -> None:
    view, job = harvested.collection, harvested.job
    item = ET.SubElement(channel, "item")
    _add_text(item, "title", full_title(texts_of(view)))
    _add_text(item, "link", site.collection(view.source_id))
    _add_text(item, "description", _summary(harvested))
    _add_text(item, "guid", f"{site.base}/jobs/{job.id}").set("isPermaLink", "false")
    _add_text(item, "pubDate", _rfc_822(_updated(harvested)))
    if view.country:
        _add_text(item, "category", view.country)
    for file in job.files[:1]:  # the first is the one of all records
        url = site.file(view.source_id, file.name)
        ET.SubElement(item, "enclosure", url=url, length=str(file.size), type=_type(file))


def _updated(harvested: Harvested) -> datetime:
    """Return when the files were published; without any, when the job ended."""
    moments = [file.created for file in harvested.job.files] + [harvested.job.end or EPOCH]
    return max(moments).astimezone(UTC).replace(microsecond=0)


def _summary(harvested: Harvested) -> str:
    records = max((file.records for file in harvested.job.files), default=0)
    period = [str(day) for day in (harvested.collection.date_from, harvested.collection.date_to) if day]
    return ", ".join([f"{records} records", " to ".join(period)] if period else [f"{records} records"])


def _type(file: FileView) -> str:
    return MEDIA_TYPES[file.name.partition(".")[2]]


def _rfc_822(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def _add(parent: ET.Element, name: str, text: str = "", **attributes: str) -> ET.Element:
    """Add an element of Atom's."""
    return _add_text(parent, f"{{{_ATOM}}}{name}", text, **attributes)


def _add_text(parent: ET.Element, name: str, text: str = "", **attributes: str) -> ET.Element:
    """Add an element, without the characters that XML does not have."""
    element = ET.SubElement(parent, name, {key: _NOT_XML.sub("", value) for key, value in attributes.items()})
    element.text = _NOT_XML.sub("", text) or None
    return element


def _xml(root: ET.Element) -> bytes:
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document
