"""The walk through one release by the rules of its shape. This is where the time goes: some 100 fields a release."""

import re
from datetime import date
from functools import lru_cache
from typing import Any

from services.processor.quality.rules import COMPARED, TYPES, Field, Kind, Shape
from services.processor.quality.tally import Path, Tally

EARLIEST_YEAR = "1970"
EMPTY: tuple[Any, ...] = ("", {}, [])

Place = tuple[Path, dict[str, Any]]

_DATE = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")
_LANGUAGE = re.compile(r"(.+)_[a-z]{2,3}(?:-[A-Za-z0-9-]+)?")

PLAIN, DATE, CODE = Kind.PLAIN, Kind.DATE, Kind.CODE
WHOLE_NUMBER = TYPES["integer"]


class Walk:
    """Walks releases, one after another. ``found`` is what the last one has, by the names of rules.COMPARED."""

    def __init__(self, tallies: dict[str, Tally]) -> None:
        self.record = ""
        self.found: dict[str, list[Place]] = {}
        self.dates: list[tuple[Path, str]] = []
        """Every date that has a text, with its path."""
        self._required = tallies["schema.required"]
        self._types = tallies["schema.types"]
        self._dates = tallies["schema.dates"]
        self._early = tallies["dates.early"]
        self._urls = tallies["schema.urls"]
        self._fields = tallies["schema.fields"]
        self._closed = tallies["codes.closed"]
        self._open = tallies["codes.open"]
        self._empty = tallies["values.empty"]
        self._ids = tallies["ids.objects"]

    def walk(self, record: str, release: dict[str, Any], shape: Shape) -> None:
        """Judge a release field by field, and list what it has."""
        self.record = record
        self.found = {name: [] for name in COMPARED}
        self.dates = []
        self._object(release, shape, ())

    def _object(self, value: dict[str, Any], shape: Shape, path: Path) -> None:  # noqa: C901  a call costs as much
        if shape.compared:
            self.found[shape.name].append((path, value))
        if shape.required:
            self._check_required(value, shape, path)
        fields, judged = shape.fields, 0
        for name, item in value.items():
            if item is None:
                continue
            judged += 1
            if (not item and item in EMPTY) or (type(item) is str and item.isspace()):
                self._empty.fail(self.record, (*path, name), item)
            field = fields.get(name)
            if field is None:
                self._check_unknown(name, item, shape, path)
            elif field.array:
                self._array(item, field, (*path, name))
            elif type(item) in field.types:
                if field.kind is PLAIN:
                    continue
                if field.shape is not None:
                    self._object(item, field.shape, (*path, name))
                else:
                    self._value(item, field, path, name)
            elif not (type(item) is float and field.types is WHOLE_NUMBER and item.is_integer()):
                self._types.fail(self.record, (*path, name), item)
        self._empty.applicable += judged
        self._fields.applicable += judged
        # The type of a field that is not known is not either; _check_unknown takes them off.
        self._types.applicable += judged

    def _value(self, item: str, field: Field, path: Path, name: str | int) -> None:
        """Judge a text of which more is asked than that it is one. An empty one is told of already."""
        if not item:
            return
        kind = field.kind
        if kind is CODE:
            tally = self._open if field.is_open else self._closed
            tally.applicable += 1
            if item not in field.codes:
                tally.fail(self.record, (*path, name), item)
        elif kind is DATE:
            self._date(item, (*path, name))
        else:
            self._urls.applicable += 1
            if not _URL.fullmatch(item):
                self._urls.fail(self.record, (*path, name), item)

    def _date(self, item: str, path: Path) -> None:
        self.dates.append((path, item))
        self._dates.applicable += 1
        if not is_date(item):
            self._dates.fail(self.record, path, item)
        year = item[:4]
        if len(year) == 4 and year.isdecimal():
            self._early.applicable += 1
            if year < EARLIEST_YEAR:
                self._early.fail(self.record, path, item)

    def _array(self, items: Any, field: Field, path: Path) -> None:
        if type(items) is not list:
            self._types.fail(self.record, path, items)
            return
        self._types.applicable += len(items)
        types, shape, plain = field.types, field.shape, field.kind is PLAIN
        for index, item in enumerate(items):
            if type(item) not in types:
                self._types.fail(self.record, (*path, index), item)
            elif shape is not None:
                self._object(item, shape, (*path, index))
            elif not plain:
                self._value(item, field, path, index)
        if shape is not None and shape.has_own_ids:
            self._check_ids(items, path)

    def _check_ids(self, items: list[Any], path: Path) -> None:
        seen: list[Any] = []
        for item in items:
            identity = item.get("id") if type(item) is dict else None
            # An organization that is referred to twice in an array is caught too: it is there twice.
            if type(identity) is str or type(identity) is int:
                seen.append(identity)
        self._ids.applicable += len(seen)
        if len(seen) > 1 and len(set(seen)) < len(seen):
            self._find_repeated(items, path)

    def _find_repeated(self, items: list[Any], path: Path) -> None:
        seen = set()
        for index, item in enumerate(items):
            identity = item.get("id") if type(item) is dict else None
            if type(identity) is str or type(identity) is int:
                if identity in seen:
                    self._ids.fail(self.record, (*path, index, "id"), identity)
                seen.add(identity)

    def _check_required(self, value: dict[str, Any], shape: Shape, path: Path) -> None:
        self._required.applicable += len(shape.required)
        for name in shape.required:
            item = value.get(name)
            if not item and (item is None or item == "" or item == []):
                self._required.fail(self.record, (*path, name), item)

    def _check_unknown(self, name: str, item: Any, shape: Shape, path: Path) -> None:
        self._types.applicable -= 1
        translation = _LANGUAGE.fullmatch(name)
        if translation is not None and (field := shape.fields.get(translation[1])) is not None and field.is_text:
            return
        self._fields.fail(self.record, (*path, name), item)


@lru_cache(maxsize=16_384)
def is_date(text: str) -> bool:
    """Return whether the text is a date and time of RFC 3339, as the standard asks."""
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    try:
        date.fromisoformat(match[1])
    except ValueError:
        return False
    return True
