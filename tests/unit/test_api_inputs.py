"""Inputs of an execution: each form that the standard has, and what is said of those that do not fit."""

import base64

import pytest

from services.api.inputs import InvalidInputsError, read_inputs
from services.api.preferences import Preference, read_preference
from shared.processes import BUILT_IN, ECHO, PUBLISH

CALM = {"pause": 0, "fail": False}


def read(given, process=ECHO, fetch=None):
    return read_inputs(BUILT_IN[process], given, fetch or bytes)


def test_a_value_comes_as_it_is_or_qualified():
    for text in ("a", {"value": "a"}, {"value": "a", "mediaType": "text/plain"}, {"value": "a", "format": {}}):
        assert read({"text": text}) == {"text": "a", **CALM}


def test_an_object_that_has_a_member_called_value_is_itself():
    point = {"name": "here", "value": 3}
    for given in (point, {"value": point}):
        assert read({"text": "", "object": given})["object"] == point


def test_several_values_come_in_an_array_or_one_alone():
    for given, values in (([1, 2], [1, 2]), ([1], [1]), (1, [1]), ([{"value": 2}], [2])):
        assert read({"text": "", "numbers": given})["numbers"] == values


def test_what_is_elsewhere_is_fetched_and_judged_as_if_it_had_been_sent():
    content = {
        "http://a/text": b"x",
        "http://a/point": b'{"name": "p"}',
        "http://a/bytes": b"\x00",
        "http://a/no": b"{",
    }
    by = {
        name: {"href": f"http://a/{path}"}
        for name, path in (("text", "text"), ("object", "point"), ("binary", "bytes"))
    }
    values = read(by, fetch=content.__getitem__)
    assert (values["text"], values["object"], values["binary"]) == (
        "x",
        {"name": "p"},
        base64.b64encode(b"\0").decode(),
    )
    with pytest.raises(InvalidInputsError, match="object: what was fetched cannot be read"):
        read(by | {"object": {"href": "http://a/no"}}, fetch=content.__getitem__)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "text: is required"),
        ({"text": 5}, "text: "),
        ({"text": ["a"]}, "text: "),
        ({"text": "a", "numbers": ["x"]}, "numbers: "),
        ({"text": "a", "numbers": []}, None),
        ({"text": "a", "numbers": [0] * 11}, "numbers: takes 0 to 10 values, not 11"),
        ({"text": "a", "object": {}}, "object: "),
        ({"text": "a", "mixed": 5}, "mixed: "),
        ({"text": "a", "binary": "%"}, "binary: is not base64"),
        ({"text": "a", "bbox": {"bbox": [1, 2, 3]}}, "bbox: "),
        ({"text": "a", "pause": 61}, "pause: "),
        ({"text": "a", "pause": -1}, "pause: "),
        ({"text": "a", "fail": "yes"}, "fail: "),
        ({"text": "a", "size": 5}, "size: there is no such input; there are: text, numbers"),
    ],
)
def test_an_input_that_does_not_fit_is_named(given, named):
    if named is None:
        read(given)
        return
    with pytest.raises(InvalidInputsError, match=named):
        read(given)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(InvalidInputsError, match=r"size: .*; collection: is required; keep_all_data: "):
        read({"size": 1, "keep_all_data": "no"}, PUBLISH)


@pytest.mark.parametrize(
    ("headers", "preference"),
    [
        ([], Preference()),
        (["respond-async"], Preference(asynchronous=True)),
        (["Respond-Async, wait=10"], Preference(asynchronous=True, wait_seconds=10)),
        (["handling=lenient", "wait = 5; x, respond-async"], Preference(asynchronous=True, wait_seconds=5)),
        (["wait=999999999"], Preference(wait_seconds=600)),
        (["respond-async=yes, wait=soon, ,;"], Preference()),
    ],
)
def test_preferences_are_read_as_the_standard_says(headers, preference):
    assert read_preference(headers) == preference
