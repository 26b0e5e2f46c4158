"""Webhooks and callbacks: told by real HTTP what happened, signed, until they listen, and never in a job's way."""

import json
import re
import socket
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from services.api import webhooks_schemas as shapes
from services.scheduler import deliverer as deliverers
from services.scheduler.deliverer import Deliverer, delivering
from shared import callbacks, deliveries, metrics, signing, webhooks
from shared.db.models import Audit, Delivery, DeliveryStatus, Job, JobStatus, Result, Webhook
from shared.sending import InvalidTargetError
from tests.factories import make_collection, make_job
from tests.integration.test_api import check_problem, follow
from tests.integration.test_control import has_shape, open_api  # noqa: F401  a fixture
from tests.integration.test_events import end
from tests.receiver import Receiver
from tests.waiting import eventually

NOW = 1_772_424_011


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def job(sessions):
    """The id of a job that runs."""
    with sessions.begin() as session:
        return make_job(session, make_collection(session, "rivers"), tasks=("collect", "export")).id


@pytest.fixture
def deliverer(settings, sessions):
    patient = settings.model_copy(update={"public_url": "https://data.example.org/", "webhook_attempts": 3})
    return Deliverer(patient, sessions, clock=lambda: NOW)


def add(sessions, url, **wanted):
    """Add a webhook; return its id and its secret."""
    with sessions.begin() as session:
        view, secret = webhooks.add_webhook(session, url, actor="ada", **wanted)
    return view.id, secret


def finish(sessions, job_id, *results):
    with sessions.begin() as session:
        end(session, job_id, *(results or (Result.OK, Result.OK)))


def let_come(sessions):
    """Make everything that was put off due."""
    with sessions.begin() as session:
        session.execute(update(Delivery).values(due_at=func.now()))


def outcomes(sessions):
    with sessions() as session:
        rows = session.scalars(select(Delivery).order_by(Delivery.id)).all()
        return [(row.status, row.attempts, row.error) for row in rows]


def told(receiver):
    return [json.loads(one.body)["type"] for one in receiver.received]


# What is sent


def test_the_end_of_a_job_is_told_by_a_signed_message(sessions, receiver, deliverer, job):
    _, secret = add(sessions, f"{receiver.url}/hook")
    finish(sessions, job)
    assert deliverer.run_one()
    assert not deliverer.run_one(), "there is no other"
    (got,) = receiver.received
    body = json.loads(got.body)
    assert body.pop("timestamp").endswith("Z")
    data = {"job_id": job, "source_id": "rivers", "collection_id": 1, "status": "successful"}
    assert body == {"type": "job.succeeded", "data": data | {"link": f"https://data.example.org/jobs/{job}"}}
    assert got.path == "/hook"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-timestamp"] == str(NOW)
    assert re.fullmatch(r"msg_[0-9a-f-]{36}", got.headers["webhook-id"])
    assert got.headers["webhook-signature"] == signing.sign(secret, got.headers["webhook-id"], NOW, got.body)
    assert outcomes(sessions) == [("DELIVERED", 1, "")]


def test_a_signature_is_that_of_the_standards_own_example():
    """https://github.com/standard-webhooks/standard-webhooks: the values of its libraries' tests."""
    secret, message_id, timestamp = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signing.sign(secret, message_id, timestamp, b'{"test": 2432232314}') == signature


def test_the_documented_example_takes_a_true_message_and_no_other(sessions, receiver, deliverer, job):
    _, secret = add(sessions, receiver.url)
    finish(sessions, job)
    deliverer.run_one()
    (got,) = receiver.received
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    scope = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], scope)
    verify = scope["verify"]
    assert verify(secret, got.headers, got.body, now=NOW + 60)
    assert not verify(secret, got.headers, got.body + b" ", now=NOW)
    assert not verify(secret, got.headers, got.body, now=NOW + 3600), "an old one, sent again"
    assert not verify(secret, got.headers | {"webhook-id": "msg_other"}, got.body, now=NOW)
    assert not verify(signing.new_secret(), got.headers, got.body, now=NOW)


