"""Streams of events, over a real socket: complete, resumable, bounded, and over when they should be."""

import asyncio
import contextlib
import json
import signal
import socket
import threading

import httpx
import pytest
import uvicorn
from sqlalchemy import func, text

from services.api import feed, streams
from services.api.app import create_app
from services.api.feed import Choice, Subscription
from shared import events
from shared.db.models import Event, KeyScope, Result, Task, TaskStatus, Unit, UnitStatus
from shared.keys import create_key
from shared.settings import Settings
from tests.factories import make_collection, make_job, make_unit
from tests.integration.test_api import check_problem, process  # noqa: F401  a fixture
from tests.integration.test_events import end
from tests.waiting import eventually


@contextlib.contextmanager
def served(settings, database_url):
    """Run the API in a thread; yield its address."""
    app = create_app(settings, database_url)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, what="the server listens")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        app.state.live.feed.close()
        server.should_exit = True
        thread.join()


@pytest.fixture
def url(settings, database_url, sessions):
    """The address of an API."""
    with served(settings, database_url) as address:
        yield address


@pytest.fixture
def job(sessions):
    """The id of a job that runs."""
    with sessions.begin() as session:
        return make_job(session, make_collection(session, "rivers"), tasks=("collect", "export")).id


class Stream:
    """What comes over one connection."""

    def __init__(self, response):
        self.response = response
        self.messages = self._messages()

    def _messages(self):
        fields = {}
        for line in self.response.iter_lines():
            if line.startswith(":"):
                yield {"comment": line[1:].strip()}
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                yield fields
                fields = {}

    def next(self, name=None):
        """Return the next message; with a name, the next of that, with its data read."""
        found = next(self.messages)
        while name is not None and found.get("event") != name:
            found = next(self.messages)
        return found | ({"data": json.loads(found["data"])} if "data" in found else {})

    def rest(self):
        """Return what comes until the end."""
        return [one.get("event") for one in self.messages]


@contextlib.contextmanager
def opened(url, path="/events", **headers):
    """Open a stream; what it begins with is read."""
    with (
        httpx.Client(timeout=30, trust_env=False) as client,
        client.stream("GET", f"{url}{path}", headers=headers) as response,
    ):
        if response.status_code != 200:
            response.read()
        stream = Stream(response)
        if response.status_code == 200:
            stream.begin = stream.next()
        yield stream


def get(url, path="/events", method="GET", **headers):
    with httpx.Client(timeout=30, trust_env=False) as client:
        return client.request(method, f"{url}{path}", headers=headers)


def run_task(sessions, job_id, status=TaskStatus.RUNNING):
    with sessions.begin() as session:
        session.query(Task).filter_by(job_id=job_id, type="collect").one().status = status


def finish(sessions, job_id):
    with sessions.begin() as session:
        end(session, job_id, Result.OK, Result.OK)


# What comes


def test_a_stream_tells_what_happens_with_an_id_a_time_and_a_link(url, sessions, job):
    with opened(url) as stream:
        headers = stream.response.headers
        assert headers["Content-Type"].startswith("text/event-stream")
        assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-cache", "no")
        assert stream.begin == {"retry": "3000", "id": "0"}
        run_task(sessions, job)
        message = stream.next()
        assert (message["event"], message["id"]) == ("task", "1")
        assert message["data"].pop("time").endswith("Z")
        assert message["data"] == {
            "job_id": job,
            "collection_id": 1,
            "source_id": "rivers",
            "status": "RUNNING",
            "result": "",
            "task": "collect",
            "link": f"{url}/jobs/{job}",
        }
        finish(sessions, job)
        assert [stream.next("task")["data"]["status"] for _ in range(2)] == ["COMPLETED"] * 2
        ended = stream.next()
        assert (ended["event"], ended["data"]["status"]) == ("job", "successful")


