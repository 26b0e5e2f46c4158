"""Pelican: have a compiled collection checked, and take over the counts.

Pelican makes a dataset some time after it was asked to; until then its name finds nothing. So asking is repeatable as
long as the name is looked for first. The paths are those of Pelican frontend until 2024.
"""

from typing import Any

from shared.errands import Claimed
from shared.errors import TemporaryError
from shared.peers import NOT_FOUND, Caller, ask, require
from shared.settings import Settings
from shared.views import COUNTS
from shared.worker.context import Work
from shared.worker.peers import NotYet, caller_of, polling


class Datasets:
    """The datasets of one Pelican."""

    def __init__(self, settings: Settings, caller: Caller) -> None:
        self._url = str(require(settings, "pelican_url"))
        self._settings, self._caller = settings, caller

    def find(self, name: str) -> int | None:
        """Return a dataset's id; None: there is none of this name (yet)."""
        return self._call("GET", "find_by_name/", params={"name": name}).get("id")

    def create(self, name: str, collection: int) -> None:
        """Have a dataset made of a compiled collection, some time."""
        self._call("POST", "", json={"name": name, "collection_id": collection})

    def status(self, dataset: int) -> dict[str, Any]:
        """Return ``phase`` and ``state``; empty: it has not begun."""
        return self._call("GET", f"{dataset}/status/")

    def coverage(self, dataset: int) -> dict[str, Any]:
        """Return how many of each there are."""
        return self._call("GET", f"{dataset}/coverage/")

    def delete(self, dataset: int) -> None:
        """Delete a dataset. One that is gone is fine."""
        self._call("DELETE", f"{dataset}/", accept=(NOT_FOUND,))

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        url = f"{self._url}/api/datasets/{path}"
        answer = ask(method, url, caller=self._caller, settings=self._settings, **options)[1] or {}
        if not isinstance(answer, dict):
            raise TemporaryError(f"{url.rpartition('@')[2]} did not answer as Pelican does ({self._caller}).")
        return answer


@polling
def check(work: Work, state: dict[str, Any]) -> dict[str, Any] | NotYet:
    """Have the compiled collection checked, and wait for the end.

    Params: ``name`` of the dataset, ``collection``. State: ``asked``, ``id``.

    :return: ``dataset_id`` and ``counts`` (the job's, without ``_count``).
    :raises TemporaryError: Pelican does not answer.
    """
    datasets, name = Datasets(work.settings, caller_of(work)), work.params["name"]
    state["id"] = state.get("id") or datasets.find(name)
    if not state["id"]:
        if not state.get("asked"):
            datasets.create(name, int(work.params["collection"]))
            state["asked"] = True
        return NotYet(f"Pelican has not begun with dataset {name}.", waiting=True)
    status = datasets.status(state["id"])
    if not status:
        return NotYet(f"Pelican has not begun with dataset {name}.", waiting=True)
    if status.get("phase") != "CHECKED" or status.get("state") != "OK":
        return NotYet(f"Pelican is at dataset {name}: {status.get('phase')}, {status.get('state')}.")
    counts = datasets.coverage(state["id"])
    return {"dataset_id": state["id"], "counts": {name: _count(counts.get(name)) for name in COUNTS}}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def run_errand(errand: Claimed, settings: Settings) -> list[tuple[str, str, dict[str, Any]]]:
    """Delete a dataset. Params: ``name``, and ``id`` where it is known.

    :raises TemporaryError: Pelican does not answer.
    """
    datasets = Datasets(settings, Caller(errand.source_id, errand.job_id, errand.task_type))
    dataset = errand.params.get("id") or datasets.find(errand.params["name"])
    if dataset:
        datasets.delete(dataset)
    return []