def test_a_webhook_is_told_what_it_asked_for_and_of_the_collection_it_asked_for(sessions, receiver, deliverer, job):
    with sessions.begin() as session:
        other = make_job(session, make_collection(session, "other"), tasks=("collect", "export")).id
        third = make_job(session, make_collection(session, "third"), status=JobStatus.PLANNED, tasks=("collect",)).id
    add(sessions, f"{receiver.url}/ends")
    add(sessions, f"{receiver.url}/failures", events=["job.failed"])
    add(sessions, f"{receiver.url}/rivers", events=["job.started", "job.cancelled"], collection="rivers")
    finish(sessions, job, Result.OK, Result.CANCELLED)
    finish(sessions, other, Result.FAILED, Result.SKIPPED)
    with sessions.begin() as session:
        session.get_one(Job, third).status = JobStatus.RUNNING
    while deliverer.run_one():
        pass
    assert sorted((got.path, json.loads(got.body)["type"]) for got in receiver.received) == [
        ("/ends", "job.cancelled"),
        ("/ends", "job.failed"),
        ("/failures", "job.failed"),
        ("/rivers", "job.cancelled"),
    ]


def test_nothing_is_told_of_what_is_rolled_back(sessions, receiver, job):
    add(sessions, receiver.url)
    with sessions() as session:
        end(session, job, Result.OK, Result.OK)
        session.flush()
        session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        session.rollback()
    assert outcomes(sessions) == []


# Until it listens


def test_what_does_not_arrive_comes_again_with_the_same_id_and_body(sessions, receiver, deliverer, job):
    receiver.answers = [500, 302]
    receiver.headers = {"Location": f"{receiver.url}/elsewhere"}
    add(sessions, receiver.url)
    finish(sessions, job)
    deliverer.run_one()
    assert outcomes(sessions) == [("PENDING", 1, "It answered 500 Internal Server Error.")]
    assert not deliverer.run_one(), "not before its delay is over"
    let_come(sessions)
    deliverer.run_one()
    assert outcomes(sessions) == [("PENDING", 2, "It answered 302 Found.")], "a redirect is not followed"
    let_come(sessions)
    deliverer.run_one()
    assert outcomes(sessions) == [("DELIVERED", 3, "")]
    assert len({(got.path, got.headers["webhook-id"], got.body) for got in receiver.received}) == 1


def test_the_delay_grows_and_is_as_long_as_the_receiver_asks(sessions, receiver, deliverer, job):
    receiver.answers, receiver.headers = [503], {"Retry-After": "900"}
    add(sessions, receiver.url)
    finish(sessions, job)
    deliverer.run_one()
    with sessions() as session:
        wait = session.scalar(select(Delivery.due_at - func.now()))
    assert timedelta(minutes=14) < wait <= timedelta(minutes=15)


def test_a_receiver_that_is_not_there_is_tried_so_often_and_given_up(sessions, deliverer, job):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    add(sessions, url)
    finish(sessions, job)
    for _ in range(3):
        assert deliverer.run_one()
        let_come(sessions)
    assert not deliverer.run_one()
    assert outcomes(sessions) == [("GIVEN_UP", 3, "It cannot be told: no connection, or it broke.")]
    with sessions() as session:
        assert session.scalar(select(Job.status)) == JobStatus.COMPLETED


def test_a_receiver_that_says_nothing_is_given_so_long(sessions, settings, job):
    quick = settings.model_copy(update={"webhook_timeout_seconds": 0.05})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        add(sessions, f"http://127.0.0.1:{silent.getsockname()[1]}")
        finish(sessions, job)
        Deliverer(quick, sessions).run_one()
    assert outcomes(sessions) == [("PENDING", 1, "It cannot be told: no answer within 0.05 s.")]


