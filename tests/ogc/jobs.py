"""Status documents, and the list of jobs with its filters."""

from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from tests.ogc import schemas, values
from tests.ogc.checks import requirement
from tests.ogc.server import RELATIONS, Server, hrefs, require_exception, said

UNKNOWN = ("nothing", str(uuid4()), "0", "-1", "1.5", str(10**30), "a%20b", "%00", "%E4%BD%A0", "1;2")
"""Ids that no job has, of every shape."""
AN_HOUR = timedelta(hours=1)
ELSEWHERE = timezone(timedelta(hours=5, minutes=30))


@requirement("core/job", "core/job-success")
def a_job_has_a_status_document(server: Server) -> None:
    job = server.run(values.required(server))
    status = server.read(job, schemas.STATUS)
    assert job.rstrip("/").endswith(f"/{status['jobID']}"), f"{job} is the job {status['jobID']}"
    assert status["status"] == "successful"
    assert hrefs(status, "self"), "it has no link self"
    assert hrefs(status, "monitor", "status"), "it has no link monitor or status"
    (results,) = hrefs(status, f"{RELATIONS}results")
    assert server.get(results).status_code in (200, 204), f"the link results leads to {said(server.get(results))}"
    times = [_time(status[name]) for name in ("created", "started", "finished")]
    assert times == sorted(times), "created, started and finished are in another order"
    assert status.get("progress", 100) == 100, f"it is successful and its progress is {status['progress']}"


@requirement("core/job-success")
def a_job_that_is_not_over_has_no_end(server: Server) -> None:
    job = server.start(values.slow(server, 20))
    status = server.read(job, schemas.STATUS)
    assert status["status"] in ("accepted", "running"), f"a job that takes 20 s is {status['status']} at once"
    assert "finished" not in status, "a job that is not over has a time when it finished"
    assert not hrefs(status, f"{RELATIONS}results"), "a job that is not over has a link to its results"
    server.ask("DELETE", job)


@requirement("core/job-success")
def a_failed_job_says_so(server: Server) -> None:
    status = server.wait(server.start(values.failing(server)))
    assert status["status"] == "failed", f"a job that was asked to fail is {status['status']}"
    assert hrefs(status, f"{RELATIONS}exceptions"), "a failed job has no link to its exceptions"
    assert status.get("message"), "a failed job does not say why"


@requirement("core/job-exception-no-such-job")
def a_job_that_is_not_there_is_404(server: Server) -> None:
    for unknown in UNKNOWN:
        require_exception(server.get(f"/jobs/{unknown}"), 404, kind="no-such-job")


@requirement("job-list/job-list-op", "job-list/job-list-success")
def the_jobs_are_listed_newest_first(server: Server) -> None:
    first, second = (server.run(values.required(server)).rpartition("/")[2] for _ in range(2))
    document = server.read("/jobs", schemas.JOB_LIST)
    assert all("processID" in job for job in document["jobs"]), "a job of the list has no processID"
    ids = [job["jobID"] for job in document["jobs"]]
    assert ids.index(second) < ids.index(first), "a newer job comes after an older one"
    times = [_time(job["created"]) for job in document["jobs"]]
    assert times == sorted(times, reverse=True), "the list is not by the time of creation"


@requirement("job-list/jl-links")
def the_list_links_to_itself_and_to_its_next_page(server: Server) -> None:
    for _ in range(2):
        server.run(values.required(server))
    page = server.read("/jobs?limit=1", schemas.JOB_LIST)
    assert hrefs(page, "self"), "there is no link self"
    assert hrefs(page, "next"), "there is no link next, and there are more jobs"


@requirement("job-list/limit-response")
def a_page_has_no_more_jobs_than_asked_for(server: Server) -> None:
    for _ in range(3):
        server.run(values.required(server))
    assert len(server.read("/jobs?limit=2")["jobs"]) == 2, "limit=2 does not bring two"
    server.read("/jobs?limit=1000000", schemas.JOB_LIST)


@requirement("job-list/limit-response")
def pages_keep_the_filters_and_show_each_job_once(server: Server) -> None:
    for _ in range(3):
        server.run(values.required(server))
    query = f"/jobs?processID={server.process}&status=successful&limit=2"
    seen: list[str] = []
    for page in _some_pages(server, query, 4):
        assert all(job["processID"] == server.process and job["status"] == "successful" for job in page["jobs"])
        seen += [job["jobID"] for job in page["jobs"]]
    assert len(seen) == len(set(seen)), "a job is on two pages"


@requirement("job-list/type-response")
def jobs_are_filtered_by_type(server: Server) -> None:
    server.run(values.required(server))
    assert server.read("/jobs?type=process", schemas.JOB_LIST)["jobs"], "there are no jobs of type process"
    _none_or_refused(server, "/jobs?type=nothing")


@requirement("job-list/processID-response")
def jobs_are_filtered_by_process(server: Server) -> None:
    server.run(values.required(server))
    for query in (f"processID={server.process}", f"processID=nothing&processID={server.process}"):
        jobs = server.read(f"/jobs?{query}", schemas.JOB_LIST)["jobs"]
        assert jobs, f"{query} finds nothing"
        assert {job["processID"] for job in jobs} == {server.process}, f"{query} finds others"
    assert server.read(f"/jobs?processID=nothing,{server.process}")["jobs"], "values with a comma between find nothing"
    response = server.get("/jobs?processID=nothing")
    assert response.status_code == 404 or not response.json()["jobs"], "an unknown process has jobs"


