"""The merge routine: each rule of the standard, and agreement with OCP's own library on random releases."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import ocdsmerge_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.processor.findings import Finding, Findings
from services.processor.jsontext import decode, encode
from services.processor.merge import WHOLE_LISTS, compile_release
from shared.errors import PermanentError

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
OMITTED = ("id", "date", "tag")
ORACLE = ocdsmerge_rs.Merger(
    rules={tuple(path.split("/")): ocdsmerge_rs.Rule.REPLACE for path in WHOLE_LISTS.split()}
    | {(name,): ocdsmerge_rs.Rule.OMIT for name in OMITTED}
)


def merge(*releases: dict[str, Any], date: str | None = "2020-01-01", findings: Findings | None = None) -> Any:
    """Return the fields of the compiled release, without its own metadata."""
    compiled = compile_release("ocds-213czf-1", date, releases, findings or Findings())
    return {name: value for name, value in compiled.items() if name not in ("ocid", *OMITTED)}


def test_the_compiled_release_has_its_own_metadata():
    release = {"ocid": "ocds-213czf-1", "id": "x", "date": "2019-01-01", "tag": ["tender"], "language": "en"}

    assert compile_release("ocds-213czf-1", "2019-01-01", [release], Findings()) == {
        "ocid": "ocds-213czf-1",
        "id": "ocds-213czf-1-2019-01-01",
        "date": "2019-01-01",
        "tag": ["compiled"],
        "language": "en",
    }


def test_without_a_date_the_id_is_the_ocid():
    assert compile_release("ocds-213czf-1", None, [{"date": None}], Findings()) == {
        "ocid": "ocds-213czf-1",
        "id": "ocds-213czf-1",
        "tag": ["compiled"],
    }


def test_a_later_value_replaces_an_earlier_one_and_the_rest_stays():
    assert merge({"tender": {"title": "a", "status": "active"}}, {"tender": {"title": "b"}}) == {
        "tender": {"title": "b", "status": "active"}
    }


@pytest.mark.parametrize("value", ["text", 1, True, {"title": "x"}, [{"id": "1"}], ["a"]])
def test_null_removes_whatever_was_there(value):
    assert merge({"tender": value, "x": 1}, {"tender": None}) == {"x": 1}


def test_a_value_after_null_starts_anew():
    assert merge({"tender": {"a": 1}}, {"tender": None}, {"tender": {"b": 2}}) == {"tender": {"b": 2}}


def test_null_removes_a_field_of_the_object_with_that_id():
    assert merge({"awards": [{"id": 1, "title": "x"}, {"id": 2}]}, {"awards": [{"id": 1, "title": None}]}) == {
        "awards": [{"id": 1}, {"id": 2}]
    }


def test_objects_in_arrays_merge_by_id_in_order_of_first_appearance():
    first = {"awards": [{"id": "1", "status": "pending"}, {"id": "2"}]}
    second = {"awards": [{"id": "3"}, {"id": "1", "status": "active", "value": {"amount": 5}}]}

    assert merge(first, second) == {
        "awards": [{"id": "1", "status": "active", "value": {"amount": 5}}, {"id": "2"}, {"id": "3"}]
    }


def test_the_number_1_and_the_text_1_are_different_ids():
    assert merge({"awards": [{"id": 1}]}, {"awards": [{"id": "1"}]}) == {"awards": [{"id": 1}, {"id": "1"}]}


def test_ids_with_a_fraction_are_recognised():
    releases = [decode('{"awards":[{"id":1.50,"a":1}]}'), decode('{"awards":[{"id":1.50,"a":2}]}')]

    assert encode(merge(*releases)) == b'{"awards":[{"id":1.50,"a":2}]}'


def test_objects_without_an_id_are_all_kept():
    assert merge({"awards": [{"a": 1}, {"a": 1}]}, {"awards": [{"a": 1}]}) == {"awards": [{"a": 1}] * 3}


@pytest.mark.parametrize("path", WHOLE_LISTS.split())
def test_whole_lists_are_replaced(path):
    *parents, last = path.split("/")

    def release(items):
        value: Any = {last: items}
        for name in reversed(parents):
            array = name.endswith("s") or name == "parties"
            value = {name: [{"id": "1", **value}] if array else value}
        return value

    earlier, later = [{"id": "a", "x": 1}], [{"id": "b"}]
    assert merge(release(earlier), release(later)) == release(later)
    assert merge(release(earlier), release([])) == release([])
    assert merge(release(earlier), {}) == release(earlier)


def test_the_whole_lists_are_those_of_ocds_1_1_5():
    assert Counter(path.rpartition("/")[2] for path in WHOLE_LISTS.split()) == {
        "additionalClassifications": 3,
        "additionalIdentifiers": 7,
        "additionalProcurementCategories": 1,
        "changes": 6,
        "relationship": 2,
        "roles": 1,
        "submissionMethod": 1,
    }


def test_fields_of_extensions_merge_by_id():
    assert merge({"bids": {"details": [{"id": "1", "a": 1}]}}, {"bids": {"details": [{"id": "1", "b": 2}]}}) == {
        "bids": {"details": [{"id": "1", "a": 1, "b": 2}]}
    }


@pytest.mark.parametrize("later", [["c"], ["a", {"id": 1}], [1], [None], [[]]])
def test_arrays_of_anything_but_objects_are_replaced(later):
    assert merge({"x": ["a", "b"]}, {"x": later}) == {"x": later}


@pytest.mark.parametrize(
    ("kept", "empty"),
    [
        ({"a": 1}, {}),
        ({"a": {"b": 1}}, {"a": {}}),
        ({"a": [{"id": 1}]}, {"a": []}),
        ({"a": [{"id": 1}]}, {"a": [{}]}),
        ({"a": [{"id": 1}]}, {"a": [{"b": None}]}),
        ([{"id": 1}], []),
        ([{"id": 1}], [{}]),
    ],
)
def test_what_holds_no_value_changes_nothing_and_adds_nothing(kept, empty):
    assert merge({"x": empty}) == {}
    assert merge({"x": kept}, {"x": empty}) == {"x": kept}


def test_a_single_value_replaces_an_object():
    assert merge({"x": {"a": 1}}, {"x": "text"}) == {"x": "text"}


@pytest.mark.parametrize(
    ("earlier", "later", "said"),
    [
        ("text", {"a": 1}, "an object in one release and a single value"),
        ([{"id": 1}], {"a": 1}, "an object in one release and an array"),
        ({"a": 1}, [{"id": 1}], "an array in one release and an object"),
        (1, [{"id": 1}], "an array in one release and a single value"),
    ],
)
def test_a_field_that_changes_its_nature_is_refused_by_name(earlier, later, said):
    with pytest.raises(PermanentError, match=rf"ocds-213czf-1: /awards/x is {said} in an earlier one"):
        merge({"awards": [{"id": 1, "x": earlier}]}, {"awards": [{"id": 1, "x": later}]})


def notes_of(findings: Findings) -> dict[Finding, tuple[int, list[str]]]:
    return {finding: (findings._counts[finding], findings._examples[finding]) for finding in findings._counts}


def test_an_id_twice_in_one_array_is_merged_and_told():
    findings = Findings()

    assert merge({"awards": [{"id": 1, "a": 1}, {"id": 1, "b": 2}]}, findings=findings) == {
        "awards": [{"id": 1, "a": 1, "b": 2}]
    }
    assert notes_of(findings) == {Finding.DUPLICATE_ID: (1, ["ocds-213czf-1 /awards 1"])}


def test_an_id_again_in_a_later_release_is_no_duplicate():
    findings = Findings()
    merge({"awards": [{"id": 1}]}, {"awards": [{"id": 1}]}, findings=findings)

    assert notes_of(findings) == {}


@pytest.mark.parametrize("identity", [True, {"a": 1}, [1]])
def test_an_id_that_is_no_id_is_kept_and_told(identity):
    findings = Findings()

    assert merge({"awards": [{"id": identity}, {"id": identity}]}, findings=findings) == {
        "awards": [{"id": identity}] * 2
    }
    assert notes_of(findings)[Finding.UNUSABLE_ID][0] == 2


def test_numbers_come_through_a_merge_as_they_were_written():
    first = '{"tender":{"value":{"amount":1234567890.10,"x":1E400}},"awards":[{"id":1,"y":12345678901234567890.12}]}'
    second = '{"tender":{"value":{"amount":1.0}},"awards":[{"id":1,"z":-0}],"list":[1.50,12345678901234567890123]}'

    merged = merge(decode(first), decode(second))

    assert encode(merged) == (
        b'{"tender":{"value":{"amount":1.0,"x":1E400}},"awards":[{"id":1,"y":12345678901234567890.12,"z":-0}],'
        b'"list":[1.50,12345678901234567890123]}'
    )


scalars = st.one_of(st.text(max_size=3), st.integers(-9, 9), st.booleans())
ids = st.one_of(st.integers(0, 3), st.sampled_from(["0", "1", "a"]))


def members(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Objects whose field names say their nature, so that releases do not contradict each other.

    Null removes single values only: the library, unlike the standard, leaves objects and arrays of objects in place.
    """
    fields: dict[str, Any] = {"text": st.one_of(st.none(), scalars), "roles": st.lists(scalars, min_size=1, max_size=3)}
    if depth:
        items = st.builds(lambda item, id_: {**item, "id": id_}, members(depth - 1), ids)
        fields["tender"] = members(depth - 1)
        fields["parties"] = st.lists(items, max_size=3, unique_by=lambda item: (type(item["id"]), item["id"]))
        fields["additionalIdentifiers"] = st.lists(items, max_size=2)
        fields["loose"] = st.lists(members(0).filter(bool), max_size=2)
    return st.fixed_dictionaries({}, optional=fields)