@pytest.mark.parametrize("proxied", [False, True], ids=["", "through a proxy"])
def test_a_receiver_that_never_ends_its_answer_is_left_in_time(sessions, settings, receiver, job, proxied):
    update = {"webhook_timeout_seconds": 0.2}
    if proxied:
        update |= {"outbound_proxy": receiver.url}
    receiver.answers, receiver.drips = [200], True
    add(sessions, "http://rivers.example/" if proxied else receiver.url)
    finish(sessions, job)
    assert Deliverer(settings.model_copy(update=update), sessions).run_one()
    assert outcomes(sessions) == [("PENDING", 1, "It cannot be told: no whole answer within 0.6 s.")]
    assert len(receiver.received) == 1


def test_one_attempt_in_each_delay_is_all_that_a_dead_receiver_costs(sessions, receiver, deliverer, job):
    receiver.answers = [500]
    webhook, _ = add(sessions, receiver.url)
    with sessions.begin() as session:
        for _ in range(5):
            webhooks.plan_test(session, webhook, actor="ada")
    assert deliverer.run_one()
    assert not deliverer.run_one()
    assert len(receiver.received) == 1


def test_a_delivery_of_a_scheduler_that_died_is_made_by_another(sessions, receiver, deliverer, job):
    add(sessions, receiver.url)
    finish(sessions, job)
    with sessions.begin() as session:
        dead = deliveries.claim(session, hold=timedelta(seconds=-1))
    deliverer.run_one()
    assert outcomes(sessions) == [("DELIVERED", 2, "")]
    with sessions.begin() as session:
        deliveries.put_off(session, dead, error="late", delay=timedelta(0))
    assert outcomes(sessions) == [("DELIVERED", 2, "")], "one that wakes up late changes nothing"


def test_a_defect_costs_a_delivery_its_attempts_and_stops_no_other(
    sessions, settings, receiver, deliverer, job, monkeypatch
):
    monkeypatch.setattr(callbacks, "body_of", lambda *_, **__: 1 / 0)
    with sessions.begin() as session:
        callbacks.subscribe(session, job, success_uri=receiver.url, settings=settings)
    finish(sessions, job)
    assert deliverer.run_one()
    assert outcomes(sessions) == [("PENDING", 1, "Unexpected ZeroDivisionError: division by zero")]


def test_what_was_given_up_is_tried_again_when_somebody_asks(sessions, receiver, deliverer, admin, call):
    receiver.answers = [500] * 3
    webhook, _ = add(sessions, receiver.url)
    with sessions.begin() as session:
        webhooks.plan_test(session, webhook, actor="ada")
    check_problem(admin.post("/deliveries/1/retry"), 409)
    for _ in range(3):
        deliverer.run_one()
        let_come(sessions)
    assert outcomes(sessions)[0][:2] == ("GIVEN_UP", 3)
    retried = admin.post("/deliveries/1/retry")
    assert (retried.status_code, retried.json()["status"], retried.json()["attempts"]) == (202, "PENDING", 0)
    deliverer.run_one()
    assert outcomes(sessions) == [("DELIVERED", 1, "")]
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    with sessions.begin() as session:
        session.execute(update(Delivery).values(status="GIVEN_UP"))
    assert json.loads(call("webhook", "retry", "1", "--json").stdout)["status"] == "PENDING"
    assert "choose one that is GIVEN_UP" in call("webhook", "retry", "1", status=1).stderr
    assert "no delivery 9" in call("webhook", "retry", "9", status=1).stderr
    for odd in ("9", "x"):
        check_problem(admin.post(f"/deliveries/{odd}/retry"), 404)
    assert actions(sessions)[-2:] == ["webhook retry"] * 2


# Webhooks that are no use


