"""The quality checks: each with a record that passes, one that fails, and one of which it cannot be asked."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.processor.quality.consistency import moment
from services.processor.quality.inspector import PREFIXES, Inspector
from services.processor.quality.rules import (
    _REPOSITORIES,
    CODE_LISTS,
    EXTENSIONS,
    Kind,
    declared_extensions,
    release_shape,
)
from services.processor.quality.tally import EXAMPLES, SHOWN_CHARACTERS
from services.processor.quality.walk import is_date
from shared.own_schema import InvalidSchemaError, compile_schema
from shared.quality import CHECKS

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
EVERY_EXTENSION = tuple(EXTENSIONS)

GOOD: dict[str, Any] = {
    "ocid": "ocds-213czf-1",
    "id": "1",
    "date": "2024-06-01T10:00:00Z",
    "tag": ["compiled"],
    "initiationType": "tender",
    "language": "en",
    "title": "A process",
    "parties": [
        {"id": "B", "name": "Buyer", "roles": ["buyer", "procuringEntity", "payer"], "details": {"scale": "large"}},
        {"id": "S", "name": "Supplier", "roles": ["supplier", "tenderer", "payee"]},
    ],
    "buyer": {"id": "B", "name": "Buyer"},
    "planning": {"budget": {"id": 5, "amount": {"amount": 100, "currency": "EUR"}, "uri": "https://example.org/b"}},
    "tender": {
        "id": "T",
        "title": "Works",
        "title_fr": "Travaux",
        "status": "complete",
        "procurementMethod": "open",
        "procuringEntity": {"id": "B"},
        "tenderers": [{"id": "S"}],
        "numberOfTenderers": 1,
        "hasEnquiries": False,
        "value": {"amount": 100.5, "currency": "EUR"},
        "tenderPeriod": {
            "startDate": "2024-01-01T00:00:00Z",
            "endDate": "2024-02-01T00:00:00Z",
            "maxExtentDate": "2024-02-01T00:00:00Z",
        },
        "items": [{"id": 1, "quantity": 2.5, "classification": {"scheme": "CPV", "id": "1"}, "relatedLot": "L1"}],
        "lots": [{"id": "L1", "title": "Lot"}],
        "documents": [
            {
                "id": "d",
                "documentType": "tenderNotice",
                "url": "https://example.org/d.pdf",
                "datePublished": "2024-01-01T00:00:00Z",
                "dateModified": "2024-01-02T00:00:00Z",
            }
        ],
        "milestones": [
            {"id": "m1", "status": "met", "dateMet": "2024-01-03T00:00:00Z"},
            {"id": "m2", "status": "scheduled", "dueDate": "2030-01-01T00:00:00Z"},
        ],
    },
    "bids": {"details": [{"id": "BID", "date": "2024-01-20T00:00:00Z", "tenderers": [{"id": "S"}]}]},
    "awards": [
        {
            "id": "A",
            "status": "active",
            "date": "2024-03-01T00:00:00Z",
            "value": {"amount": 100, "currency": "EUR"},
            "suppliers": [{"id": "S"}],
            "relatedBids": ["BID"],
        }
    ],
    "contracts": [
        {
            "id": "C",
            "awardID": "A",
            "status": "active",
            "dateSigned": "2024-03-05T00:00:00Z",
            "value": {"amount": 100, "currency": "EUR"},
            "implementation": {
                "transactions": [
                    {
                        "id": "X",
                        "date": "2024-04-01T00:00:00Z",
                        "value": {"amount": 60, "currency": "EUR"},
                        "payer": {"id": "B"},
                        "payee": {"id": "S"},
                    }
                ]
            },
        }
    ],
    "relatedProcesses": [{"id": "r", "relationship": ["prior"], "scheme": "ocid", "identifier": "ocds-213czf-0"}],
}

ELSEWHERE = {"schema.own", "ids.releases", "ids.records"}
"""Checks of which a release alone is not asked; they have tests of their own."""


def inspect(*records: Any, extensions=EVERY_EXTENSION, ocds=True, schema=None):
    """Return what each check found, by its id."""
    inspector = Inspector(ocds=ocds, extensions=extensions, now=NOW, schema=schema)
    for number, record in enumerate(records):
        text = record if isinstance(record, str) else json.dumps(record)
        key = record.get("ocid") if isinstance(record, dict) else None
        inspector.inspect(key if isinstance(key, str) else str(number), text)
    return {outcome.check: outcome for outcome in inspector.outcomes()}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the good release with another value at a path; ``...`` removes what is there."""
    record = copy.deepcopy(GOOD)
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
    node: Any = record
    for part in parents:
        node = node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return record