def test_one_connection_listens_for_however_many_clients(url, sessions, job):
    name = text("SELECT pid FROM pg_stat_activity WHERE application_name = 'bowerbird api events'")
    with contextlib.ExitStack() as stack, sessions() as session:
        others = set(session.scalars(name))  # of applications of other tests, on their way out
        session.rollback()
        opened_streams = [stack.enter_context(opened(url)) for _ in range(5)]
        run_task(sessions, job)
        assert {stream.next()["id"] for stream in opened_streams} == {"1"}
        assert len(set(session.scalars(name)) - others) <= 1, "not one for each client"


def test_the_public_sees_events_of_public_collections_and_a_key_all(url, sessions, job):
    with sessions.begin() as session:
        hidden = make_job(session, make_collection(session, "hidden", public=False), tasks=("collect",)).id
        _, key = create_key(session, "me", scope=KeyScope.READ, actor="ada")
    authorization = f"Bearer {key}"
    with opened(url) as public, opened(url, Authorization=authorization) as operator:
        run_task(sessions, hidden)
        run_task(sessions, job)
        assert public.next()["data"]["source_id"] == "rivers"
        assert [operator.next()["data"]["source_id"] for _ in range(2)] == ["hidden", "rivers"]
    with (
        opened(url, last := "/events?last_event_id=0") as public,
        opened(url, last, Authorization=authorization) as all_,
    ):
        assert public.next()["id"] == "2"
        assert all_.next()["id"] == "1"
    assert check_problem(get(url, f"/jobs/{hidden}/events"), 404)
    assert check_problem(get(url, "/events?collection=hidden"), 404)
    assert check_problem(get(url, "/events", Authorization="Bearer nonsense"), 401)


def test_collection_and_job_narrow_a_stream(url, sessions, job):
    with sessions.begin() as session:
        other = make_job(session, make_collection(session, "other"), tasks=("collect",)).id
    with opened(url, "/events?collection=other") as collection, opened(url, f"/events?job={job}") as one:
        run_task(sessions, other)
        run_task(sessions, job)
        assert collection.next()["data"]["job_id"] == other
        assert one.next()["data"]["job_id"] == job


def test_a_head_is_answered_with_the_headers_alone(url, sessions, job):
    for path in ("/events", f"/jobs/{job}/events"):
        answer = get(url, path, method="HEAD")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["Content-Type"].startswith("text/event-stream")


# Coming again


def test_a_client_that_comes_again_gets_what_it_missed_and_then_what_happens(url, sessions, job):
    run_task(sessions, job)
    run_task(sessions, job, TaskStatus.PLANNED)
    with opened(url, **{"Last-Event-ID": "1"}) as stream:
        assert stream.begin["id"] == "1"
        assert stream.next()["id"] == "2"
        run_task(sessions, job)
        assert stream.next()["id"] == "3"


def test_what_was_missed_is_read_in_pages_each_event_once(url, sessions, job, monkeypatch):
    monkeypatch.setattr(streams.events, "PAGE", 2)
    for status in (TaskStatus.RUNNING, TaskStatus.PLANNED) * 3:
        run_task(sessions, job, status)
    with opened(url, "/events?last_event_id=0") as stream:
        run_task(sessions, job)
        assert [stream.next()["id"] for _ in range(7)] == [str(number) for number in range(1, 8)]


def test_what_happens_while_a_client_catches_up_is_sent_once(url, sessions, job, monkeypatch):
    """The log has it by then, and the feed hands it out, too."""
    read, happened = streams.EventStream._page, []

    def page(stream, after):
        if not happened:
            happened.append(run_task(sessions, job))
        return read(stream, after)

    monkeypatch.setattr(streams.EventStream, "_page", page)
    with opened(url) as stream:
        assert stream.next()["id"] == "1"
        run_task(sessions, job, TaskStatus.PLANNED)
        assert stream.next()["id"] == "2"


def test_a_stream_that_does_not_follow_ends_after_what_has_happened(url, sessions, job):
    finish(sessions, job)
    with opened(url, "/events?last_event_id=1&follow=false") as stream:
        assert stream.rest() == ["task", "job"]