def test_a_webhook_that_fails_for_days_is_turned_off_and_the_audit_tells(sessions, receiver, deliverer, job):
    receiver.answers = [500, 204, 500, 500]
    webhook, _ = add(sessions, receiver.url)

    def attempt():
        with sessions.begin() as session:
            webhooks.plan_test(session, webhook, actor="ada")
        let_come(sessions)
        deliverer.run_one()
        with sessions() as session:
            view = webhooks.get_webhook(session, webhook)
        return view.active, view.failing_since is not None

    assert attempt() == (True, True)
    with sessions.begin() as session:
        session.execute(update(Webhook).values(failing_since=func.now() - timedelta(days=9)))
    let_come(sessions)
    deliverer.run_one()
    with sessions() as session:
        assert webhooks.get_webhook(session, webhook).failing_since is None, "it arrived"
    assert attempt() == (True, True)
    with sessions.begin() as session:
        session.execute(update(Webhook).values(failing_since=func.now() - timedelta(days=9)))
    assert attempt() == (False, False)
    with sessions() as session:
        last = session.scalars(select(Audit).order_by(Audit.id.desc())).first()
        assert (last.actor, last.action, last.details["webhook"]) == ("scheduler", "webhook disable", webhook)
        assert not session.scalar(select(func.count()).where(Delivery.status == DeliveryStatus.PENDING))


def test_what_is_given_up_with_a_webhook_is_counted_and_says_why(sessions, receiver, deliverer, monkeypatch):
    monkeypatch.setattr(metrics, "_shown", None)
    metrics.enable("scheduler")
    receiver.answers = [410]
    webhook, _ = add(sessions, receiver.url)
    with sessions.begin() as session:
        for _ in range(3):
            webhooks.plan_test(session, webhook, actor="ada")
    deliverer.run_one()
    gone = "It answered 410 Gone."
    turned_off = ("GIVEN_UP", 0, f"The webhook is turned off: {gone}")
    assert outcomes(sessions) == [("GIVEN_UP", 1, gone), turned_off, turned_off]
    text, _ = metrics.exposition("")
    assert b'bowerbird_deliveries_total{outcome="given up",receiver="webhook"} 3.0' in text


def test_a_receiver_that_says_it_is_gone_is_told_nothing_more(sessions, receiver, deliverer, job):
    receiver.answers = [410]
    webhook, _ = add(sessions, receiver.url)
    finish(sessions, job)
    deliverer.run_one()
    assert outcomes(sessions) == [("GIVEN_UP", 1, "It answered 410 Gone.")]
    with sessions() as session:
        assert not webhooks.get_webhook(session, webhook).active


def test_a_webhook_that_is_off_or_removed_is_told_nothing(sessions, receiver, deliverer, job):
    off, _ = add(sessions, receiver.url)
    removed, _ = add(sessions, receiver.url)
    with sessions.begin() as session:
        webhooks.plan_test(session, removed, actor="ada")
        webhooks.turn(session, off, on=False, actor="ada")
        webhooks.remove_webhook(session, removed, actor="ada")
    finish(sessions, job)
    assert not deliverer.run_one()
    assert outcomes(sessions) == [("GIVEN_UP", 0, "The webhook is removed.")]
    with sessions.begin() as session:
        with pytest.raises(webhooks.WebhookError, match="bowerbird webhook enable"):
            webhooks.plan_test(session, off, actor="ada")
        with pytest.raises(webhooks.NoWebhookError, match="bowerbird webhook list"):
            webhooks.get_webhook(session, removed)
        assert webhooks.turn(session, off, on=True, actor="ada").active


def test_one_that_is_removed_while_its_message_is_on_the_way_is_given_up(sessions, receiver, deliverer, job):
    webhook, _ = add(sessions, receiver.url)
    finish(sessions, job)
    with sessions.begin() as session:
        session.query(Webhook).filter_by(id=webhook).delete()
    deliverer.run_one()
    assert outcomes(sessions)[0][0] == "GIVEN_UP"
    assert receiver.received == []


# Secrets


