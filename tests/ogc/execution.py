"""Executing a process: inputs in every form, and when the answer comes."""

import json
from typing import Any

import requests

from tests.ogc import schemas, values
from tests.ogc.checks import NotOfferedError, requirement
from tests.ogc.receiver import receiver
from tests.ogc.server import Server, link_headers, require_exception, require_json, said


def echoed(server: Server, name: str, given: Any, expected: Any) -> None:
    """Assert that an input is taken, and comes back as the output of the same name if there is one."""
    response = server.execute(values.required(server) | {name: given}, response="document")
    assert response.status_code in (200, 201), f"{name} as {given!r:.100} is {said(response)}"
    if name in server.description["outputs"]:
        status = 200 if response.status_code == 200 else server.wait(response.headers["Location"])["status"]
        assert status in (200, "successful"), f"the job is {status}"
        document = response.json() if status == 200 else server.read(response.headers["Location"] + "/results")
        assert name in document, f"there is no output {name}, which was given as {given!r:.100}"
        came = values.unwrapped(document[name])
        assert came == expected, f"{name}: {expected!r:.100} was given, and {came!r:.100} came back"


def of_kind(server: Server, fits: Any, what: str) -> tuple[str, Any]:
    """Return the name of an input and a value for it."""
    name = values.find(server, lambda each: fits(each["schema"]), what)
    return name, values.possible(server.description["inputs"][name]["schema"])


@requirement("core/process-execute-op", "core/process-execute-request", "core/process-execute-inputs")
def it_executes(server: Server) -> None:
    response = server.execute(values.required(server), response="document")
    assert response.status_code in (200, 201), f"an execution with all that is required is {said(response)}"
    require_json(response)


@requirement("core/process-execute-inputs")
def a_text_comes_back_as_it_was(server: Server) -> None:
    echoed(server, values.text_input(server), "Grüße, 你好 \"' <&>\n\t", "Grüße, 你好 \"' <&>\n\t")
    echoed(server, values.text_input(server), {"value": "qualified"}, "qualified")


@requirement("core/process-execute-input-array")
def several_values_are_an_array_and_one_may_stand_alone(server: Server) -> None:
    name = values.find(server, lambda each: each.get("maxOccurs", 1) != 1, "of several values")
    value = values.possible(server.description["inputs"][name]["schema"])
    echoed(server, name, [value, value], [value, value])
    echoed(server, name, [value], [value])
    echoed(server, name, value, [value])
    echoed(server, name, [{"value": value}, value], [value, value])


@requirement("core/process-execute-input-inline-object")
def an_object_is_taken_as_a_qualified_value(server: Server) -> None:
    name, value = of_kind(server, values.is_object, "an object")
    echoed(server, name, {"value": value}, value)
    echoed(server, name, {"value": value, "mediaType": "application/json"}, value)
    echoed(server, name, {"value": value, "format": {"mediaType": "application/json"}}, value)


@requirement("core/process-execute-input-mixed-type")
def a_value_of_each_of_several_types_is_taken(server: Server) -> None:
    name, _ = of_kind(server, values.is_mixed, "of several types")
    for branch in server.description["inputs"][name]["schema"]["oneOf"]:
        value = values.possible(branch)
        echoed(server, name, {"value": value}, value)


@requirement("core/process-execute-input-inline-binary")
def bytes_are_taken_in_base64(server: Server) -> None:
    name, value = of_kind(server, values.is_binary, "bytes")
    echoed(server, name, value, value)
    echoed(server, name, {"value": value, "encoding": "base64", "mediaType": "application/octet-stream"}, value)


@requirement("core/process-execute-input-inline-bbox")
def a_bounding_box_is_taken(server: Server) -> None:
    name, value = of_kind(server, values.is_bbox, "a bounding box")
    echoed(server, name, value, value)
    echoed(server, name, {"bbox": [1, 2, 3, 4, 5, 6]}, {"bbox": [1, 2, 3, 4, 5, 6]})


