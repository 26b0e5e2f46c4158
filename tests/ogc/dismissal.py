"""Dismissing jobs."""

from tests.ogc import schemas, values
from tests.ogc.checks import requirement
from tests.ogc.jobs import UNKNOWN
from tests.ogc.server import OVER, Server, require_exception, said


@requirement("dismiss/job-dismiss-op", "dismiss/job-dismiss-success")
def a_job_that_is_not_over_is_dismissed_and_stays_visible(server: Server) -> None:
    job = server.start(values.slow(server, 20))
    response = server.ask("DELETE", job)
    assert response.status_code == 200, f"DELETE is {said(response)}, and should be 200"
    schemas.require(response.json(), schemas.STATUS, "the answer")
    assert response.json()["status"] == "dismissed", f"the job is {response.json()['status']}"
    assert server.read(job, schemas.STATUS)["status"] == "dismissed", "the job is not dismissed when it is read again"
    results = server.get(f"{job}/results")
    require_exception(results, 404, 410)


@requirement("dismiss/job-dismiss-success")
def a_running_job_is_dismissed(server: Server) -> None:
    job = server.start(values.slow(server, 20))
    server.wait(job, "running")
    assert server.ask("DELETE", job).json().get("status") == "dismissed"
    ids = [each["jobID"] for each in server.read("/jobs?status=dismissed", schemas.JOB_LIST)["jobs"]]
    assert job.rpartition("/")[2] in ids, "a dismissed job is not on the list of dismissed ones"


@requirement("dismiss/job-dismiss-success")
def what_is_dismissed_stays_so(server: Server) -> None:
    job = server.start(values.slow(server, 2))
    server.ask("DELETE", job)
    server.run(values.slow(server, 3))  # begun later and of longer: the other's work would be over by now
    assert server.read(job, schemas.STATUS)["status"] == "dismissed", "a dismissed job came back to life"


@requirement("dismiss/job-dismiss-success")
def a_job_that_is_over_is_removed(server: Server) -> None:
    for job in (server.run(values.required(server)), server.start(values.failing(server))):
        assert server.wait(job)["status"] in OVER
        response = server.ask("DELETE", job)
        assert response.status_code == 200, f"DELETE is {said(response)}, and should be 200"
        assert response.json()["status"] == "dismissed", f"the job is {response.json()['status']}"
        require_exception(server.get(job), 404, 410)
        require_exception(server.get(f"{job}/results"), 404, 410)
        require_exception(server.ask("DELETE", job), 404, 410)


@requirement("dismiss/job-dismiss-success")
def a_dismissed_job_is_removed_when_it_is_dismissed_again(server: Server) -> None:
    job = server.start(values.slow(server, 20))
    server.ask("DELETE", job)
    response = server.ask("DELETE", job)
    assert response.status_code == 200, f"the second DELETE is {said(response)}, and should be 200"
    require_exception(server.get(job), 404, 410)


@requirement("dismiss/job-dismiss-op", "core/job-exception-no-such-job")
def a_job_that_is_not_there_cannot_be_dismissed(server: Server) -> None:
    for unknown in UNKNOWN:
        require_exception(server.ask("DELETE", f"/jobs/{unknown}"), 404, kind="no-such-job")


@requirement("dismiss/job-dismiss-op")
def the_process_says_that_its_jobs_can_be_dismissed(server: Server) -> None:
    assert server.offers("dismiss"), "jobControlOptions has no dismiss"