@pytest.mark.parametrize("check", [check for check in CHECKS if check not in ELSEWHERE])
def test_a_good_release_passes_every_check_and_is_judged_by_it(check):
    outcome = inspect(GOOD)[check]
    assert outcome.failed == 0, outcome.examples
    assert outcome.applicable > 0
    assert outcome.passed == outcome.applicable
    assert outcome.examples == []


TRANSACTION = "contracts/0/implementation/transactions/0"
BAD = [
    ("schema.required", "tender/id", ..., "/tender/id"),
    ("schema.required", "tender/id", "", "/tender/id"),
    ("schema.required", "date", None, "/date"),
    ("schema.required", "tag", [], "/tag"),
    ("schema.required", "contracts/0/awardID", ..., "/contracts/0/awardID"),
    ("schema.types", "tender", "text", "/tender"),
    ("schema.types", "tender/title", 1, "/tender/title"),
    ("schema.types", "tender/title", 3.0, "/tender/title"),
    ("schema.types", "tender/hasEnquiries", "no", "/tender/hasEnquiries"),
    ("schema.types", "tender/numberOfTenderers", 1.5, "/tender/numberOfTenderers"),
    ("schema.types", "tender/numberOfTenderers", True, "/tender/numberOfTenderers"),
    ("schema.types", "tender/value/amount", "100", "/tender/value/amount"),
    ("schema.types", "awards", {"id": "A"}, "/awards"),
    ("schema.types", "awards/0", None, "/awards/0"),
    ("schema.types", "tag/0", 1, "/tag/0"),
    ("schema.types", "parties/0/id", 1, "/parties/0/id"),
    ("schema.types", "bids/details/0/rank", "first", "/bids/details/0/rank"),
    ("schema.dates", "date", "2024-06-01", "/date"),
    ("schema.dates", "date", "2024-06-01T10:00:00", "/date"),
    ("schema.dates", "date", "2024-02-30T10:00:00Z", "/date"),
    ("schema.dates", "awards/0/date", "soon", "/awards/0/date"),
    ("schema.urls", "tender/documents/0/url", "example.org/d.pdf", "/tender/documents/0/url"),
    ("schema.urls", "planning/budget/uri", "https://example.org/a b", "/planning/budget/uri"),
    ("schema.fields", "tender/colour", "red", "/tender/colour"),
    ("schema.fields", "tender/value_fr", {}, "/tender/value_fr"),
    ("codes.closed", "tender/status", "finished", "/tender/status"),
    ("codes.closed", "tag/0", "compiled ", "/tag/0"),
    ("codes.closed", "tender/value/currency", "€", "/tender/value/currency"),
    ("codes.open", "tender/documents/0/documentType", "poem", "/tender/documents/0/documentType"),
    ("codes.open", "parties/0/roles/0", "owner", "/parties/0/roles/0"),
    ("values.empty", "tender/title", " \t", "/tender/title"),
    ("values.empty", "tender/title", "", "/tender/title"),
    ("values.empty", "tender/items", [], "/tender/items"),
    ("values.empty", "planning/budget", {}, "/planning/budget"),
    ("values.empty", "colour", "", "/colour"),
    ("ids.ocid-form", "ocid", "1", "/ocid"),
    ("ids.ocid-form", "ocid", "OCDS-213CZF-1", "/ocid"),
    ("ids.ocid-form", "ocid", "ocds-213czf-", "/ocid"),
    ("ids.objects", "parties/1/id", "B", "/parties/1/id"),
    ("ids.objects", "tender/milestones/1/id", "m1", "/tender/milestones/1/id"),
    ("dates.periods", "tender/tenderPeriod/endDate", "2023-12-31T23:59:59Z", "/tender/tenderPeriod"),
    ("dates.periods", "tender/tenderPeriod/maxExtentDate", "2024-01-15", "/tender/tenderPeriod/maxExtentDate"),
    ("dates.future", "awards/0/date", "2026-03-03T12:00:01Z", "/awards/0/date"),
    ("dates.future", "tender/documents/0/datePublished", "9999-12-31T00:00:00Z", "/tender/documents/0/datePublished"),
    ("dates.early", "contracts/0/dateSigned", "1900-01-01T00:00:00Z", "/contracts/0/dateSigned"),
    ("dates.early", "date", "0001-01-01T00:00:00Z", "/date"),
    ("dates.awards", "awards/0/date", "2023-12-31T00:00:00Z", "/awards/0/date"),
    ("dates.signed", "contracts/0/dateSigned", "2024-02-28T00:00:00Z", "/contracts/0/dateSigned"),
    ("dates.transactions", f"{TRANSACTION}/date", "2024-03-04T00:00:00Z", f"/{TRANSACTION}/date"),
    ("dates.documents", "tender/documents/0/dateModified", "2023-01-01", "/tender/documents/0/dateModified"),
    ("dates.milestones", "tender/milestones/0/dateMet", ..., "/tender/milestones/0/dateMet"),
    ("dates.milestones", "tender/milestones/1/dateMet", "2024-01-01T00:00:00Z", "/tender/milestones/1/dateMet"),
    ("amounts.currency", "awards/0/value/currency", ..., "/awards/0/value/currency"),
    ("amounts.currency", f"{TRANSACTION}/value/currency", "", f"/{TRANSACTION}/value/currency"),
    ("amounts.negative", "tender/value/amount", -0.01, "/tender/value/amount"),
    ("amounts.zero", "awards/0/value/amount", 0, "/awards/0/value/amount"),
    ("amounts.zero", "tender/value/amount", 0.0, "/tender/value/amount"),
    ("amounts.contracts", "contracts/0/value/amount", 102, "/awards/0/value"),
    ("amounts.transactions", f"{TRANSACTION}/value/amount", 101.01, "/contracts/0/value"),
    ("references.parties", "buyer/id", "Z", "/buyer/id"),
    ("references.parties", "buyer/id", ..., "/buyer/id"),
    ("references.parties", "awards/0/suppliers/0/id", "Z", "/awards/0/suppliers/0/id"),
    ("references.parties", "parties", ..., "/buyer/id"),
    ("references.roles", "parties/1/roles", ["supplier", "tenderer"], f"/{TRANSACTION}/payee"),
    ("references.roles", "parties/0/roles", ..., "/buyer"),
    ("references.awards", "contracts/0/awardID", "B", "/contracts/0/awardID"),
    ("references.awards", "awards", ..., "/contracts/0/awardID"),
    ("references.lots", "tender/items/0/relatedLot", "L2", "/tender/items/0/relatedLot"),
    ("references.lots", "tender/documents/0/relatedLots", ["L1", "L2"], "/tender/documents/0/relatedLots/1"),
    ("references.bids", "awards/0/relatedBids", ["BID", "DIB"], "/awards/0/relatedBids/1"),
    ("references.processes", "relatedProcesses/0/identifier", "213czf-0", "/relatedProcesses/0/identifier"),
    ("references.processes", "relatedProcesses/0/identifier", "ocds-213czf-1", "/relatedProcesses/0/identifier"),
]