@requirement("core/process-execute-inputs")
def an_input_is_fetched_by_reference(server: Server) -> None:
    with receiver() as elsewhere:
        text = elsewhere.offer("/text", b"from elsewhere", "text/plain")
        echoed(server, values.text_input(server), {"href": text, "type": "text/plain"}, "from elsewhere")
        name, value = of_kind(server, values.is_object, "an object")
        place = elsewhere.offer("/object", json.dumps(value).encode(), "application/json")
        echoed(server, name, {"href": place, "type": "application/json"}, value)


@requirement("core/process-execute-input-validation")
def what_is_fetched_is_judged_as_if_it_had_been_sent(server: Server) -> None:
    with receiver() as elsewhere:
        name, _ = of_kind(server, values.is_object, "an object")
        wrong = elsewhere.offer("/wrong", b"4711", "application/json")
        _refused(server, values.required(server) | {name: {"href": wrong, "type": "application/json"}}, name)
        missing = elsewhere.url + "/missing"
        _refused(server, values.required(server) | {name: {"href": missing}}, name)
    _refused(server, values.required(server) | {name: {"href": "file:///etc/passwd"}}, name)


@requirement("core/process-execute-input-validation")
def a_value_that_does_not_fit_is_refused_and_named(server: Server) -> None:
    for name, each in server.description["inputs"].items():
        given = values.wrong(each["schema"])
        _refused(server, values.required(server) | {name: {"value": given}}, name)


@requirement("core/process-execute-input-validation")
def too_many_and_too_few_values_are_refused(server: Server) -> None:
    name = values.text_input(server)
    _refused(server, values.required(server) | {name: ["one", "two"]}, name)
    for required in values.required(server):
        given = {other: value for other, value in values.required(server).items() if other != required}
        _refused(server, given, required)
    several = values.find(server, lambda each: isinstance(each.get("maxOccurs", 1), int), "of a number of values")
    most = server.description["inputs"][several].get("maxOccurs", 1)
    value = values.possible(server.description["inputs"][several]["schema"])
    _refused(server, values.required(server) | {several: [value] * (most + 1)}, several)


@requirement("core/process-execute-input-validation")
def nothing_that_is_no_execution_is_executed(server: Server) -> None:
    place = f"/processes/{server.process}/execution"
    for body in (b"{", b"[]", b'"text"', b"null", b"4711", b"", b"\xff\xfe", b'{"inputs": []}', b'{"inputs": "text"}'):
        response = server.ask("POST", place, data=body, headers={"Content-Type": "application/json"})
        require_exception(response, 400)
    for body in ({}, {"text": "without inputs"}, {"inputs": {}}):
        require_exception(server.ask("POST", place, json=body), 400)


@requirement("core/process-execute-input-validation")
def outputs_and_forms_that_are_not_there_are_refused(server: Server) -> None:
    given = values.required(server)
    for members in (
        {"outputs": {"nothing": {}}},
        {"outputs": []},
        {"response": "boiled"},
        {"outputs": {next(iter(server.description["outputs"])): {"transmissionMode": "pigeon"}}},
    ):
        require_exception(server.execute(given, **members), 400)


@requirement("core/process-execute-default-outputs")
def without_a_word_on_outputs_all_come(server: Server) -> None:
    given = _everything(server)
    response = server.execute(given, response="document")
    document = _results(server, response)
    missing = [name for name in server.description["outputs"] if name not in document and name in given]
    assert not missing, f"outputs that were not left out are missing: {', '.join(missing)}"


@requirement("core/process-execute-default-execution-mode")
def without_a_preference_the_mode_is_the_standards(server: Server) -> None:
    expected = 200 if server.offers("sync-execute") else 201
    response = server.execute(values.required(server), response="document")
    assert response.status_code == expected, f"it should be {expected} and is {said(response)}"


