"""Reading a crawl's log, as Scrapy and Kingfisher Collect write it: how the crawl went, from text alone.

A log may have gigabytes, and anything in it may come from the source that was crawled. So it is read line by line as it
arrives, every line, message and dictionary has a bound, a sample of the messages is kept and all are counted; and what
looks like Python is taken apart as literals, never run.

The share of errors is E / (items + E): E is the number of ERROR messages (the statistics' own count, where they were
dumped) plus the items that were no JSON; items are the files that the spider yielded. A crawl without either has
collected nothing, which counts as all errors.
"""

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from shared.db.models import NoteLevel
from shared.logging import mask

MAX_LINE_BYTES = 65_536
MAX_MESSAGE_BYTES = 4_000
MAX_DICT_BYTES = 1024**2
MAX_ITEM_BYTES = 65_536
MAX_PARSES = 50
"""Times that a dictionary is tried to be read, once at each line that could be its last."""
KEPT_MESSAGES = 100
"""Messages kept of each type; all are counted."""
MAX_MESSAGES = 1_000
"""Messages kept."""

_MESSAGE = re.compile(rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)? \[([^\]]{0,200})\] ([A-Z]{4,8}):")
_COLLECTION = re.compile(rb"Created collection (.{1,100}?) in Kingfisher Process \(([^)]{1,100})\)")
_CLOSED = re.compile(rb"\] INFO: Spider closed \(([^)]{1,200})\)")
_MISSING_NEXT_LINK = b"kingfisher_scrapy.exceptions.MissingNextLinkError"
_STATS = b"] INFO: Dumping Scrapy stats"
_IGNORING = b": Ignoring response <"
_ITEM_KEYS = ("data_type", "number")
_ITEM = re.compile(rb"[\s{]['\"](?:data_type|number)['\"]: ")
_SIMPLE_ITEM = re.compile(rb"\{(?:[^{}]*, )?'(?:data_type|number)': [^{}]*\}")
"""Nearly all items: on one line, and nothing nested. Ten times faster than taking them apart."""
_STATUS = re.compile(r"status=(\d{3})")

CRITICAL, ERROR, WARNING, IGNORED = "Critical", "Error", "Warning", "Ignored response"
RABBITMQ, DATA_LOSS, RETRIES, DOWNLOADS = "RabbitMQ", "Data loss", "Retry failures", "Download errors"
LEVELS: dict[str, NoteLevel] = {
    CRITICAL: NoteLevel.CRITICAL,
    ERROR: NoteLevel.ERROR,
    WARNING: NoteLevel.WARNING,
    IGNORED: NoteLevel.UNKNOWN,
}
_CATEGORIES = {b"CRITICAL": CRITICAL, b"ERROR": ERROR, b"WARNING": WARNING}
_TEXTS = (("Got data loss", DATA_LOSS), ("Gave up retrying", RETRIES), ("Error downloading", DOWNLOADS))
_QUEUE_LOGGERS = ("pika.", "yapw.clients")
# Of every crawl that does not store into a database of its own, and of every one that closes its channel in order.
_EXPECTED = (
    "Disabled kingfisher_scrapy.extensions.DatabaseStore: DATABASE_URL is not set",
    "Channel 1 was closed: ChannelClosedByClient: (200) 'Normal shutdown'",
)


@dataclass(frozen=True)
class Message:
    """A message worth a note."""

    category: str
    type: str
    text: str

    @property
    def level(self) -> NoteLevel:
        """Its level as a note."""
        return LEVELS[self.category]