@pytest.mark.parametrize(("check", "path", "value", "place"), BAD)
def test_what_is_wrong_fails_its_check_and_is_shown(check, path, value, place):
    record = changed(path, value)
    outcome = inspect(record)[check]
    assert outcome.failed >= 1
    assert outcome.examples[0]["path"] == place
    assert outcome.examples[0]["record"] == record["ocid"]


def test_every_check_has_something_that_fails_it():
    assert {check for check, *_ in BAD} | ELSEWHERE | {"records.readable", "ids.ocid-prefix"} == set(CHECKS)


UNDEFINED = [
    ("schema.urls", ["tender/documents", "planning"]),
    ("codes.open", ["tender/documents", "parties", "tender/items", "relatedProcesses"]),
    ("ids.ocid-form", ["ocid"]),
    ("ids.ocid-prefix", ["ocid"]),
    ("dates.periods", ["tender/tenderPeriod/endDate"]),
    ("dates.awards", ["tender/tenderPeriod/startDate"]),
    ("dates.awards", ["awards/0/date"]),
    ("dates.signed", ["awards/0/date"]),
    ("dates.signed", ["contracts/0/dateSigned"]),
    ("dates.transactions", ["contracts/0/dateSigned"]),
    ("dates.documents", ["tender/documents/0/datePublished"]),
    ("dates.milestones", ["tender/milestones"]),
    ("amounts.contracts", ["awards/0/value"]),
    ("amounts.contracts", ["contracts/0/value/currency"]),
    ("amounts.contracts", ["contracts"]),
    ("amounts.transactions", ["contracts/0/implementation"]),
    ("amounts.transactions", ["contracts/0/value"]),
    ("references.awards", ["contracts"]),
    ("references.awards", ["contracts/0/awardID"]),
    ("references.lots", ["tender/items"]),
    ("references.bids", ["awards"]),
    ("references.processes", ["relatedProcesses/0/scheme"]),
]