@requirement("core/process-execute-auto-execution-mode")
def an_answer_can_be_put_off(server: Server) -> None:
    if not server.offers("async-execute"):
        raise NotOfferedError("the process cannot be executed asynchronously")
    for prefer in ("respond-async", "Respond-Async", "handling=lenient, respond-async", "respond-async, wait=0"):
        response = server.execute(values.required(server), prefer=prefer)
        assert response.status_code == 201, f"Prefer: {prefer} is {said(response)}, and should be 201"
        applied = response.headers.get("Preference-Applied", "")
        assert "respond-async" in applied, f"Prefer: {prefer}: there is no Preference-Applied"


@requirement("core/process-execute-auto-execution-mode")
def what_is_not_put_off_does_not_say_that_it_was(server: Server) -> None:
    response = server.execute(values.required(server), response="document")
    if response.status_code == 200:
        assert "Preference-Applied" not in response.headers, "Preference-Applied without a preference"


@requirement("habit/wait")
def an_asynchronous_answer_waits_as_long_as_it_may(server: Server) -> None:
    quick = server.execute(values.required(server), prefer="respond-async, wait=30", response="document")
    assert quick.status_code in (200, 201), f"respond-async, wait=30 is {said(quick)}"
    slow = server.execute(values.slow(server, 8), prefer="respond-async, wait=1", response="document")
    assert slow.status_code == 201, f"wait=1 of a job of 8 s is {said(slow)}, and should be 201"
    server.ask("DELETE", slow.headers["Location"])


@requirement("core/process-execute-success-async")
def an_asynchronous_execution_is_a_job(server: Server) -> None:
    response = server.execute(values.required(server), prefer="respond-async")
    assert response.status_code == 201, f"it should be 201 and is {said(response)}"
    require_json(response)
    status = response.json()
    schemas.require(status, schemas.STATUS, "the status document")
    assert status["status"] in ("accepted", "running", "successful"), f"the new job is {status['status']}"
    assert status.get("processID") == server.process, f"the job's processID is {status.get('processID')}"
    location = response.headers.get("Location", "")
    assert location.startswith(("http://", "https://")), f"Location is {location!r}, and should be absolute"
    assert server.wait(location)["jobID"] == status["jobID"], "Location leads to another job"


@requirement("core/job-results-success-sync")
def a_synchronous_answer_links_to_its_job(server: Server) -> None:
    response = server.execute(values.required(server), response="document")
    if response.status_code != 200:
        raise NotOfferedError("the process cannot be executed synchronously")
    monitor = link_headers(response).get("monitor")
    if monitor is not None:
        assert server.read(monitor, schemas.STATUS)["status"] == "successful", "the monitor link leads to no success"


@requirement("habit/failed-sync")
def a_synchronous_execution_that_fails_is_an_exception(server: Server) -> None:
    response = server.execute(values.failing(server))
    if response.status_code == 201:
        raise NotOfferedError("the process cannot be executed synchronously")
    require_exception(response, 400, 422, 500)


def _everything(server: Server) -> dict[str, Any]:
    inputs = {name: values.possible(each["schema"]) for name, each in server.description["inputs"].items()}
    inputs = {name: values.wrapped(value) for name, value in inputs.items()}
    return inputs | {name: 0 for name in (values.PAUSE,) if name in inputs} | _succeeding(inputs)


def _succeeding(inputs: dict[str, Any]) -> dict[str, Any]:
    return {values.FAIL: False} if values.FAIL in inputs else {}


def _results(server: Server, response: requests.Response) -> dict[str, Any]:
    assert response.status_code in (200, 201), f"it is {said(response)}"
    if response.status_code == 200:
        return dict(response.json())
    server.wait(response.headers["Location"], "successful")
    return dict(server.read(response.headers["Location"] + "/results"))


def _refused(server: Server, inputs: dict[str, Any], name: str) -> None:
    """Assert that inputs are refused, and the reason names one of them."""
    response = server.execute(inputs)
    require_exception(response, 400)
    assert name in response.json().get("detail", "") + response.json().get("title", ""), (
        f"the exception does not name {name}: {response.text[:300]}"
    )
