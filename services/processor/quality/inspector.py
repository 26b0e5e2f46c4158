"""The inspector: is given compiled records one by one, and in the end tells what every check found.

Memory does not grow with the number of records: of each check there are counts and a few examples, of ocid prefixes
the most common :data:`PREFIXES` or so.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from services.processor.quality.consistency import OCID, checkers
from services.processor.quality.rules import release_shape
from services.processor.quality.tally import EXAMPLES, Tally, tallies
from services.processor.quality.walk import Walk
from shared.quality import Outcome

PREFIXES = 1_000
"""Different ocid prefixes that are told apart. Data with more has none that most share."""

_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class Inspector:
    """Judges the records of one job.

    :param ocds: whether they are releases; if not, only ``records.*``, ``schema.own`` and ``ids.records`` apply.
    :param extensions: names of OCDS extensions (see rules.py) whose fields are judged.
    :param now: what is later than this, by more than a day, is in the future.
    :param schema: a validator for the collection's own JSON Schema.
    """

    def __init__(self, *, ocds: bool, extensions: Iterable[str] = (), now: datetime, schema: Any = None) -> None:
        extensions = tuple(extensions)
        self.tallies = tallies()
        self._ocds = ocds
        self._schema = schema
        self._shape = release_shape(extensions)
        self._walk = Walk(self.tallies)
        self._checkers = checkers(now, extensions)
        self._readable = self.tallies["records.readable"]
        self._ocid_form = self.tallies["ids.ocid-form"]
        self._prefixes: Counter[str] = Counter()
        self._prefix_examples: dict[str, str] = {}

    def inspect(self, key: str | None, text: str | bytes) -> None:
        """Judge a record.

        :param key: its ocid or id, for examples.
        :param text: its JSON.
        """
        name = key or ""
        self._readable.applicable += 1
        try:
            value = _decode(text)
            if type(value) is not dict:
                self._readable.fail(name, (), value)
                return
        except (ValueError, RecursionError) as error:
            self._readable.fail(name, (), str(error))
            return
        if self._schema is not None:
            self._hold_against_schema(name, value)
        if self._ocds:
            self._inspect_release(name, value)

    def _inspect_release(self, name: str, release: dict[str, Any]) -> None:
        self._walk.walk(name, release, self._shape)
        for check in self._checkers:
            check(release, self._walk, self.tallies)
        ocid = release.get("ocid")
        if type(ocid) is str and ocid:
            match = OCID.fullmatch(ocid)
            self._ocid_form.judge(match is not None, name, ("ocid",), ocid)
            if match is not None:
                self._count_prefix(match[1], ocid)

    def _count_prefix(self, prefix: str, ocid: str) -> None:
        if prefix in self._prefixes or len(self._prefixes) < PREFIXES:
            self._prefixes[prefix] += 1
            self._prefix_examples.setdefault(prefix, ocid)
        else:
            self._prefixes[""] += 1
            self._prefix_examples.setdefault("", ocid)

    def _hold_against_schema(self, name: str, value: dict[str, Any]) -> None:
        tally = self.tallies["schema.own"]
        tally.applicable += 1
        try:
            if self._schema.is_valid(value):
                return
            error = next(iter(self._schema.iter_errors(value)))
            tally.fail(name, tuple(error.instance_path), error.message)
        except (ValueError, OverflowError, RecursionError) as error:  # nested too deeply, or a number too large
            tally.fail(name, (), str(error))

    def add_losses(self, losses: Iterable[Mapping[str, Any]]) -> None:
        """Add what the process task saw before it merged: ``check``, ``applicable``, ``failed``, ``examples``."""
        for found in losses:
            tally = self.tallies[found["check"]]
            tally.applicable += found["applicable"]
            tally.failed += found["failed"]
            tally.examples = [*tally.examples, *found["examples"]][:EXAMPLES]

    def outcomes(self) -> list[Outcome]:
        """Return what every check found."""
        self._judge_prefixes()
        return [tally.outcome() for tally in self.tallies.values()]

    def _judge_prefixes(self) -> None:
        tally = Tally("ids.ocid-prefix")
        tally.applicable = self._prefixes.total()
        ((common, _),) = self._prefixes.most_common(1) or [("", 0)]
        for prefix, count in self._prefixes.items():
            if prefix != common or not prefix:
                tally.fail(self._prefix_examples[prefix], ("ocid",), self._prefix_examples[prefix])
                tally.failed += count - 1
        self.tallies["ids.ocid-prefix"] = tally


def _decode(text: str | bytes) -> Any:
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError:
        # Numbers of thousands of digits, and beyond a double's range, are JSON all the same.
        return json.loads(text)