def without_empty(value: Any) -> Any:
    """Drop objects and arrays that hold nothing: the library keeps some and drops others."""
    if isinstance(value, dict):
        pruned = {name: without_empty(member) for name, member in value.items()}
        return {name: member for name, member in pruned.items() if member not in ({}, [])}
    if isinstance(value, list):
        return [item for item in map(without_empty, value) if item != {}]
    return value


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(members(3), min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore::ocdsmerge_rs.exceptions.MergeWarning")
def test_random_releases_are_merged_as_ocp_merges_them(releases):
    dated = [
        {"ocid": "ocds-213czf-1", "id": str(number), "date": f"2020-01-{number:02}", "tag": ["tender"], **release}
        for number, release in enumerate(releases, 1)
    ]
    expected = ORACLE.create_compiled_release(dated)

    compiled = compile_release("ocds-213czf-1", dated[-1]["date"], json.loads(json.dumps(dated)), Findings())

    assert without_empty(compiled) == without_empty(expected)


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real data is not here")
@pytest.mark.parametrize("name", ["release-package-1.json", "release-package-2.json"])
def test_real_releases_are_merged_as_ocp_merges_them(name):
    releases = json.loads((REAL_DATA / name).read_text())["releases"]
    (ocid,) = {release["ocid"] for release in releases}
    date = releases[-1]["date"]
    expected = ORACLE.create_compiled_release(releases)

    compiled = compile_release(ocid, date, releases, Findings())

    assert without_empty(compiled) == without_empty(expected)