@pytest.mark.parametrize("last", ["1", "99"])
def test_a_log_that_does_not_reach_back_so_far_says_so(url, sessions, job, last):
    for status in (TaskStatus.RUNNING, TaskStatus.PLANNED, TaskStatus.RUNNING):
        run_task(sessions, job, status)
    with sessions.begin() as session:
        session.query(Event).filter(Event.id < 3).delete()
    with opened(url, **{"Last-Event-ID": last}) as stream:
        assert stream.begin["id"] == "3", "what happens from now on"
        assert "read the state anew" in stream.next("reset")["data"]["reason"]
        run_task(sessions, job, TaskStatus.PLANNED)
        assert stream.next()["id"] == "4"


def test_an_id_that_is_none_is_refused_by_name(url, sessions):
    for path, headers, name in (
        ("/events?last_event_id=x", {}, "last_event_id"),
        ("/events", {"Last-Event-ID": "-1"}, "Last-Event-ID"),
    ):
        assert check_problem(get(url, path, **headers), 400)["detail"].startswith(name)


# One job


def test_a_stream_of_a_job_begins_with_its_state_and_ends_with_it(url, sessions, job):
    with opened(url, f"/jobs/{job}/events") as stream:
        first = stream.next()
        assert (first["event"], first["data"]["status"], "id" in first) == ("job", "running", False)
        finish(sessions, job)
        assert stream.rest() == ["task", "task", "job"]
    with opened(url, f"/jobs/{job}/events") as again:
        assert again.next()["data"]["status"] == "successful"
        assert again.rest() == []


def test_a_browser_that_comes_again_after_the_end_is_told_to_stay_away(url, sessions, job):
    finish(sessions, job)
    assert get(url, f"/jobs/{job}/events", **{"Last-Event-ID": "3"}).status_code == 204
    with opened(url, f"/jobs/{job}/events", **{"Last-Event-ID": "2"}) as stream:
        assert stream.rest() == ["job"], "it has not seen the end"


def test_a_client_of_a_job_that_missed_too_much_is_given_its_state(url, sessions, job):
    run_task(sessions, job)
    with opened(url, f"/jobs/{job}/events", **{"Last-Event-ID": "7"}) as stream:
        assert stream.next()["event"] == "reset"
        assert stream.next()["data"]["status"] == "running"


def test_progress_of_a_job_is_told_when_it_changes(url, sessions, job, monkeypatch):
    monkeypatch.setattr(streams, "PROGRESS_SECONDS", 0.05)
    with sessions.begin() as session:
        task = session.query(Task).filter_by(job_id=job, type="collect").one()
        task.status = TaskStatus.RUNNING
        unit = make_unit(
            task, status=UnitStatus.RUNNING, start=func.now(), progress={"done": 1, "total": 9, "of": "records"}
        )
        session.add(unit)
    with opened(url, f"/jobs/{job}/events") as stream:
        told = stream.next("progress")
        assert "id" not in told
        assert told["data"] == {
            "job_id": job,
            "tasks": [{"task": "collect", "done": 1, "total": 9, "of": "records"}],
        }
        with sessions.begin() as session:
            session.query(Unit).one().progress = {"done": 5, "total": 9, "of": "records"}
        assert stream.next("progress")["data"]["tasks"][0]["done"] == 5


def test_a_silent_stream_is_kept_alive(url, sessions, monkeypatch):
    monkeypatch.setattr(streams, "PROGRESS_SECONDS", 0.02)
    monkeypatch.setattr(streams, "KEEP_ALIVE_SECONDS", 0.02)
    with opened(url) as stream:
        assert stream.next() == {"comment": "still here"}


def test_a_stream_ends_after_a_while_so_that_a_revoked_key_is_found_out(url, sessions, monkeypatch):
    monkeypatch.setattr(streams, "PROGRESS_SECONDS", 0.02)
    monkeypatch.setattr(streams, "STREAM_SECONDS", 0.05)
    with opened(url) as stream:
        assert stream.rest() == []


# Bounds