@requirement("job-list/status-response")
def jobs_are_filtered_by_status(server: Server) -> None:
    server.run(values.required(server))
    server.wait(server.start(values.failing(server)))
    for query, states in (
        ("status=successful", {"successful"}),
        ("status=failed", {"failed"}),
        ("status=successful&status=failed", {"successful", "failed"}),
        ("status=successful,failed", {"successful", "failed"}),
    ):
        found = {job["status"] for job in server.read(f"/jobs?{query}", schemas.JOB_LIST)["jobs"]}
        assert found == states, f"{query} finds {found or 'nothing'}"
    _none_or_refused(server, "/jobs?status=nothing")


@requirement("job-list/datetime-response")
def jobs_are_filtered_by_when_they_were_created(server: Server) -> None:
    job = server.read(server.run(values.required(server)))
    created = _time(job["created"])
    before, after = created - AN_HOUR, created + AN_HOUR
    for interval in (
        f"{_text(before)}/{_text(after)}",
        f"{_text(before)}/..",
        f"../{_text(after)}",
        f"{_text(before)}/",
        f"/{_text(after)}",
        f"{_text(before.astimezone(ELSEWHERE))}/{_text(after.astimezone(ELSEWHERE))}",
        f"{_text(created, 'microseconds')}/{_text(created, 'microseconds')}",
        job["created"],
        f"{job['created']}/..",
    ):
        found = [each["jobID"] for each in _at(server, interval)]
        assert job["jobID"] in found, f"datetime={interval} does not find a job of {job['created']}"
    for interval in (f"{_text(after)}/..", f"../{_text(before)}", _text(after)):
        found = [each["jobID"] for each in _at(server, interval)]
        assert job["jobID"] not in found, f"datetime={interval} finds a job of {job['created']}"


@requirement("job-list/datetime-response")
def a_time_that_is_none_is_refused(server: Server) -> None:
    a, b = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
    for interval in ("nothing", "2026-13-01T00:00:00Z", f"{a}/{b}/{b}", f"{a}/nothing", "/", "../..", "0"):
        response = server.get(f"/jobs?datetime={quote(interval, safe='')}")
        if interval in ("/", "../..") and response.status_code == 200:
            continue  # both ends open: a filter that lets everything pass
        require_exception(response, 400)


@requirement("job-list/duration-response")
def jobs_are_filtered_by_how_long_they_took(server: Server) -> None:
    quick = server.read(server.run(values.required(server)))
    slow = server.read(server.run(values.slow(server, 3)))
    for query, finds_quick, finds_slow in (
        ("minDuration=0", True, True),
        ("minDuration=3", None, True),
        ("maxDuration=2", None, False),
        ("minDuration=3&maxDuration=100", None, True),
        ("minDuration=100000", False, False),
        ("maxDuration=100000", True, True),
        ("minDuration=3&status=successful", None, True),
    ):
        jobs = server.read(f"/jobs?{query}&processID={server.process}", schemas.JOB_LIST)["jobs"]
        found = {job["jobID"] for job in jobs}
        for job, expected in ((quick, finds_quick), (slow, finds_slow)):
            if expected is not None:
                what = f"{query}: a job of {_seconds(job):.1f} s"
                assert (job["jobID"] in found) == expected, f"{what} is {'not ' if expected else ''}found"


@requirement("job-list/duration-response")
def a_running_job_has_lasted_so_far(server: Server) -> None:
    job = server.start(values.slow(server, 30))
    server.wait(job, "running")
    found = server.read(f"/jobs?maxDuration=20&status=running&processID={server.process}", schemas.JOB_LIST)["jobs"]
    assert job.rpartition("/")[2] in [each["jobID"] for each in found], "a running job is not found by how long it runs"
    server.ask("DELETE", job)


@requirement("job-list/duration-response", "habit/bad-query-values")
def a_duration_that_is_none_is_refused(server: Server) -> None:
    for query in ("minDuration=abc", "maxDuration=abc", "minDuration=1.5.2", "minDuration="):
        require_exception(server.get(f"/jobs?{query}"), 400)


@requirement("job-list/job-list-success")
def all_filters_must_be_met(server: Server) -> None:
    server.run(values.required(server))
    query = {"processID": server.process, "status": "failed", "datetime": "2000-01-01T00:00:00Z/2000-01-02T00:00:00Z"}
    assert not server.read(f"/jobs?{urlencode(query)}", schemas.JOB_LIST)["jobs"], "one filter is enough"


def _some_pages(server: Server, place: str, most: int) -> list[dict[str, Any]]:
    pages = [server.read(place, schemas.JOB_LIST)]
    while len(pages) < most and (following := hrefs(pages[-1], "next")):
        pages.append(server.read(following[0], schemas.JOB_LIST))
    return pages


def _at(server: Server, interval: str) -> list[dict[str, Any]]:
    return list(server.read(f"/jobs?datetime={quote(interval, safe='')}&limit=1000", schemas.JOB_LIST)["jobs"])


def _none_or_refused(server: Server, place: str) -> None:
    response = server.get(place)
    if response.status_code == 200:
        assert not response.json()["jobs"], f"{place} finds jobs"
    else:
        require_exception(response, 400)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _text(moment: datetime, precision: str = "seconds") -> str:
    return moment.isoformat(timespec=precision)


def _seconds(job: dict[str, Any]) -> float:
    return (_time(job["finished"]) - _time(job["started"])).total_seconds()
