"""What a JSON document is, told by its content, and the records it holds.

A source is a stream of JSON values: one, one a line (JSON Lines), or one after the other; the elements of an array at
the top count like values of their own. Each is one of

- a *release package* (an array ``releases``) or *record package* (``records``): its elements are read one by one;
- a *release*: has an ``ocid``; a *compiled release* if its ``tag`` has ``compiled``;
- a *record*: its full releases, or its ``compiledRelease`` if it has none or if some are only linked;
- a *plain record*: any other object.

What cannot be published is skipped and counted: a *linked release* (a ``url`` instead of data), a *versioned release*
(a history of values, which repeats its releases), a record without any release.

What would be published wrongly fails the whole source: a release without an ocid, text that is not UTF-8, plain records
(an error message, perhaps) among OCDS data.

With the option ``records_path``, nothing is a package: the records are the elements of the array at that dotted path
of each document, or with ``.`` the documents themselves.

https://standard.open-contracting.org/1.1/en/schema/packaging/
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, NoReturn

import msgspec
from msgspec import Raw

from services.collector.slices import BACKSLASH, UTF8_BOM, Slicer
from shared.errors import PermanentError
from shared.worker.context import copy_field

RELEASE, COMPILED, JSON = KINDS = ("release", "compiled", "json")
VERSIONED = "versioned"
ITSELF = "."
TAGS_REMEMBERED = 1024
MAX_EXTENSIONS = 100
MAX_EXTENSION_CHARACTERS = 500


class Record(msgspec.Struct, gc=False):
    """A row of the table ``record``. ``key`` and ``date`` are fields of COPY's text format, ``data`` is plain text."""

    kind: str
    key: bytes | None
    date: bytes | None
    data: bytes


class Finding(Enum):
    """Something odd that is counted rather than refused: the sentence of its note, after the count."""

    LINKED = "linked releases (a URL in place of the data) were skipped: collect the releases themselves."
    VERSIONED = "versioned releases were skipped: they repeat what releases or compiled releases say."
    NO_RELEASES = "OCDS records were skipped: they have neither releases nor a compiled release."
    NO_ID = "records have no text or number at the collection's id_field."
    HALF_PAIR = "halves of surrogate pairs, which are no characters, were replaced by U+FFFD."


@dataclass
class Tally:
    """What was found in a source."""

    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """Kind → number of records."""
    findings: Counter[Finding] = field(default_factory=Counter)
    about: dict[str, str] = field(default_factory=dict)
    """``license``, ``publicationPolicy``, ``publisher`` (its name), of the first packages that have them."""
    extensions: dict[str, None] = field(default_factory=dict)
    """Addresses of the OCDS extensions that packages declare, in order, at most :data:`MAX_EXTENSIONS`."""


@dataclass(frozen=True)
class Options:
    """Where to look in plain records and their documents: paths of names, empty for none."""

    id_field: tuple[str, ...] = ()
    date_field: tuple[str, ...] = ()
    records_path: tuple[str, ...] = ()
    """Of the array of records, in each document."""
    no_packages: bool = False
    """No document is a package, whatever its members are called."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Options":
        """Read a collection's options, leaving alone those of others. Raise :class:`PermanentError` for odd ones."""
        if options.get("records_path") == ITSELF:
            return cls(_path(options, "id_field"), _path(options, "date_field"), no_packages=True)
        records_path = _path(options, "records_path")
        return cls(_path(options, "id_field"), _path(options, "date_field"), records_path, bool(records_path))


def _path(options: Mapping[str, Any], name: str) -> tuple[str, ...]:
    dotted = options.get(name) or ""
    path = tuple(dotted.split(".")) if dotted and isinstance(dotted, str) else ()
    if "" in path or (dotted and not path):
        raise PermanentError(
            f"The option {name} is {dotted!r}. It takes names with dots between them, such as item.id. Correct the "
            "collection's options."
        )
    return path