def test_after_a_rotation_both_secrets_sign_for_a_while(sessions, receiver, deliverer):
    webhook, old = add(sessions, receiver.url)

    def signatures():
        with sessions.begin() as session:
            webhooks.plan_test(session, webhook, actor="ada")
        deliverer.run_one()
        got = receiver.received[-1]
        made = {secret: signing.sign(secret, got.headers["webhook-id"], NOW, got.body) for secret in (old, new)}
        return [secret for secret, signature in made.items() if signature in got.headers["webhook-signature"].split()]

    with sessions.begin() as session:
        view, new = webhooks.rotate_secret(session, webhook, actor="ada")
    assert view.old_secret_until is not None
    assert signatures() == [old, new]
    assert told(receiver) == ["webhook.test"]
    with sessions.begin() as session:
        session.execute(update(Webhook).values(old_secret_until=func.now()))
    assert signatures() == [new]


@pytest.mark.parametrize(
    "url", ["", "ftp://x/", "http://", "http://[x", "/hook", "http://a b/", f"http://a/{'x' * 2000}"]
)
def test_what_is_no_address_is_refused(sessions, url):
    with sessions.begin() as session, pytest.raises(InvalidTargetError, match="Write an http"):
        webhooks.add_webhook(session, url, actor="ada")


def test_what_is_not_known_is_refused_by_name(sessions):
    with sessions.begin() as session:
        with pytest.raises(webhooks.WebhookError, match="is no event of a webhook"):
            webhooks.add_webhook(session, "http://x/", events=["job.done"], actor="ada")
        with pytest.raises(webhooks.WebhookError, match="no collection 'nowhere'"):
            webhooks.add_webhook(session, "http://x/", collection="nowhere", actor="ada")


# Callbacks


@pytest.mark.parametrize(
    ("results", "path"), [((Result.OK, Result.OK), "/success"), ((Result.FAILED, Result.SKIPPED), "/failed")]
)
def test_who_asked_for_a_job_is_called_back(sessions, settings, receiver, deliverer, results, path):
    with sessions.begin() as session:
        planned = make_job(session, make_collection(session), status=JobStatus.PLANNED, tasks=("collect", "export")).id
        uris = {"success_uri": "/success", "in_progress_uri": "/progress", "failed_uri": "/failed"}
        urls = {name: receiver.url + value for name, value in uris.items()}
        callbacks.subscribe(session, planned, settings=settings, **urls)
    with sessions.begin() as session:
        session.get_one(Job, planned).status = JobStatus.RUNNING
    finish(sessions, planned, *results)
    while deliverer.run_one():
        pass
    assert [got.path for got in receiver.received] == ["/progress", path]
    assert "webhook-signature" not in receiver.received[0].headers
    started, ended = (json.loads(got.body) for got in receiver.received)
    assert (started["jobID"], started["status"]) == (str(planned), path[1:].replace("success", "successful")), (
        "as it is"
    )
    if path == "/success":
        assert set(ended) == {"files", "summary", "coverage"}
    else:
        assert ended["type"].endswith("/problems/process-failed")


def test_a_subscriber_that_is_not_there_neither_fails_nor_delays_the_job_and_one_that_is_left_out_is_not_called(
    sessions, settings, receiver, deliverer, job
):
    with sessions.begin() as session:
        callbacks.subscribe(session, job, success_uri="http://127.0.0.1:1/", settings=settings)
    finish(sessions, job, Result.FAILED, Result.SKIPPED)
    with sessions() as session:
        assert session.get_one(Job, job).status == JobStatus.COMPLETED
    assert outcomes(sessions) == []


def test_of_a_job_that_is_deleted_nothing_is_told(sessions, settings, receiver, deliverer, job):
    with sessions.begin() as session:
        callbacks.subscribe(session, job, success_uri=receiver.url, settings=settings)
    finish(sessions, job)
    with sessions.begin() as session:
        session.query(Job).filter_by(id=job).delete()
    deliverer.run_one()
    assert outcomes(sessions) == [("GIVEN_UP", 1, "The job is deleted: nothing is left to be told of it.")]


# Beside the scheduler