@pytest.mark.parametrize(("check", "removed"), UNDEFINED)
def test_what_cannot_be_judged_is_not_counted(check, removed):
    record = copy.deepcopy(GOOD)
    for path in removed:
        *parents, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
        node: Any = record
        for part in parents:
            node = node[part]
        del node[last]
    outcome = inspect(record)[check]
    assert (outcome.applicable, outcome.failed) == (0, 0)


def test_null_is_taken_as_not_there():
    record = changed("tender/title", None)
    found = inspect(record)
    assert all(outcome.failed == 0 for outcome in found.values())
    assert found["schema.fields"].applicable == inspect(GOOD)["schema.fields"].applicable - 1


def test_a_whole_number_may_be_written_with_a_fraction_of_nothing():
    assert inspect(changed("tender/numberOfTenderers", 3.0))["schema.types"].failed == 0


def test_amounts_of_payments_and_budget_parts_may_be_negative():
    record = changed(f"{TRANSACTION}/value/amount", -5)
    record["planning"]["budget"]["budgetBreakdown"] = [{"id": 1, "amount": {"amount": -5, "currency": "EUR"}}]
    assert inspect(record)["amounts.negative"].failed == 0


def test_sums_in_several_currencies_are_not_judged():
    assert inspect(changed("contracts/0/value/currency", "USD"))["amounts.contracts"].applicable == 0


def test_ids_are_the_same_as_numbers_and_as_text():
    record = changed("contracts/0/awardID", 7)
    record["awards"][0]["id"] = "7"
    outcome = inspect(record)["references.awards"]
    assert (outcome.applicable, outcome.failed) == (1, 0)


def test_the_type_of_a_field_that_is_not_known_is_not_judged():
    outcome = inspect(changed("tender/colour", "red"))["schema.types"]
    assert outcome.applicable == inspect(GOOD)["schema.types"].applicable


def test_clocks_and_time_zones_may_differ_by_a_day():
    assert inspect(changed("awards/0/date", "2026-03-03T11:59:59Z"))["dates.future"].failed == 0


def test_ids_of_schemes_may_be_repeated():
    two = [{"scheme": "A", "id": "1"}, {"scheme": "B", "id": "1"}]
    record = changed("parties/0/additionalIdentifiers", two)
    record["tender"]["items"][0]["additionalClassifications"] = two
    assert inspect(record)["ids.objects"].failed == 0


def test_fields_of_an_extension_are_judged_only_if_it_is_declared():
    record = changed("bids/details/0/rank", "first")
    without, with_bids = inspect(record, extensions=()), inspect(record, extensions=("bids",))
    assert (without["schema.types"].failed, with_bids["schema.types"].failed) == (0, 1)
    assert without["references.bids"].applicable == 0
    assert {example["path"] for example in without["schema.fields"].examples} >= {"/title", "/bids", "/tender/lots"}


def test_most_ocids_decide_which_prefix_is_the_collections():
    records = [GOOD | {"ocid": f"ocds-213czf-{number}"} for number in range(8)]
    others = [GOOD | {"ocid": f"ocds-aaaaaa-{number}"} for number in range(2)]
    outcome = inspect(*others, *records)["ids.ocid-prefix"]
    assert (outcome.applicable, outcome.failed) == (10, 2)
    assert outcome.examples == [{"record": "ocds-aaaaaa-0", "path": "/ocid", "value": '"ocds-aaaaaa-0"'}]


def test_any_number_of_prefixes_is_counted_in_bounded_memory():
    inspector = Inspector(ocds=True, now=NOW)
    for number in range(PREFIXES + 50):
        ocid = f"ocds-{number:06}-1"
        inspector.inspect(ocid, json.dumps({"ocid": ocid}))
    outcome = {outcome.check: outcome for outcome in inspector.outcomes()}["ids.ocid-prefix"]
    assert outcome.applicable == PREFIXES + 50
    assert outcome.failed == PREFIXES + 49 or outcome.failed == PREFIXES + 50
    assert len(inspector._prefixes) == PREFIXES + 1


def test_examples_are_few_and_short():
    long = changed("tender/status", "x" * 10_000)
    found = inspect(*[long] * 20)["codes.closed"]
    assert found.failed == 20
    assert len(found.examples) == EXAMPLES
    assert all(len(text) <= SHOWN_CHARACTERS + 1 for example in found.examples for text in example.values())