class Head(msgspec.Struct, rename="camel", gc=False):
    """What must be known of an object: the text of each member, empty if it is missing."""

    ocid: Raw = Raw(b"")
    date: Raw = Raw(b"")
    tag: Raw = Raw(b"")
    url: Raw = Raw(b"")
    releases: Raw = Raw(b"")
    records: Raw = Raw(b"")
    compiled_release: Raw = Raw(b"")
    versioned_release: Raw = Raw(b"")

    @property
    def is_record(self) -> bool:
        """Whether it is an OCDS record."""
        return bool(self.compiled_release or self.versioned_release or (self.ocid and self.releases))

    @property
    def is_package(self) -> bool:
        """Whether it is a release package or a record package."""
        return not (self.ocid or self.is_record) and (_is_list(self.releases) or _is_list(self.records))


def _is_list(text: Raw) -> bool:
    return bytes(memoryview(text)[:1]) in {b"[", b"n"}  # publishers write null for an empty list


_decode_head = msgspec.json.Decoder(Head).decode
_decode_elements = msgspec.json.Decoder(list[Raw]).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_string = msgspec.json.Decoder(str).decode


class Documents:
    """Reads the records of one stream.

    :param tally: of the whole source; added to.
    """

    def __init__(self, slicer: Slicer, options: Options, tally: Tally) -> None:
        self._slicer = slicer
        self._options = options
        self._tally = tally

    def records(self) -> Iterator[Record]:
        """Yield the records in order. Raise :class:`PermanentError` that names stream, record, place and remedy."""
        self._open()
        by_line = not self._options.records_path
        while first := self._slicer.peek():
            if first == b"[":
                for _ in self._slicer.elements():
                    yield from self._document()
            elif by_line:
                yield from self._lines()
                by_line = False
            else:
                yield from self._document()
        self._tally.findings[Finding.HALF_PAIR] += self._slicer.replaced

    def _open(self) -> None:
        first = self._slicer.peek()
        beginning = self._slicer.glimpse(1024)
        if beginning.startswith(UTF8_BOM):
            self._slicer.skip(len(UTF8_BOM))
            first = self._slicer.peek()
        if not first:
            self._slicer.fail("there is nothing but white space. Fetch or make the source again, or take it away")
        if beginning.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in beginning[:4]:
            self._slicer.fail("this is UTF-16 or UTF-32. Convert it to UTF-8")
        if first not in b"{[":
            self._refuse(self._slicer.glimpse(1024))

    def _refuse(self, beginning: bytes) -> NoReturn:
        if beginning.startswith(b"<"):
            html = b"<html" in beginning.lower() or beginning.lower().startswith(b"<!doctype html")
            looks = "an HTML page, perhaps an error message or a login form" if html else "XML"
            self._slicer.fail(f"this looks like {looks}. JSON objects are collected: correct the source")
        if beginning.startswith(b"["):
            self._slicer.fail("an array in an array, where an object is expected. Correct the source")
        self._slicer.fail(
            f"this is no JSON object or array, but begins with {beginning[:20]!r}. JSON objects are collected, "
            "also in gzip or ZIP files: correct the source"
        )

    # Documents

    def _lines(self) -> Iterator[Record]:
        """Read documents as long as each is a line: what JSON Lines are, and the quickest to read."""
        slicer = self._slicer
        while (line := slicer.line()) is not None:
            try:
                head = _decode_head(line)
            except (msgspec.DecodeError, RecursionError):
                if line.strip():
                    return  # it is not one object: whoever looks closer can say what it is
                slicer.skip(len(line) + 1)
                continue
            if self._is_package(head):
                yield from self._package()
            else:
                yield from self._entity(head, line.strip())
                slicer.skip(len(line) + 1)

    def _document(self) -> Iterator[Record]:
        """Read the document that the slicer stands at."""
        if self._slicer.peek() != b"{":
            self._refuse(self._slicer.glimpse(1024))
        if self._options.records_path:
            yield from self._descend(self._options.records_path)
            return
        text = self._slicer.look_within_limit() if self._options.no_packages else self._slicer.look()
        if text is None:  # longer than a record may be
            yield from self._package()
            return
        head = self._head(text)
        if self._is_package(head):
            yield from self._package()
        else:
            yield from self._entity(head, text)
            self._slicer.skip(len(text))

    def _is_package(self, head: Head) -> bool:
        return head.is_package and not self._options.no_packages

    def _package(self) -> Iterator[Record]:
        """Read a package, or a document so long that it must be one."""
        slicer = self._slicer
        contents = ""
        for name in slicer.members():
            if name in {"releases", "records"}:
                if contents:
                    slicer.fail(f"a package with {contents} and {name}. A package has one array of one of them")
                contents = name
                yield from self._contents(name)
            elif name in {"license", "publicationPolicy", "publisher"}:
                self._note(name, slicer.take())
            elif name == "extensions":
                self._note_extensions(slicer.take())
            elif name in {"ocid", "compiledRelease", "versionedRelease"}:
                self._fail_as_long()
            else:
                slicer.take()
        if not contents:
            self._fail_as_long()

    def _fail_as_long(self) -> NoReturn:
        self._slicer.fail(
            "a record longer than BOWERBIRD_MAX_RECORD_BYTES. Raise that if it is right; if the records are in an "
            "array in it, set the option records_path"
        )

    def _contents(self, name: str) -> Iterator[Record]:
        if self._slicer.peek() == b"n":
            self._slicer.take()
            return
        for text in self._slicer.values():
            self._check_text(text)
            head = self._head(text)
            if name == "records":
                yield from self._record(head)
            elif record := self._release(head, text):
                yield record

    def _note_extensions(self, text: bytes) -> None:
        for url in _addresses(text):
            if len(self._tally.extensions) < MAX_EXTENSIONS:
                self._tally.extensions[url] = None

    def _note(self, name: str, text: bytes) -> None:
        """Remember what a package says of itself, unless one said it before."""
        self._check_text(text)
        if name == "publisher" and text.startswith(b"{"):
            text = bytes(_decode_members(text).get("name", b""))
        if name not in self._tally.about and text.startswith(b'"'):
            value = _decode_string(text).replace("\0", "")  # which PostgreSQL cannot store
            if value:
                self._tally.about[name] = value

    def _descend(self, path: tuple[str, ...]) -> Iterator[Record]:
        """Read the elements of the array at the path in the object that the slicer stands at."""
        slicer = self._slicer
        found = False
        for name in slicer.members():
            if name != path[0]:
                slicer.take()
                continue
            if found:
                slicer.fail(f"two members of one object are called {name}. Correct the source")
            found = True
            first = slicer.peek()
            if len(path) == 1 and first == b"[":
                for text in slicer.values():
                    yield from self._entity(self._head(text), text)
            elif len(path) > 1 and first == b"{":
                yield from self._descend(path[1:])
            else:
                self._fail_without_path()
        if not found:
            self._fail_without_path()

    def _fail_without_path(self) -> NoReturn:
        path = ".".join(self._options.records_path)
        self._slicer.fail(f"no array at {path} in this document. Correct the collection's option records_path")

    # Records

    def _entity(self, head: Head, text: bytes) -> Iterable[Record]:
        """Return the records of an object that is no package."""
        self._check_text(text)
        if head.is_record:
            return self._record(head)
        if head.ocid:
            record = self._release(head, text)
            return (record,) if record else ()
        return (self._plain(text),)

    def _record(self, head: Head) -> Iterable[Record]:
        """Return a record's releases or compiled release.

        If only some of its releases are here and others are linked, its compiled release is the better one.
        """
        releases = [(self._head(release), release) for release in self._releases_of(head)]
        full = [(release_head, bytes(text)) for release_head, text in releases if not _is_linked(release_head)]
        linked = len(releases) - len(full)
        if full and not (linked and head.compiled_release):
            self._tally.findings[Finding.LINKED] += linked
            return filter(None, (self._release(*release) for release in full))
        if head.compiled_release:
            text = bytes(head.compiled_release)
            compiled = self._release(self._head(text), text, kind=COMPILED)
            return (compiled,) if compiled else ()
        if linked:
            self._tally.findings[Finding.LINKED] += linked
        elif head.versioned_release:
            self._tally.findings[Finding.VERSIONED] += 1
        else:
            self._tally.findings[Finding.NO_RELEASES] += 1
        return ()

    def _releases_of(self, head: Head) -> list[Raw]:
        if not head.releases or bytes(memoryview(head.releases)[:1]) == b"n":
            return []
        try:
            return _decode_elements(head.releases)
        except msgspec.ValidationError:
            self._slicer.fail("the releases of a record are no array. Correct the source")

    def _release(self, head: Head, text: bytes, kind: str = "") -> Record | None:
        """Return the row of a release; None if it cannot be published."""
        ocid = _text(bytes(head.ocid))
        if not ocid:
            if _is_linked(head):
                self._tally.findings[Finding.LINKED] += 1
                return None
            self._slicer.fail(
                "a release without an ocid (a text that is not empty): nobody can tell what it belongs to. Correct the "
                "source or, if this is not OCDS data, set the option records_path (to . if each object is a record)"
            )
        kind = kind or _kind_of(bytes(head.tag))
        if kind == VERSIONED:
            self._tally.findings[Finding.VERSIONED] += 1
            return None
        return self._row(kind, ocid, _text(bytes(head.date)) or None, text)

    def _plain(self, text: bytes) -> Record:
        key = date = None
        if self._options.id_field:
            key = _lookup(text, self._options.id_field)
            self._tally.findings[Finding.NO_ID] += key is None
        if self._options.date_field:
            date = _lookup(text, self._options.date_field)
        return self._row(JSON, key, date, text)

    def _row(self, kind: str, key: bytes | None, date: bytes | None, text: bytes) -> Record:
        if not self._tally.kinds[kind]:
            self._check_mixture(kind)
        self._tally.kinds[kind] += 1
        self._slicer.records += 1
        return Record(kind, key, date, self._slicer.on_one_line(text))

    def _check_mixture(self, kind: str) -> None:
        plain = self._tally.kinds[JSON]
        if kind == JSON and sum(self._tally.kinds.values()) > plain:
            self._slicer.fail(
                "neither a release nor a package, though other documents of the source are. Correct it, or take it away"
            )
        if kind != JSON and plain:
            self._slicer.fail(
                "OCDS data, though other documents of the source are not. Collect the two from sources of their own"
            )

    # Text

    def _head(self, text: bytes | Raw) -> Head:
        try:
            return _decode_head(text)
        except RecursionError:
            self._slicer.fail_as_deep()
        except msgspec.ValidationError:
            self._slicer.fail("not an object, where a release or record is expected. Correct the source")

    def _check_text(self, text: bytes) -> None:
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError as error:
                self._slicer.fail("bytes that are not UTF-8. Convert the source to UTF-8", error.start)


