"""Results, in each form in which they can be asked for."""

import base64
import email
import json
from email.message import Message
from typing import Any

import requests

from tests.ogc import schemas, values
from tests.ogc.checks import NotOfferedError, requirement
from tests.ogc.jobs import UNKNOWN
from tests.ogc.server import Server, media_type, require_exception, require_json, said


def both(server: Server, inputs: dict[str, Any], **members: Any) -> list[requests.Response]:
    """Return the answers to an execution that is waited for, and to the request for the results of one that is not."""
    answers = []
    if server.offers("sync-execute"):
        answers.append(server.execute(inputs, accept="*/*", **members))
    if server.offers("async-execute"):
        answers.append(server.get(server.run(inputs, **members) + "/results", headers={"Accept": "*/*"}))
    return answers


def two(server: Server) -> tuple[dict[str, Any], list[str]]:
    """Return inputs, and two outputs that come of them: a text, and something else."""
    text = values.text_input(server)
    outputs = server.description["outputs"]
    other = values.find(server, lambda each: values.is_object(each["schema"]), "an object")
    if text not in outputs or other not in outputs:
        raise NotOfferedError("the process does not give back its inputs")
    value = values.possible(server.description["inputs"][other]["schema"])
    return values.required(server) | {text: values.WORDS, other: {"value": value}}, [text, other]


@requirement("core/process-execute-sync-document", "core/job-results-async-document")
def a_document_has_exactly_the_outputs_asked_for(server: Server) -> None:
    inputs, names = two(server)
    for wanted in (names, names[:1], names[1:]):
        for answer in both(server, inputs, response="document", outputs={name: {} for name in wanted}):
            assert answer.status_code == 200, f"it should be 200 and is {said(answer)}"
            require_json(answer)
            schemas.require(answer.json(), schemas.RESULTS, "the results document")
            assert sorted(answer.json()) == sorted(wanted), f"{wanted} were asked for and {list(answer.json())} came"
            for name in wanted:
                expected = inputs[name]
                assert answer.json()[name] == expected, f"{name} is {answer.json()[name]!r}, and should be {expected!r}"


@requirement("core/process-execute-sync-raw-value-one", "core/job-results-async-raw-value-one")
def one_raw_output_is_the_value_itself(server: Server) -> None:
    inputs, (text, other) = two(server)
    for answer in both(server, inputs, response="raw", outputs={text: {}}):
        assert answer.status_code == 200, f"it should be 200 and is {said(answer)}"
        plain = media_type(answer) == "text/plain"
        assert plain or media_type(answer) == "application/json", f"a raw text is {media_type(answer)}"
        value = answer.content.decode() if plain else answer.json()
        assert value == values.WORDS, f"the raw value is {answer.text!r}"
    for answer in both(server, inputs, response="raw", outputs={other: {"transmissionMode": "value"}}):
        require_json(answer)
        assert answer.json() == inputs[other]["value"], f"the raw value is {answer.text!r}"


@requirement("core/process-execute-sync-raw-value-one")
def raw_is_how_results_come_without_a_word_on_it(server: Server) -> None:
    inputs, (text, _) = two(server)
    answer = server.execute(inputs, accept="text/plain, */*;q=0.1", outputs={text: {}})
    assert answer.status_code == 200, said(answer)
    assert values.WORDS in answer.content.decode(), f"the raw value is {answer.text!r}"
    assert not answer.content.startswith(b"{"), "a single output, asked for without `response`, came as a document"


@requirement("habit/raw-json")
def a_raw_text_is_valid_json_for_whoever_takes_nothing_else(server: Server) -> None:
    inputs, (text, _) = two(server)
    answer = server.execute(inputs, accept="application/json", response="raw", outputs={text: {}})
    assert answer.status_code == 200, said(answer)
    require_json(answer)
    assert json.loads(answer.content) == values.WORDS, f"the raw value is {answer.text!r}"


@requirement("core/process-execute-sync-raw-value-one")
def raw_bytes_are_bytes(server: Server) -> None:
    name = values.find(server, lambda each: values.is_binary(each["schema"]), "bytes")
    for answer in both(server, values.required(server) | {name: values.BYTES}, response="raw", outputs={name: {}}):
        assert answer.status_code == 200, said(answer)
        assert answer.content == base64.b64decode(values.BYTES), f"the bytes came as {answer.content[:100]!r}"