@dataclass
class Reading:
    """What a log says, so far."""

    process_id: str = ""
    """Of the collection in Kingfisher Process."""
    data_version: str = ""
    items: int = 0
    errors: int = 0
    """ERROR messages that were seen; see :attr:`error_count`."""
    missing_next_link: bool = False
    closed: str = ""
    """Why the spider was closed, by its own message."""
    stats: dict[str, Any] = field(default_factory=dict)
    """The statistics that the crawl dumped at its end; empty if it had no orderly end."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Messages by category and type."""
    messages: list[Message] = field(default_factory=list)
    """The first :data:`KEPT_MESSAGES` of each category and type."""

    @property
    def finish_reason(self) -> str:
        """Why the crawl ended: ``finished`` if all was well; empty: it was cut off."""
        return str(self.stats.get("finish_reason") or self.closed)

    @property
    def invalid(self) -> int:
        """Items that were no JSON."""
        return self._stat("invalid_json_count") or 0

    @property
    def dropped(self) -> int:
        """Items that were dropped, such as duplicates."""
        return self._stat("item_dropped_count") or 0

    @property
    def error_count(self) -> int:
        """Errors: what the statistics count goes before what was seen."""
        counted = self._stat("log_count/ERROR")
        return (self.errors if counted is None else counted) + self.invalid

    @property
    def error_rate(self) -> float:
        """The share of errors, 0 to 1."""
        total = self.items + self.error_count
        return self.error_count / total if total else 1.0

    def _stat(self, name: str) -> int | None:
        value = self.stats.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    def noteworthy(self) -> tuple[list[Message], Counter[tuple[str, str]]]:
        """Return the messages and counts without those that only repeat others.

        An item that is no JSON also gives a warning; an HTTP error also an ignored response; a failed download also
        the end of its retries.
        """
        types: Counter[str] = Counter()
        for (_, kind), count in self.counts.items():
            types[kind] += count
        http = sum(count for kind, count in types.items() if kind.startswith("HTTP "))
        retries, downloads, server_errors = types[RETRIES], types[DOWNLOADS], types["HTTP 500"]
        repeated: set[tuple[str, str]] = set()
        if self.invalid and sum(n for (category, _), n in self.counts.items() if category == WARNING) == self.invalid:
            repeated |= {key for key in self.counts if key[0] == WARNING}
        if types[IGNORED] == http:
            repeated |= {key for key in self.counts if key[1] == IGNORED}
        if (retries == downloads and not server_errors) or (retries == server_errors and not downloads):
            repeated |= {key for key in self.counts if key[1] == RETRIES}
        kept = [message for message in self.messages if (message.category, message.type) not in repeated]
        return kept, Counter({key: count for key, count in self.counts.items() if key not in repeated})


def find_collection(text: bytes) -> tuple[str, str] | None:
    """Return the id of the collection in Kingfisher Process and its data version, if the text names them."""
    match = _COLLECTION.search(text)
    return None if match is None else (_text(match[1]), _text(match[2]))


def is_closed(text: bytes) -> bool:
    """Return whether the end of a log says that the spider was closed."""
    return _CLOSED.search(text) is not None


def read_log(blocks: Iterable[bytes]) -> Reading:
    """Read a log, given in blocks of any size, once. Memory: some megabytes, whatever its size."""
    reader = _Reader()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd escapes in what is parsed
        for line in split_lines(blocks):
            reader.take(line)
        reader.finish()
    return reader.reading