def test_threads_of_the_scheduler_deliver_until_it_stops(sessions, settings, database_url, receiver, job, monkeypatch):
    monkeypatch.setattr(deliverers, "LOOK_SECONDS", 0.05)
    add(sessions, receiver.url)
    with delivering(settings, database_url):
        finish(sessions, job)
        eventually(lambda: outcomes(sessions)[0][0] == "DELIVERED")
    assert not any(thread.name == "deliveries" for thread in threading.enumerate())


def test_old_deliveries_go_and_pending_ones_stay(sessions, monkeypatch):
    monkeypatch.setattr(deliveries, "PRUNED_AT_ONCE", 2)
    with sessions.begin() as session:
        for status, age in (("DELIVERED", 9), ("GIVEN_UP", 9), ("DELIVERED", 1), ("PENDING", 9)):
            row = Delivery(message_id=signing.new_message_id(), type="webhook.test", webhook_id=1, status=status)
            row.ended = func.now() - timedelta(days=age) if status != "PENDING" else None
            session.add(row)
            session.flush()
    with sessions.begin() as session:
        assert deliveries.prune(session, age=timedelta(days=7))
        assert not deliveries.prune(session, age=timedelta(days=7))
        assert [row.status for row in deliveries.list_deliveries(session, limit=9)] == ["PENDING", "DELIVERED"]
        assert [row.id for row in deliveries.list_deliveries(session, limit=9, before=4)] == [3]


# The command


def actions(sessions):
    with sessions() as session:
        return session.scalars(select(Audit.action).where(~Audit.action.startswith("key ")).order_by(Audit.id)).all()


def test_the_command_adds_tests_rotates_and_removes_a_webhook(call, sessions, receiver, deliverer):
    added = call("webhook", "add", f"http://me:secret@{receiver.url.removeprefix('http://')}/", "--event", "job.failed")
    secret = added.stdout.strip()
    assert secret.startswith("whsec_")
    assert "not shown again" in added.stderr
    listed = call("webhook", "list").stdout
    assert "job.failed" in listed
    assert secret not in listed
    assert "me:secret@" not in listed
    call("webhook", "test", "1")
    deliverer.run_one()
    assert told(receiver) == ["webhook.test"]
    (delivery,) = json.loads(call("webhook", "deliveries", "1", "--status", "delivered", "--json").stdout)
    assert (delivery["type"], delivery["status"]) == ("webhook.test", "DELIVERED")
    assert "webhook 1" in call("webhook", "deliveries").stdout
    rotated = call("webhook", "rotate", "1", "--grace", "0s")
    assert rotated.stdout.strip() != secret
    call("webhook", "disable", "1")
    assert "Turn it on" in call("webhook", "test", "1", status=1).stderr
    call("webhook", "enable", "1")
    call("webhook", "remove", "1")
    assert "No webhooks" in call("webhook", "list").stderr
    steps = ("add", "test", "rotate", "disable", "enable", "remove")
    assert actions(sessions) == [f"webhook {step}" for step in steps]


def test_the_command_answers_programs(call, sessions):
    view = json.loads(call("webhook", "add", "http://x.example/", "--json").stdout)
    assert (view["events"], view["secret"][:6]) == (list(webhooks.ENDS), "whsec_")
    assert [one["id"] for one in json.loads(call("webhook", "list", "--json").stdout)] == [1]
    assert json.loads(call("webhook", "test", "1", "--json").stdout)["status"] == "PENDING"
    assert json.loads(call("webhook", "disable", "1", "--json").stdout)["active"] is False
    assert json.loads(call("webhook", "remove", "1", "--json").stdout) == {"id": 1, "removed": True}


def test_the_command_says_what_is_wrong(call, sessions):
    assert "is no http(s):// URL" in call("webhook", "add", "ftp://x/", status=1).stderr
    assert "no webhook 9" in call("webhook", "remove", "9", status=1).stderr
    assert "is no status of a delivery" in call("webhook", "deliveries", "--status", "lost", status=2).stderr
    assert "is no time" in call("webhook", "rotate", "1", "--grace", "soon", status=2).stderr


# Over HTTP