@requirement("core/process-execute-sync-raw-value-multi", "core/job-results-async-raw-value-multi")
def several_raw_outputs_are_the_parts_of_a_message(server: Server) -> None:
    inputs, (text, other) = two(server)
    for answer in both(server, inputs, response="raw", outputs={text: {}, other: {}}):
        parts = _parts(answer)
        assert sorted(parts) == sorted((text, other)), f"the parts are {list(parts)}"
        assert values.WORDS in _content(parts[text]).decode(), f"the part {text} is {_content(parts[text])!r}"
        assert json.loads(_content(parts[other])) == inputs[other]["value"]


@requirement("core/process-execute-sync-raw-ref", "core/job-results-async-raw-ref")
def raw_references_are_links_in_the_header(server: Server) -> None:
    inputs, names = two(server)
    outputs = {name: {"transmissionMode": "reference"} for name in names}
    for answer in both(server, inputs, response="raw", outputs=outputs):
        assert answer.status_code == 204, f"it should be 204 and is {said(answer)}"
        assert not answer.content, "204 has a body"
        links = requests.utils.parse_header_links(answer.headers.get("Link", ""))
        found = [server.get(link["url"]) for link in links if link.get("rel") != "monitor"]
        assert len(found) >= 2, f"two outputs by reference; Link is {answer.headers.get('Link')!r}"
        assert all(each.status_code == 200 for each in found), "a reference leads to nothing"


@requirement("core/process-execute-sync-raw-mixed-multi", "core/job-results-async-raw-mixed-multi")
def raw_values_and_references_are_the_parts_of_a_message(server: Server) -> None:
    inputs, (text, other) = two(server)
    outputs = {text: {"transmissionMode": "reference"}, other: {"transmissionMode": "value"}}
    for answer in both(server, inputs, response="raw", outputs=outputs):
        parts = _parts(answer)
        assert not _content(parts[text]).strip(), "the part that is a reference has a body"
        place = parts[text].get("Content-Location", "")
        assert server.get(place).status_code == 200, f"Content-Location {place!r} leads to nothing"
        assert json.loads(_content(parts[other])) == inputs[other]["value"]


@requirement("core/process-execute-sync-document")
def a_reference_in_a_document_is_a_link(server: Server) -> None:
    inputs, (text, other) = two(server)
    outputs = {text: {"transmissionMode": "reference"}, other: {"transmissionMode": "value"}}
    for answer in both(server, inputs, response="document", outputs=outputs):
        schemas.require(answer.json().get(text), schemas.LINK, f"the output {text}, asked for by reference,")
        there = server.get(answer.json()[text]["href"])
        assert there.status_code == 200, f"the link leads to {said(there)}"
        assert values.WORDS in there.content.decode()


@requirement("core/job-results", "core/job-results-success")
def results_are_the_same_whenever_they_are_read(server: Server) -> None:
    inputs, names = two(server)
    job = server.run(inputs, response="document", outputs={name: {} for name in names})
    first, second = server.read(f"{job}/results", schemas.RESULTS), server.read(f"{job}/results")
    assert first == second, "the results differ when they are read again"


@requirement("core/job-results-exception/no-such-job")
def results_of_a_job_that_is_not_there_are_404(server: Server) -> None:
    for unknown in UNKNOWN:
        require_exception(server.get(f"/jobs/{unknown}/results"), 404, kind="no-such-job")


@requirement("core/job-results-exception/results-not-ready")
def results_of_a_job_that_is_not_over_are_404(server: Server) -> None:
    job = server.start(values.slow(server, 20))
    require_exception(server.get(f"{job}/results"), 404, kind="result-not-ready")
    server.ask("DELETE", job)


@requirement("core/job-results-failed")
def results_of_a_job_that_failed_are_its_failure(server: Server) -> None:
    job = server.start(values.failing(server))
    status = server.wait(job)
    assert status["status"] == "failed", f"a job that was asked to fail is {status['status']}"
    response = server.get(f"{job}/results")
    require_exception(response, *(code for code in range(400, 600) if code != 404))
    assert response.json()["type"] != "about:blank", "the exception does not say what kind of failure it was"


def _parts(answer: requests.Response) -> dict[str, Message]:
    """Return the parts of a multipart message by their Content-ID."""
    assert answer.status_code == 200, f"it should be 200 and is {said(answer)}"
    assert media_type(answer) == "multipart/related", f"it is {media_type(answer)}, not multipart/related"
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n"
    message = email.message_from_bytes(head.encode() + answer.content)
    assert message.is_multipart(), "it cannot be taken apart"
    return {part.get("Content-ID", "").strip("<>"): part for part in message.get_payload()}  # type: ignore[union-attr]


def _content(part: Message) -> bytes:
    return part.get_payload(decode=True) or b""  # type: ignore[return-value]