def test_an_address_and_a_process_have_so_many_streams_and_no_more(settings, database_url, sessions):
    few = settings.model_copy(update={"api_streams": 3, "api_streams_per_address": 2})
    with served(few, database_url) as url:
        with opened(url), opened(url):
            problem = get(url)
            assert check_problem(problem, 429)["type"] == f"{url}/problems/too-many-streams"
            assert problem.headers["Retry-After"] == "30"
        eventually(lambda: get(url, "/events?last_event_id=9999999", method="HEAD").status_code == 200)
        eventually(lambda: has_room(url), what="the places are free again")
    with served(few.model_copy(update={"api_streams": 1}), database_url) as url, opened(url):
        problem = get(url)
        assert check_problem(problem, 503)["detail"].startswith("This service has all")
        assert problem.headers["Retry-After"] == "30"


def has_room(url):
    with opened(url) as stream:
        return stream.response.status_code == 200


def test_a_client_that_takes_too_little_is_ended_and_not_kept_for(monkeypatch, sessions, job):
    monkeypatch.setattr(feed, "MOST_WAITING", 2)
    for status in (TaskStatus.RUNNING, TaskStatus.PLANNED, TaskStatus.RUNNING):
        run_task(sessions, job, status)
    with sessions() as session:
        found = events.read_events(session, after=0)

    async def overflow():
        subscription = Subscription(Choice(public_only=True))
        subscription.offer(found[:2])
        assert not subscription.ended
        subscription.offer(found[2:])
        assert subscription.ended
        return await subscription.take(0)

    assert asyncio.run(overflow()) == found[:2], "what was there is sent still"


def test_a_client_that_takes_nothing_is_cut_off(monkeypatch):
    monkeypatch.setattr(streams, "SEND_SECONDS", 0.01)

    async def never(_message):
        await asyncio.Event().wait()

    with pytest.raises(streams.SlowClientError):
        asyncio.run(streams._patient(never)({"type": "http.response.body"}))


def test_a_client_that_stops_reading_loses_its_place_and_keeps_nothing_up(
    settings, database_url, sessions, job, monkeypatch
):
    monkeypatch.setattr(streams, "SEND_SECONDS", 0.2)
    with sessions.begin() as session:  # more than all the buffers between the two hold
        row = "INSERT INTO event (type, job_id, collection_id, status) SELECT 'job', 1, 1, 'RUNNING'"
        session.execute(text(f"{row} FROM generate_series(1, 60000)"))
    with served(settings.model_copy(update={"api_streams_per_address": 1}), database_url) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as idle:
            idle.sendall(b"GET /events?last_event_id=0 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(100).startswith(b"HTTP/1.1 200")
            eventually(lambda: has_room(url), what="its place is free again")


# Ends and outages


def test_streams_end_when_the_process_is_asked_to_stop(process, sessions, job):  # noqa: F811
    service = process(BOWERBIRD_GRACE_SECONDS="60")
    with opened(service.address()) as stream:
        service.process.send_signal(signal.SIGTERM)
        assert stream.rest() == []
    assert service.end() == 0


def test_nothing_is_missed_while_the_connection_to_the_database_is_lost(url, sessions, job):
    with opened(url) as stream:
        run_task(sessions, job)
        assert stream.next()["id"] == "1"
        with sessions.begin() as session:
            kill = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bowerbird api events'"
            )
            session.execute(text(kill))
        for status in (TaskStatus.PLANNED, TaskStatus.RUNNING):
            run_task(sessions, job, status)
        assert [stream.next()["id"] for _ in range(2)] == ["2", "3"]


def test_without_a_database_a_stream_is_refused_for_now(monkeypatch, tmp_path):
    monkeypatch.setattr(streams, "BEGIN_SECONDS", 0.05)
    with served(Settings(data_dir=tmp_path), "postgresql://nobody@127.0.0.1:1/none") as url:
        answer = get(url)
        assert check_problem(answer, 503)["detail"].startswith("The database cannot be reached")
        assert answer.headers["Retry-After"]
