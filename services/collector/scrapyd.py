"""Collect by Scrapyd: Kingfisher Collect crawls there, and sends what it finds to Kingfisher Process.

Our own job id, made when the unit was planned, is what makes starting repeatable: before a crawl is scheduled, Scrapyd
is asked whether it knows the id, and whether there is a log of it. What a crawl is up to:

- *pending*, *running*: asked again later, until its log names the collection in Kingfisher Process;
- *finished*: its log is read, once, as a stream (scrapylog.py), and says how it went;
- *unknown*: Scrapyd forgets its jobs when it is restarted, and the crawl goes on without it. Its log tells: closed (it
  has finished), growing (it goes on), or silent for ``scrapyd_silence_seconds``: then it is lost, and crawled again
  under the next id, :data:`MAX_CRAWLS` times in all.

A new process has no log for half a second, so a missing one is waited for. https://scrapyd.readthedocs.io/en/1.6.0/api.html
"""

import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from services.collector.scrapylog import Reading, find_collection, is_closed, read_log
from shared import units
from shared.db.models import NoteLevel
from shared.errands import Claimed
from shared.errors import PermanentError, TemporaryError
from shared.logging import get_logger
from shared.peers import NOT_FOUND, PATIENCE, TOO_FAR, Caller, ask, request, require, shown
from shared.settings import Settings
from shared.worker.context import Work
from shared.worker.peers import NotYet, caller_of, polling

log = get_logger()

MAX_CRAWLS = 3
LOG_GRACE = timedelta(minutes=1)
"""How long a crawl may have no log: it appears half a second after the process, on an idle machine."""
SCAN_BYTES = 16 * 1024**2
"""Of a running crawl's log, what is searched at once for the collection's id: it is near the beginning."""
OVERLAP_BYTES = 1_000
TAIL_BYTES = 65_536
BLOCK_BYTES = 1 << 18
MAX_REFUSAL_CHARACTERS = 1_000
DATA_VERSION = re.compile(r"[0-9]{8}_[0-9]{6}")