def test_a_path_is_a_json_pointer():
    outcome = inspect(GOOD | {"a~b/c": "x"})["schema.fields"]
    assert outcome.examples[0]["path"] == "/a~0b~1c"


# What is no release


@pytest.mark.parametrize(
    "text",
    ["[]", "1", '"text"', "null", "not JSON", "", '{"a": ' * 3000 + "1" + "}" * 3000, '{"n": ' + "9" * 5000 + "}"],
)
def test_what_cannot_be_read_is_counted_and_stops_nothing(text):
    found = inspect(text, GOOD)
    assert (found["records.readable"].applicable, found["records.readable"].failed) == (2, 1)
    assert found["references.awards"].applicable == 1


def test_numbers_beyond_a_double_are_read():
    record = json.dumps(GOOD).replace("100.5", "1e999")
    found = inspect(record)
    assert found["records.readable"].failed == 0
    assert found["schema.types"].failed == 0
    assert found["amounts.currency"].applicable == inspect(GOOD)["amounts.currency"].applicable - 1


def test_plain_records_are_asked_only_what_applies_to_them():
    found = inspect({"ocid": "1", "tender": 5}, ocds=False)
    assert [check for check, outcome in found.items() if outcome.applicable] == ["records.readable"]


# A collection's own schema


SCHEMA = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "size": {"$ref": "#/$defs/size"}},
    "$defs": {"size": {"type": "integer", "minimum": 1}},
}


def test_records_are_held_against_the_collections_own_schema():
    records = [{"name": "a", "size": 1}, {"size": 1}, {"name": "a", "size": 0}]
    outcome = inspect(*records, ocds=False, schema=compile_schema(SCHEMA))["schema.own"]
    assert (outcome.applicable, outcome.failed) == (3, 2)
    assert [example["path"] for example in outcome.examples] == ["", "/size"]
    assert "name" in outcome.examples[0]["value"]


def test_releases_are_held_against_it_too():
    found = inspect(GOOD, schema=compile_schema({"required": ["ocid"]}))
    assert (found["schema.own"].applicable, found["schema.own"].failed) == (1, 0)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, "objekt"),
        ([], "no JSON Schema"),
        ({"$ref": "https://example.org/schema.json"}, "https://example.org/schema.json is outside"),
        ({"$ref": "file:///etc/hostname"}, "outside"),
        ({"description": "x" * 2**20}, "over the limit"),
        ({"const": "a\0"}, "NUL"),
        ({"pattern": "("}, "no JSON Schema"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_reason(schema, words):
    with pytest.raises(InvalidSchemaError, match=words):
        compile_schema(schema)


def test_a_record_too_deep_for_the_schema_is_counted_as_failing():
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    outcome = inspect({"name": "a", "x": deep}, ocds=False, schema=compile_schema(SCHEMA))["schema.own"]
    assert outcome.applicable == 1


# The rules themselves


def test_the_rules_name_only_code_lists_and_objects_that_exist():
    shape = release_shape(EXTENSIONS)
    pending, seen = [shape], {shape.name}
    used = set()
    while pending:
        for field in pending.pop().fields.values():
            if field.kind is Kind.CODE:
                used.add(field.codes)
            if field.shape is not None and field.shape.name not in seen:
                seen.add(field.shape.name)
                pending.append(field.shape)
    assert used == {frozenset(codes.split()) for codes in CODE_LISTS.values()}
    assert {"Transaction", "Lot", "Bid", "Enquiry", "Geometry", "Unit"} <= seen


def test_an_extension_does_not_change_the_core_for_others():
    release_shape(("bids",))
    assert "bids" not in release_shape().fields


@pytest.mark.parametrize(
    ("url", "known", "unknown"),
    [
        (
            "https://raw.githubusercontent.com/open-contracting-extensions/ocds_lots_extension/v1.1.5/extension.json",
            "lots",
            "",
        ),
        ("https://raw.githubusercontent.com/open-contracting/ocds_bid_extension/master/extension.json", "bids", ""),
        ("https://example.org/ocds_riskAllocation_extension/v1/extension.json", "", "riskAllocation"),
        ("https://example.org/mine/extension.json", "", "mine"),
        ("https://example.org/mine/v2/extension.json", "", "mine"),
        ("garbage", "", "garbage"),
    ],
)
def test_declared_extensions_are_known_by_their_repository(url, known, unknown):
    found = declared_extensions([url])
    assert found.known == ((known,) if known else ())
    assert found.unknown == ((unknown,) if unknown else ())


def test_every_extension_can_be_declared():
    assert set(_REPOSITORIES.values()) == set(EXTENSIONS)


# Dates


@pytest.mark.parametrize(
    "text",
    ["2024-01-31T23:59:59Z", "2024-02-29T00:00:00.123456789+05:30", "2024-12-31T23:59:60Z", "2024-01-01t00:00:00z"],
)
def test_dates_as_the_standard_asks(text):
    assert is_date(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "2024-01-01",
        "2024-01-01T00:00Z",
        "2024-01-01T24:00:00Z",
        "2023-02-29T00:00:00Z",
        "2024-01-01 00:00:00Z",
        "٢٠٢٤-01-01T00:00:00Z",
        "2024-01-01T00:00:00+2500",
        "2024-01-01T00:00:00",
        " 2024-01-01T00:00:00Z",
    ],
)
def test_dates_as_it_does_not(text):
    assert not is_date(text)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2024-01-01T00:00:00+02:00", "2024-01-01T00:00:00Z"),
        ("2024-01-01T00:00:00.1Z", "2024-01-01T00:00:00.2Z"),
        ("2024-01-01", "2024-01-02T00:00:00Z"),
        ("2024-01-01T23:00", "2024-01-02"),
    ],
)
def test_dates_are_ordered_whatever_their_form(earlier, later):
    first, second = moment(earlier), moment(later)
    assert first.is_before(second)
    assert not second.is_before(first)