@pytest.fixture
def admin(settings, open_api):  # noqa: F811
    return open_api(settings, "admin")


def test_over_http_a_webhook_is_added_tested_rotated_and_removed(admin, sessions, receiver, deliverer, job):
    body = {"url": receiver.url, "events": ["job.failed"], "collection": "rivers"}
    first = admin.post("/webhooks", json=body, headers={"Idempotency-Key": '"a"'})
    assert first.status_code == 201
    added = has_shape(first, shapes.WebhookSecret)
    assert first.headers["Location"].endswith("/webhooks/1")
    assert (added.source_id, added.created_by) == ("rivers", "key:admin-key")
    again = admin.post("/webhooks", json=body, headers={"Idempotency-Key": '"a"'})
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
    assert "secret" not in admin.get("/webhooks").json()["items"][0]
    assert "secret" not in has_shape(admin.get("/webhooks/1"), shapes.WebhookResource).model_dump()
    assert admin.post("/webhooks/1/test").status_code == 202
    deliverer.run_one()
    got = receiver.received[0]
    signature = signing.sign(added.secret, got.headers["webhook-id"], NOW, got.body)
    assert got.headers["webhook-signature"] == signature
    page = has_shape(admin.get("/deliveries?webhook=1&status=DELIVERED"), shapes.DeliveryPage)
    assert [item.message_id for item in page.items] == [got.headers["webhook-id"]]
    rotated = has_shape(admin.post("/webhooks/1/rotate", json={"grace": "2h"}), shapes.WebhookSecret)
    assert rotated.secret != added.secret
    assert has_shape(admin.patch("/webhooks/1", json={"active": False}), shapes.WebhookResource).active is False
    check_problem(admin.post("/webhooks/1/test"), 409)
    assert admin.delete("/webhooks/1").json() == {"id": 1}
    for method, path in (("get", ""), ("delete", ""), ("post", "/test"), ("post", "/rotate")):
        check_problem(getattr(admin, method)(f"/webhooks/1{path}"), 404)
    check_problem(admin.get("/webhooks/x"), 404)
    check_problem(admin.patch("/webhooks/1", json={"active": True}), 404)
    assert actions(sessions) == [f"webhook {step}" for step in ("add", "test", "rotate", "disable", "remove")]


def test_deliveries_come_in_pages(admin, sessions):
    webhook, _ = add(sessions, "http://x.example/")
    for _ in range(3):
        with sessions.begin() as session:
            webhooks.plan_test(session, webhook, actor="ada")
    first = admin.get("/deliveries?limit=2")
    assert [item["id"] for item in first.json()["items"]] == [3, 2]
    assert [item["id"] for item in follow(admin, first).json()["items"]] == [1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "url: Field required"),
        ({"url": "file:///etc/passwd"}, "is no http(s):// URL"),
        ({"url": "http://x/", "events": ["job.done"]}, "is no event of a webhook"),
        ({"url": "http://x/", "collection": "nowhere"}, "no collection 'nowhere'"),
        ({"url": "http://x/", "secret": "mine"}, "there is no such member"),
    ],
)
def test_over_http_what_is_not_possible_is_refused_by_name(admin, body, words):
    assert words in check_problem(admin.post("/webhooks", json=body), 422)["detail"]


def test_only_an_administrator_says_who_is_told(settings, open_api, sessions):  # noqa: F811
    operator = open_api(settings, "operate")
    add(sessions, "http://x.example/")
    check_problem(operator.post("/webhooks", json={"url": "http://x.example/"}), 403)
    check_problem(operator.post("/webhooks/1/rotate"), 403)
    check_problem(operator.patch("/webhooks/1", json={"active": False}), 403)
    check_problem(operator.delete("/webhooks/1"), 403)
    assert operator.get("/webhooks").status_code == 200
    assert operator.post("/webhooks/1/test").status_code == 202
    reader = open_api(settings, "read")
    check_problem(reader.post("/webhooks/1/test"), 403)
    assert reader.get("/deliveries").status_code == 200