def _is_linked(head: Head) -> bool:
    return bool(head.url) and not head.ocid


@lru_cache(TAGS_REMEMBERED)
def _kind_of(tag: bytes) -> str:
    """Return the kind of a release by its ``tag``. Those of a versioned release are objects, each with its history."""
    try:
        value = msgspec.json.decode(tag) if tag else None
    except (msgspec.ValidationError, RecursionError):  # a number that no float can hold, or worse
        return RELEASE
    tags = value if isinstance(value, list) else [value]
    if any(isinstance(item, dict) for item in tags):
        return VERSIONED
    return COMPILED if "compiled" in tags else RELEASE


@lru_cache(TAGS_REMEMBERED)
def _addresses(text: bytes) -> tuple[str, ...]:
    """Return the texts of a JSON array, as far as they can be stored."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return ()
    items = value if isinstance(value, list) else []
    return tuple(
        item for item in items if isinstance(item, str) and len(item) <= MAX_EXTENSION_CHARACTERS and "\0" not in item
    )


def _lookup(text: bytes, path: tuple[str, ...]) -> bytes | None:
    """Return the text or number at a path in an object, as a field of COPY; None if there is none."""
    for name in path:
        if not text.startswith(b"{"):
            return None
        text = bytes(_decode_members(text).get(name, b""))
    return _scalar(text) or None


def _scalar(text: bytes) -> bytes | None:
    """Return a JSON string or number as a field of COPY; None for anything else."""
    return text if text[:1].isdigit() or text.startswith(b"-") else _text(text)


def _text(text: bytes) -> bytes | None:
    """Return a JSON string as a field of COPY; None for anything else, and for text that PostgreSQL cannot store.

    Without a backslash there is nothing to decode, and nothing to escape for COPY.
    """
    if not text.startswith(b'"'):
        return None
    if BACKSLASH not in text:
        return text[1:-1]
    value = _decode_string(text)
    return None if "\0" in value else copy_field(value.encode())