def split_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines without their ends; of one over :data:`MAX_LINE_BYTES` its beginning."""
    rest = b""
    for block in blocks:
        first, *others = block.split(b"\n")
        rest = (rest + first)[:MAX_LINE_BYTES]
        for line in others:
            yield rest.rstrip(b"\r")
            rest = line[:MAX_LINE_BYTES]
    if rest:
        yield rest.rstrip(b"\r")


class _Reader:
    """Puts lines together to messages and dictionaries."""

    def __init__(self) -> None:
        self.reading = Reading()
        self._logger, self._category = "", ""
        self._message = bytearray()
        self._dict: bytearray | None = None
        self._dict_is_stats = self._dict_too_long = False
        self._parses = 0

    def take(self, line: bytes) -> None:
        match = _MESSAGE.match(line)
        if match is not None:
            self.finish()
            self._begin(match, line)
        elif self._dict is not None:
            self._extend_dict(line)
        elif not self._dict_is_stats and len(line) <= MAX_MESSAGE_BYTES and _SIMPLE_ITEM.fullmatch(line):
            self.reading.items += 1
        elif line.startswith(b"{"):
            self._dict, self._dict_too_long, self._parses = bytearray(), False, 0
            self._extend_dict(line)
        if self._category and match is None and len(self._message) < MAX_MESSAGE_BYTES:
            self._message += b"\n" + line[:MAX_MESSAGE_BYTES]
        if _MISSING_NEXT_LINK in line:
            self.reading.missing_next_link = True

    def _begin(self, match: re.Match[bytes], line: bytes) -> None:
        self._dict_is_stats = _STATS in line
        self._category = _CATEGORIES.get(match[2]) or (IGNORED if _IGNORING in line else "")
        self._logger = _text(match[1])
        self._message[:] = line[:MAX_MESSAGE_BYTES] if self._category else b""
        if not self.reading.process_id and (found := find_collection(line)):
            self.reading.process_id, self.reading.data_version = found
        if closed := _CLOSED.search(line):
            self.reading.closed = _text(closed[1])

    def finish(self) -> None:
        """The message is over, and a dictionary that has no end yet will have none."""
        if self._dict is not None:
            if self._dict_too_long and _looks_like_item(self._dict):
                self.reading.items += 1
            self._dict = None
        if self._category:
            self._file_message()
        self._category, self._dict_is_stats = "", False

    def _file_message(self) -> None:
        text = mask(_text(bytes(self._message[:MAX_MESSAGE_BYTES])))
        if self._category == ERROR:
            self.reading.errors += 1
        if any(expected in text for expected in _EXPECTED):
            return
        kind = self._type_of(text)
        self.reading.counts[self._category, kind] += 1
        if self.reading.counts[self._category, kind] <= KEPT_MESSAGES and len(self.reading.messages) < MAX_MESSAGES:
            self.reading.messages.append(Message(self._category, kind, text))

    def _type_of(self, text: str) -> str:
        if self._logger.startswith(_QUEUE_LOGGERS):
            return RABBITMQ
        if status := _STATUS.search(text):
            return f"HTTP {status[1]}"
        return next((kind for words, kind in _TEXTS if words in text), self._category)

    def _extend_dict(self, line: bytes) -> None:
        assert self._dict is not None
        room = (MAX_DICT_BYTES if self._dict_is_stats else MAX_ITEM_BYTES) - len(self._dict)
        if len(line) >= room:
            self._dict += line[:room]
            self._dict_too_long = True
            return
        self._dict += line + b"\n"
        if not line.rstrip().endswith(b"}") or self._parses >= MAX_PARSES:
            return
        self._parses += 1
        if not self._dict_is_stats and not any(key.encode() in self._dict for key in _ITEM_KEYS):
            if self._dict.count(b"{") <= self._dict.count(b"}"):  # most dictionaries: of no interest, and over
                self._dict = None
            return
        found = literal_dict(_text(bytes(self._dict)))
        if found is None:  # a line of it ended like its last one
            return
        if self._dict_is_stats:
            self.reading.stats = found
        elif any(key in found for key in _ITEM_KEYS):
            self.reading.items += 1
        self._dict = None


def _looks_like_item(text: bytearray) -> bool:
    """Return whether a dictionary too long to be parsed has a name that items have."""
    return _ITEM.search(text) is not None


def literal_dict(text: str) -> dict[str, Any] | None:
    """Return a dictionary written in Python's syntax, None if the text is none. Nothing in it is run.

    A value that is no literal, such as ``datetime.datetime(2024, 1, 2)``, is None.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.Dict):
            return None
        return {
            str(ast.literal_eval(key)): _literal(value)
            for key, value in zip(tree.keys, tree.values, strict=True)
            if key
        }
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