@pytest.mark.parametrize(
    "pair", [("2024-01-01", "2024-01-01T12:00:00Z"), ("2024-01-01T00:00:00Z", "2024-01-01T02:00:00+02:00")]
)
def test_dates_that_may_be_the_same_are_in_neither_order(pair):
    first, second = map(moment, pair)
    assert not first.is_before(second)
    assert not second.is_before(first)


# Whatever comes


FIELDS = sorted(
    {name for text in [*EXTENSIONS.values()] for name in text.split()} | set(GOOD) | {"id", "amount", "value"}
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats(allow_nan=False)
    | st.text(max_size=6)
    | st.sampled_from(["", " ", "B", "EUR", "ocid", "met", "2024-01-01", "2024-01-01T00:00:00Z", "0000-00-00"])
)


def shaped(shape, depth):
    """Return releases that are nearly right: the fields that there are, with values of any kind now and then."""
    fields = {}
    for name, field in shape.fields.items():
        inner = SCALARS if field.shape is None or depth == 0 else shaped(field.shape, depth - 1) | SCALARS
        fields[name] = st.lists(inner, max_size=2) | inner if field.array else inner
    return st.fixed_dictionaries({}, optional=fields)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(FIELDS) | st.text(max_size=3),
        st.recursive(
            SCALARS,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
            max_leaves=12,
        ),
        max_size=8,
    )
)
@example({"tender": {"value": {"amount": 10**400, "currency": "EUR"}}})
@example(
    {
        "contracts": [{"awardID": "A", "value": {"amount": 10**400, "currency": "EUR"}}],
        "awards": [{"id": "A", "value": {"amount": 1.5, "currency": "EUR"}}],
    }
)
@example(
    {
        "awards": [{"id": "A", "date": "0001-01-01T00:00:00+14:00"}],
        "tender": {"tenderPeriod": {"startDate": "9999-12-31T23:59:59-14:00"}},
    }
)
def test_no_json_object_stops_the_checks(record):
    found = inspect(record)
    assert found["records.readable"].applicable == 1
    for outcome in found.values():
        assert 0 <= outcome.failed <= outcome.applicable, outcome
        assert (outcome.failed == 0) == (not outcome.examples)


@settings(max_examples=60, deadline=None)
@given(shaped(release_shape(EXTENSIONS), 2))
def test_nothing_that_looks_like_a_release_stops_the_checks(record):
    for outcome in inspect(record).values():
        assert 0 <= outcome.failed <= outcome.applicable, outcome


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real data is not here")
def test_real_releases_are_judged_as_they_deserve():
    package = json.loads((REAL_DATA / "pt-base-releases.json").read_text())
    found = inspect(*package["releases"], extensions=declared_extensions(package["extensions"]).known)
    assert {check: outcome.failed for check, outcome in found.items() if outcome.failed} == {"references.roles": 16}
    assert found["references.parties"].applicable == 316
