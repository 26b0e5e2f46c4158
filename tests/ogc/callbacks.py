"""Subscribers are told of a job by a POST of JSON."""

import json
import time
from typing import Any

from tests.ogc import schemas, values
from tests.ogc.checks import requirement
from tests.ogc.receiver import Receiver, receiver
from tests.ogc.server import Server, require_exception

PATIENCE_SECONDS = 20
SUCCESS, PROGRESS, FAILURE = "/success", "/progress", "/failure"


@requirement("callback/job-callback")
def success_is_told_with_the_results(server: Server) -> None:
    with receiver() as subscriber:
        text = values.text_input(server)
        outputs = {text: {}} if text in server.description["outputs"] else {}
        job = server.run(
            values.required(server), response="document", subscriber=_subscriber(subscriber), outputs=outputs or None
        )
        document = _told(subscriber, SUCCESS)
        schemas.require(document, schemas.RESULTS, "what the subscriber was sent")
        assert document == server.read(f"{job}/results"), "the subscriber was sent other results than can be read"
        assert not subscriber.sent_to(FAILURE), "success was told as failure, too"


@requirement("callback/job-callback")
def failure_is_told_as_an_exception(server: Server) -> None:
    with receiver() as subscriber:
        server.wait(server.start(values.failing(server), subscriber=_subscriber(subscriber)))
        schemas.require(_told(subscriber, FAILURE), schemas.EXCEPTION, "what the subscriber was sent")
        assert not subscriber.sent_to(SUCCESS), "failure was told as success, too"


@requirement("callback/job-callback")
def progress_is_told_with_the_status(server: Server) -> None:
    with receiver() as subscriber:
        job = server.start(values.slow(server, 2), subscriber=_subscriber(subscriber))
        status = _told(subscriber, PROGRESS)
        schemas.require(status, schemas.STATUS, "what the subscriber was sent")
        assert job.endswith(status["jobID"]), f"the subscriber was told of job {status['jobID']}"
        server.wait(job)


@requirement("callback/job-callback")
def subscribers_that_are_away_harm_nothing(server: Server) -> None:
    with receiver() as gone:
        pass
    job = server.run(values.required(server), subscriber=_subscriber(gone))
    assert server.read(job, schemas.STATUS)["status"] == "successful"


@requirement("callback/job-callback")
def what_is_no_address_is_refused(server: Server) -> None:
    for uri in ("nothing", "file:///tmp/x", 4711):
        response = server.execute(
            values.required(server), prefer="respond-async", response="document", subscriber={"successUri": uri}
        )
        require_exception(response, 400)


def _subscriber(subscriber: Receiver) -> dict[str, str]:
    url = subscriber.url
    return {"successUri": url + SUCCESS, "inProgressUri": url + PROGRESS, "failedUri": url + FAILURE}


def _told(subscriber: Receiver, path: str) -> Any:
    """Wait until something is sent to a path; return it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (sent := subscriber.sent_to(path)):
        others = ", ".join(place for place, *_ in subscriber.received) or "nothing"
        assert time.monotonic() < deadline, f"nothing was sent to {path}; elsewhere: {others}"
        time.sleep(0.1)
    media_type, body = sent[0]
    assert media_type == "application/json", f"the subscriber was sent {media_type}, not JSON"
    return json.loads(body)
