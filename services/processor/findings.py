"""What a pass over many records finds odd: one note per kind of oddity, with a count and some examples.

Never one note per record: a publisher's habit shows in every one of a million.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from enum import Enum

from shared.db.models import NoteLevel
from shared.worker.context import Work

EXAMPLES = 10
SHOWN_CHARACTERS = 200


Place = tuple[str, str, str]
"""Record, path in it (JSON Pointer), value."""


class Finding(Enum):
    """A kind of oddity: the sentence of its note, after the count."""

    NO_DATE = "releases have no date: merged before the dated ones of their contracting process."
    SAME_DATE = "releases have the same date as another of their contracting process: merged in order of collection."
    ODD_DATE = "records have a date that starts with no day (YYYY-MM-DD): not counted in the period of the data."
    REPEATED_RELEASE = "releases have the id of another release of their contracting process: merged all the same."
    DUPLICATE_ID = "objects have the id of another object in the same array: merged into one."
    UNUSABLE_ID = "objects in arrays have an id that is neither text nor a number: taken as having none."
    RELEASES_WIN = "compiled releases belong to a contracting process whose releases were compiled instead: left out."
    OLDER_COMPILED = "compiled releases are not the latest of their contracting process: left out."
    OLDER_RECORD = "records have the id of a record collected later: left out."


class Findings:
    """Counts oddities, and keeps the first :data:`EXAMPLES` of each kind."""

    def __init__(self) -> None:
        self._counts: Counter[Finding] = Counter()
        self._examples: defaultdict[Finding, list[str]] = defaultdict(list)
        self._places: defaultdict[Finding, list[Place]] = defaultdict(list)

    def add(self, finding: Finding, example: str, *, count: int = 1, place: Place | None = None) -> None:
        """Count an oddity. ``example``: what a person would search the data for, such as an ocid."""
        self.add_all(finding, (example,), count=count)
        if place is not None and len(self._places[finding]) < EXAMPLES:
            self._places[finding].append(place)

    def count(self, finding: Finding) -> int:
        """Return how often a kind of oddity occurred."""
        return self._counts[finding]

    def places(self, finding: Finding) -> list[dict[str, str]]:
        """Return where it occurred first, as far as that was told: record, path in it, and value."""
        return [
            dict(zip(("record", "path", "value"), map(shown, place), strict=True)) for place in self._places[finding]
        ]

    def examples(self, finding: Finding) -> list[str]:
        """Return the examples of a kind of oddity."""
        return list(self._examples[finding])

    def add_all(self, finding: Finding, examples: Iterable[str], *, count: int) -> None:
        """Count several at once."""
        self._counts[finding] += count
        known = self._examples[finding]
        if len(known) < EXAMPLES:
            known.extend(text for text in map(shown, examples) if text not in known)
            del known[EXAMPLES:]

    def leave_notes(self, work: Work) -> None:
        """Leave a warning for each kind that occurred, in the order of :class:`Finding`."""
        for finding in Finding:
            if count := self._counts[finding]:
                work.note(
                    f"{count:,} {finding.value}",
                    level=NoteLevel.WARNING,
                    count=count,
                    examples=self._examples[finding],
                )


def shown(text: str) -> str:
    """Return text from the data as a note or an error shows it: short, and without NUL, which PostgreSQL refuses."""
    text = text.replace("\0", "\ufffd")
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