class Scrapyd:
    """One project in one Scrapyd. Texts of it that become errors are cut, and never contain credentials."""

    def __init__(self, settings: Settings, caller: Caller, *, project: str | None = None) -> None:
        self._url = str(require(settings, "scrapyd_url"))
        self._settings, self._caller = settings, caller
        self.project = project or settings.scrapyd_project

    def log_url(self, spider: str, job: str) -> str:
        """Return where the log of a job is."""
        return f"{self._url}/logs/{quote(self.project, safe='')}/{quote(spider, safe='')}/{quote(job, safe='')}.log"

    def schedule(self, spider: str, job: str, scrapy_settings: list[list[str]]) -> None:
        """Have a crawl started, soon. Raise :class:`PermanentError` if Scrapyd refuses it (unknown spider, project)."""
        answer = self._call(
            "POST",
            "schedule.json",
            data=[
                ("project", self.project),
                ("spider", spider),
                ("jobid", job),
                ("steps", "compile"),
                *(("setting", f"{key}={value}") for key, value in scrapy_settings),
            ],
        )
        if refusal := _refusal(answer):
            raise PermanentError(f"Scrapyd does not schedule the spider {spider} of {self.project}: {refusal}")

    def state(self, job: str) -> str:
        """Return what a job is: ``pending``, ``running``, ``finished``, or empty: Scrapyd does not know it (any more).

        :raises TemporaryError: it does not answer, or does not know the project either.
        """
        status, answer = self._ask(
            "GET", "status.json", params={"project": self.project, "job": job}, accept=(NOT_FOUND,)
        )
        if status == NOT_FOUND:  # Scrapyd before 1.5
            answer = self._call("GET", "listjobs.json", params={"project": self.project})
        if refusal := _refusal(answer):
            raise TemporaryError(f"Scrapyd does not say what became of job {job}: {refusal} ({self._caller}).")
        if status == NOT_FOUND:
            states = ("pending", "running", "finished")
            return next((state for state in states if any(row["id"] == job for row in answer.get(state, []))), "")
        return answer.get("currstate") or ""

    def cancel(self, job: str) -> None:
        """Have a job stopped: in an orderly way the first time, at once the second. One that is over is fine."""
        answer = self._call("POST", "cancel.json", data={"project": self.project, "job": job})
        if refusal := _refusal(answer):  # no such project: then nothing of it runs
            log.warning("Scrapyd does not cancel", job=job, reason=refusal)

    def log_size(self, spider: str, job: str) -> int | None:
        """Return how many bytes of log a job has; None: it has no log."""
        with self._log(spider, job, "bytes=0-0") as response:
            if response.status_code == NOT_FOUND:
                return None
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            size = total if total.isdecimal() else response.headers.get("Content-Length", "")
            return int(size) if size.isdecimal() else 0

    def log_part(self, spider: str, job: str, start: int, limit: int) -> bytes:
        """Return at most ``limit`` bytes of a job's log from ``start`` on."""
        with self._log(spider, job, f"bytes={start}-{start + limit - 1}") as response:
            if response.status_code in (NOT_FOUND, TOO_FAR):
                return b""
            ranged = response.status_code == requests.codes.partial_content
            skip = 0 if ranged else start
            found, deadline = bytearray(), time.monotonic() + PATIENCE * self._settings.peer_timeout_seconds
            for block in response.iter_content(BLOCK_BYTES):
                if time.monotonic() > deadline:
                    raise TemporaryError(f"The log of job {job} does not come to an end ({self._caller}).")
                found += block[skip:]  # a server without ranges sends all
                skip = max(0, skip - len(block))
                if len(found) >= limit:
                    break
            return bytes(found[:limit])

    def log_blocks(self, spider: str, job: str, work: Work) -> Iterator[bytes]:
        """Yield a job's whole log; nothing if it has none."""
        with self._log(spider, job, "") as response:
            if response.status_code == NOT_FOUND:
                return
            size = response.headers.get("Content-Length", "")
            done = 0
            for block in response.iter_content(BLOCK_BYTES):
                done += len(block)
                work.progress(done, int(size) if size.isdecimal() else None, of="bytes of its log")
                yield block

    def _log(self, spider: str, job: str, wanted: str) -> Any:
        # Identity: what is packed for the transfer has no ranges, and could unpack to anything.
        headers = {"Accept-Encoding": "identity"} | ({"Range": wanted} if wanted else {})
        url = self.log_url(spider, job)
        return request(
            "GET", url, caller=self._caller, settings=self._settings, accept=(NOT_FOUND, TOO_FAR), headers=headers
        )

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        return self._ask(method, path, **options)[1]

    def _ask(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        url = f"{self._url}/{path}"
        status, answer = ask(method, url, caller=self._caller, settings=self._settings, **options)
        if not isinstance(answer, dict) and status not in options.get("accept", ()):
            raise TemporaryError(f"{shown(url)} did not answer as Scrapyd does ({self._caller}).")
        return status, answer


def _refusal(answer: dict[str, Any]) -> str:
    """Return why Scrapyd refused, which it says with HTTP status 200; empty if it did not."""
    if answer.get("status") != "error":
        return ""
    return str(answer.get("message", "it does not say why")).strip()[-MAX_REFUSAL_CHARACTERS:]


@polling
def collect(work: Work, state: dict[str, Any]) -> dict[str, Any] | NotYet:
    """Have the collection's spider crawled, and say how it went.

    Params: ``spider``, ``job`` (our job id, without the crawl's number), ``settings`` (pairs). State: ``crawls``, each
    with ``job``, and as they become known ``project``, ``scheduled``, ``process_id``, ``data_version``; the last is the
    current one.

    :return: ``failure`` (in words; empty: all is well); ``spider``, ``job_id``, ``scrapy_log``, ``process_id``,
        ``data_version``, ``finish_reason``; ``items``, ``errors``, ``dropped_items``, ``invalid_items``,
        ``error_rate``, ``crawls``.
    :raises TemporaryError: Scrapyd does not answer.
    :raises PermanentError: it refuses, or lost the crawl several times, or a setting is missing.
    """
    crawls: list[dict[str, Any]] = state.setdefault("crawls", [])
    if not crawls:
        crawls.append({"job": f"{work.params['job']}-1"})
    crawl = crawls[-1]
    scrapyd = Scrapyd(work.settings, caller_of(work), project=crawl.get("project"))
    if not crawl.get("scheduled"):
        return _schedule(work, scrapyd, crawl)
    match scrapyd.state(crawl["job"]):
        case "pending":
            return NotYet(f"Crawl {crawl['job']} waits in Scrapyd's queue.", waiting=True)
        case "running":
            _look_for_collection(scrapyd, work.params["spider"], crawl)
            return NotYet(f"Scrapyd is at crawl {crawl['job']}{_collection(crawl)}.")
        case "finished":
            return _conclude(work, scrapyd, crawls)
        case _:
            return _follow_forgotten(work, scrapyd, crawls)


def _schedule(work: Work, scrapyd: Scrapyd, crawl: dict[str, Any]) -> NotYet:
    """Schedule a crawl, unless an earlier attempt did and could not say so."""
    spider, job = work.params["spider"], crawl["job"]
    crawl["project"] = scrapyd.project
    if not scrapyd.state(job) and scrapyd.log_size(spider, job) is None:
        # Scrapyd would take the same id twice. So the claim is looked at just before: frozen until now, we may not.
        units.hold(work.session, work.assignment.unit_id, work.assignment.token)
        work.session.rollback()
        scrapyd.schedule(spider, job, work.params["settings"])
        log.info("crawl scheduled", scrapyd_job=job, spider=spider)
    crawl["scheduled"] = True
    return NotYet(f"Crawl {job} waits in Scrapyd's queue.", waiting=True)


def _look_for_collection(scrapyd: Scrapyd, spider: str, crawl: dict[str, Any]) -> None:
    """Search what is new in a running crawl's log for the collection in Kingfisher Process."""
    if crawl.get("process_id"):
        return
    start = crawl.get("scanned", 0)
    part = scrapyd.log_part(spider, crawl["job"], start, SCAN_BYTES)
    if found := find_collection(part):
        crawl["process_id"], crawl["data_version"] = found
    crawl["scanned"] = max(start, start + len(part) - OVERLAP_BYTES)


def _collection(crawl: dict[str, Any]) -> str:
    return f", into collection {crawl['process_id']} of Kingfisher Process" if crawl.get("process_id") else ""


def _follow_forgotten(work: Work, scrapyd: Scrapyd, crawls: list[dict[str, Any]]) -> dict[str, Any] | NotYet:
    """Find out from its log what became of a crawl that Scrapyd does not know any more."""
    crawl, spider = crawls[-1], work.params["spider"]
    size = scrapyd.log_size(spider, crawl["job"])
    if size is None:
        if _since(crawl, "no_log") < LOG_GRACE:
            return NotYet(f"Scrapyd does not know crawl {crawl['job']}, which has no log yet.")
        return _lose(crawls, "Scrapyd does not know it, and it has no log")
    crawl.pop("no_log", None)
    # Not "the last bytes": Scrapyd's server answers with an error if there are fewer.
    if is_closed(scrapyd.log_part(spider, crawl["job"], max(0, size - TAIL_BYTES), TAIL_BYTES)):
        return _conclude(work, scrapyd, crawls)
    if size != crawl.get("size"):
        crawl["size"] = size
        crawl.pop("silent", None)
    if _since(crawl, "silent") < timedelta(seconds=work.settings.scrapyd_silence_seconds):
        _look_for_collection(scrapyd, spider, crawl)
        return NotYet(f"Crawl {crawl['job']} goes on, though Scrapyd does not know it any more{_collection(crawl)}.")
    return _lose(crawls, "Scrapyd does not know it any more, and its log does not grow")


def _since(crawl: dict[str, Any], what: str) -> timedelta:
    """Return for how long something has been so, from the first call on."""
    now = datetime.now(UTC)
    return now - datetime.fromisoformat(crawl.setdefault(what, now.isoformat()))


def _lose(crawls: list[dict[str, Any]], reason: str) -> NotYet:
    job = crawls[-1]["job"]
    if len(crawls) >= MAX_CRAWLS:
        raise PermanentError(f"Crawl {job} is lost: {reason}. It was the last of {MAX_CRAWLS}: see Scrapyd's own log.")
    log.warning("crawl lost", scrapyd_job=job, reason=reason)
    crawls.append({"job": f"{job.rpartition('-')[0]}-{len(crawls) + 1}"})
    return NotYet(f"Crawl {job} is lost: {reason}. It is crawled again.", at_once=True)


def _conclude(work: Work, scrapyd: Scrapyd, crawls: list[dict[str, Any]]) -> dict[str, Any] | NotYet:
    """Read the log of a crawl that is over."""
    crawl, spider = crawls[-1], work.params["spider"]
    if scrapyd.log_size(spider, crawl["job"]) is None:
        if _since(crawl, "no_log") < LOG_GRACE:
            return NotYet(f"Crawl {crawl['job']} is over, and has no log yet.")
        raise PermanentError(
            f"Crawl {crawl['job']} is over, and Scrapyd has no log of it. Check its logs_dir, and raise its "
            "jobs_to_keep: it keeps the last few logs of each spider."
        )
    reading = read_log(scrapyd.log_blocks(spider, crawl["job"], work))
    process_id = reading.process_id or crawl.get("process_id", "")
    data_version = reading.data_version or crawl.get("data_version", "")
    _leave_notes(work, reading, crawls)
    return {
        "failure": _failure(work, reading, process_id),
        "spider": spider,
        "job_id": crawl["job"],
        "scrapy_log": shown(scrapyd.log_url(spider, crawl["job"])),
        "process_id": process_id,
        "data_version": data_version,
        "finish_reason": reading.finish_reason,
        "items": reading.items,
        "errors": reading.error_count,
        "dropped_items": reading.dropped,
        "invalid_items": reading.invalid,
        "error_rate": round(reading.error_rate, 6),
        "crawls": [
            {name: each.get(name, "") for name in ("job", "project", "process_id", "data_version")}
            for each in (*crawls[:-1], crawl | {"process_id": process_id, "data_version": data_version})
        ],
    }


def _failure(work: Work, reading: Reading, process_id: str) -> str:
    limit = work.settings.collect_error_rate_limit
    if not process_id:
        end = f"It ended with {reading.finish_reason!r}." if reading.finish_reason else "It was cut off."
        return f"The crawl made no collection in Kingfisher Process: its log names none. {end} See its notes."
    if reading.missing_next_link:
        return "The crawl stopped before the end: a page had no link to the next one (MissingNextLinkError)."
    if reading.finish_reason != "finished":
        reason = reading.finish_reason or "unknown: it was cut off, as its log has no statistics"
        return f"The crawl did not finish. Its finish reason is {reason}."
    if reading.error_rate > limit:
        return (
            f"The crawl had {reading.error_count:,} errors and {reading.items:,} items, an error rate of "
            f"{reading.error_rate:.2%}; up to {limit:.2%} are accepted (BOWERBIRD_COLLECT_ERROR_RATE_LIMIT)."
        )
    return ""


def _leave_notes(work: Work, reading: Reading, crawls: list[dict[str, Any]]) -> None:
    for lost in crawls[:-1]:
        work.note(f"Crawl {lost['job']} was lost, and crawled again.", level=NoteLevel.WARNING, job=lost["job"])
    if reading.error_rate > work.settings.collect_error_rate_warning:
        log.warning("crawl with errors", error_rate=reading.error_rate)
        work.note(f"The error rate is {reading.error_rate:.2%}.", error_rate=reading.error_rate)
    if reading.dropped:
        work.note(f"{reading.dropped:,} items were dropped (item_dropped_count).", count=reading.dropped)
    if reading.invalid:
        text = f"{reading.invalid:,} items were no JSON (invalid_json_count)."
        work.note(text, level=NoteLevel.ERROR, count=reading.invalid)
    messages, counts = reading.noteworthy()
    for message in messages:
        work.note(message.text, level=message.level, type=message.type)
        counts[message.category, message.type] -= 1
    for (_, kind), count in counts.items():
        if count > 0:
            work.note(f"{count:,} more messages of the type {kind}: see the log.", type=kind, count=count)


# Errands


def run_errand(errand: Claimed, settings: Settings) -> list[tuple[str, str, dict[str, Any]]]:
    """Stop the crawls of a unit; to wipe, delete their files too. Return what Kingfisher Process has to delete then.

    :raises TemporaryError: Scrapyd does not answer, or a crawl has not stopped yet.
    :raises OSError: files cannot be deleted.
    """
    params, state = errand.params["params"], errand.params["state"]
    spider = params["spider"]
    crawls = state.get("crawls") or [{"job": f"{params['job']}-1"}]
    caller = Caller(errand.source_id, errand.job_id, errand.task_type)
    collections: list[str] = []
    for crawl in crawls:
        scrapyd = Scrapyd(settings, caller, project=crawl.get("project"))
        if scrapyd.state(crawl["job"]) in ("pending", "running"):
            scrapyd.cancel(crawl["job"])
        if errand.action == "wipe":
            if scrapyd.state(crawl["job"]) == "running":
                raise TemporaryError(f"Crawl {crawl['job']} is still stopping; its files are deleted after that.")
            found = (crawl.get("process_id", ""), crawl.get("data_version", ""))
            if not all(found):  # stopped before anybody looked
                found = find_collection(scrapyd.log_part(spider, crawl["job"], 0, SCAN_BYTES)) or ("", "")
                collections += [found[0]] if found[0] else []
            _delete_files(settings, spider, found[1], crawl["job"])
    return [("process", "kingfisher-process", {"collections": collections})] if collections else []


def _delete_files(settings: Settings, spider: str, data_version: str, job: str) -> None:
    """Delete ``{files store}/{spider}/{YYYYMMDD_HHMMSS}``, and the spider's directory if that left it empty."""
    store: Path | None = settings.kingfisher_collect_files_store
    if store is None:
        return
    # 2001-02-03 04:05:06 in the log, 2001-02-03T04:05:06 in Kingfisher Process, 20010203_040506 on disk.
    name = data_version.translate(str.maketrans(" T", "__", "-:"))
    if not name:
        log.warning("files of a crawl not deleted: its log does not name them", scrapyd_job=job)
        return
    if DATA_VERSION.fullmatch(name) is None:
        raise PermanentError(
            f"Crawl {job} calls its data {data_version!r}, which is no time: its files are not deleted."
        )
    if not store.is_dir():
        raise TemporaryError(
            f"{store} (BOWERBIRD_KINGFISHER_COLLECT_FILES_STORE) is no directory. Mount it, or correct it."
        )
    directory = store / spider / name
    if directory.is_dir():
        shutil.rmtree(directory)
        log.info("files of a crawl deleted", path=str(directory))
    parent = directory.parent
    if parent.is_dir() and not any(parent.iterdir()):
        parent.rmdir()
