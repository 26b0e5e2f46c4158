"""Process by Kingfisher Process: wait until it has compiled what the crawl sent, and take over what it knows.

https://kingfisher-process.readthedocs.io/: ``tree`` lists a collection and those derived from it, ``metadata`` is of
the compiled one, ``notes`` of the root. Paths end in a slash.
"""

from collections import Counter
from typing import Any
from urllib.parse import quote

from services.processor.dates import day_of
from services.processor.findings import shown
from shared.db.models import NoteLevel
from shared.errands import Claimed
from shared.errors import TemporaryError
from shared.peers import NOT_FOUND, AnswerTooLargeError, Caller, ask, require
from shared.peers import shown as shown_url
from shared.settings import Settings
from shared.worker.context import Work
from shared.worker.peers import NotYet, caller_of, polling

LEVELS = ("WARNING", "ERROR")
DUPLICATE_ID, REPEATED_DATE = "DuplicateIdValueWarning", "RepeatedDateValueWarning"
_RENAMED = {"note": "note_", "level": "level_", "self": "self_"}
"""Names that a note's data cannot have here."""
KEPT_PATHS = 100
"""Paths, or dates, of which a note of its own is left; of more, their number."""


class Collections:
    """The collections of one Kingfisher Process."""

    def __init__(self, settings: Settings, caller: Caller) -> None:
        self._url = str(require(settings, "kingfisher_process_url"))
        self._settings, self._caller = settings, caller

    def tree(self, collection: str) -> list[dict[str, Any]]:
        """Return a root collection and those derived from it."""
        found = self._get(collection, "tree")
        if not isinstance(found, list) or not all(isinstance(each, dict) and "id" in each for each in found):
            raise self._odd(collection, "tree")
        return found

    def metadata(self, collection: str) -> dict[str, Any]:
        """Return what a compiled collection says of its data; empty if there is none."""
        found = self._get(collection, "metadata") or {}
        if not isinstance(found, dict):
            raise self._odd(collection, "metadata")
        return found

    def notes(self, collection: str) -> dict[str, list[tuple[str, dict[str, Any]]]]:
        """Return the warnings and errors of a root collection and those derived from it, by level."""
        found = self._get(collection, "notes", params=[("level", level) for level in LEVELS])
        try:
            return {
                level: [(str(note), data if isinstance(data, dict) else {}) for note, data in found.get(level, [])]
                for level in LEVELS
            }
        except (AttributeError, TypeError, ValueError):
            raise self._odd(collection, "notes") from None

    def delete(self, collection: str) -> None:
        """Have a collection deleted, soon, with those derived from it. One that is gone is fine."""
        url = self._path(collection)
        ask("DELETE", url, caller=self._caller, settings=self._settings, accept=(NOT_FOUND,))

    def _get(self, collection: str, what: str, **options: Any) -> Any:
        url = self._path(collection, what)
        return ask("GET", url, caller=self._caller, settings=self._settings, **options)[1]

    def _path(self, *parts: str) -> str:
        return f"{self._url}/api/collections/{'/'.join(quote(part, safe='') for part in parts)}/"

    def _odd(self, collection: str, what: str) -> TemporaryError:
        url = shown_url(self._path(collection, what))
        return TemporaryError(f"{url} did not answer as Kingfisher Process does ({self._caller}).")


@polling
def process(work: Work, _state: dict[str, Any]) -> dict[str, Any] | NotYet:
    """Wait until the collection and its compiled one are complete, and say what they are.

    Params: ``collection``, the root's id.

    :return: ``failure`` (in words; empty: all is well), ``collection_id``, ``compiled_collection_id``, ``date_from``,
        ``date_to`` (ISO days or None), ``ocid_prefix``, ``license``, ``publication_policy``.
    :raises TemporaryError: Kingfisher Process does not answer, or not as it does.
    """
    collections = Collections(work.settings, caller_of(work))
    root_id = str(work.params["collection"])
    tree = collections.tree(root_id)
    root = next((each for each in tree if not each.get("transform_type")), None)
    compiled = next((each for each in tree if each.get("transform_type") == "compile-releases"), None)
    output: dict[str, Any] = {
        "failure": "",
        "collection_id": root_id,
        "compiled_collection_id": str(compiled["id"]) if compiled else "",
        "date_from": None,
        "date_to": None,
        "ocid_prefix": "",
        "license": "",
        "publication_policy": "",
    }
    if root is None or compiled is None:
        missing = "collection" if root is None else "compiled collection"
        return output | {"failure": f"Kingfisher Process has no {missing} for collection {root_id}."}
    if not (root.get("completed_at") and compiled.get("completed_at")):
        doing = "compiles" if root.get("completed_at") else "loads"
        return NotYet(f"Kingfisher Process {doing} collection {root_id}.")
    _take_over(work, collections.metadata(str(compiled["id"])), output)
    _take_notes(work, collections, root_id)
    if root.get("expected_files_count") == 0:
        output["failure"] = f"The collection is empty: the crawl sent no file to Kingfisher Process ({root_id})."
    return output


def _take_over(work: Work, metadata: dict[str, Any], output: dict[str, Any]) -> None:
    for ours, theirs in (("date_from", "published_from"), ("date_to", "published_to")):
        if text := metadata.get(theirs):
            day = day_of(str(text))
            if day is None:
                work.note(f"{theirs} is {shown(str(text))!r}, which starts with no day (YYYY-MM-DD): left out.")
            output[ours] = day and day.isoformat()
    for name in ("ocid_prefix", "license", "publication_policy"):
        output[name] = str(metadata.get(name) or "")


def _take_notes(work: Work, collections: Collections, root_id: str) -> None:
    """Leave its notes with the task: two kinds, which come by the million, summed."""
    try:
        notes = collections.notes(root_id)
    except AnswerTooLargeError as error:
        work.note(f"The notes of Kingfisher Process were left out: {error}")
        return
    paths: Counter[str] = Counter()
    dates: Counter[str] = Counter()
    for level, each in notes.items():
        for note, data in each:
            kind = data.get("type")
            if kind == DUPLICATE_ID and isinstance(data.get("paths"), dict):
                paths.update({str(path): count for path, count in data["paths"].items() if isinstance(count, int)})
            elif kind == REPEATED_DATE:
                dates[str(data.get("date"))] += 1
            else:
                facts: dict[str, Any] = {_RENAMED.get(name, name): data[name] for name in data}
                work.note(note, level=NoteLevel(level), **facts)
    for kind, name, counter in ((DUPLICATE_ID, "path", paths), (REPEATED_DATE, "date", dates)):
        for key, count in counter.most_common(KEPT_PATHS):
            summed: dict[str, Any] = {name: key, "count": count}
            work.note(kind, **summed)
        if len(counter) > KEPT_PATHS:
            work.note(f"{kind}: {len(counter) - KEPT_PATHS:,} more, each less often.")


def run_errand(errand: Claimed, settings: Settings) -> list[tuple[str, str, dict[str, Any]]]:
    """Delete collections. Params: ``collections``, their ids.

    :raises TemporaryError: Kingfisher Process does not answer.
    """
    collections = Collections(settings, Caller(errand.source_id, errand.job_id, errand.task_type))
    for collection in errand.params["collections"]:
        collections.delete(str(collection))
    return []
