"""The sample publication: reproducible, valid, and as difficult as it says."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from shared.sample import PACKAGES, facts, generate, releases
from shared.sample.generate import UNDATED, Odd

REQUIRED = ("ocid", "id", "date", "tag", "initiationType")
PACKAGE_TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(PACKAGES.glob("*.json"))}
RELEASES = list(releases())
BY_OCID: dict[str, list[dict[str, Any]]] = defaultdict(list)
for release in RELEASES:
    BY_OCID[release["ocid"]].append(release)


def only(odd: Odd) -> dict[str, Any]:
    (release,) = BY_OCID[odd]
    return release


def line_of(odd: Odd) -> str:
    """The release's own JSON text."""
    (line,) = (line for text in PACKAGE_TEXTS.values() for line in text.splitlines() if f'"ocid":"{odd}"' in line)
    return line


def nodes(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value of a release with the names that lead to it."""
    yield path, value
    if isinstance(value, dict):
        for name, member in value.items():
            yield from nodes(member, (*path, name))
    elif isinstance(value, list):
        for member in value:
            yield from nodes(member, path)


def test_generating_again_gives_the_committed_bytes(tmp_path):
    written = generate.generate(tmp_path)

    assert [path.name for path in written] == list(PACKAGE_TEXTS)
    for path in written:
        assert path.read_bytes() == (PACKAGES / path.name).read_bytes(), f"{path.name} differs: generate it again"


def test_it_is_large_enough_to_be_interesting_and_small_enough_to_be_committed():
    assert len(PACKAGE_TEXTS) >= 6
    assert facts().releases == len(RELEASES) >= 320
    assert facts().ocids == len(BY_OCID) >= 240
    assert sum(len(text.encode()) for text in PACKAGE_TEXTS.values()) <= 1_200_000


def test_it_spans_six_years_and_the_counts_add_up():
    assert {year for year in facts().releases_by_year if year} == {2019, 2020, 2021, 2022, 2023, 2024}
    assert {year for year in facts().ocids_by_year if year} == {2019, 2020, 2021, 2022, 2023, 2024}
    assert sum(facts().releases_by_year.values()) == facts().releases
    assert sum(facts().ocids_by_year.values()) == facts().ocids
    assert facts().releases_by_year[None] == facts().ocids_by_year[None] == len(UNDATED)


def test_every_package_names_publisher_licence_policy_and_version():
    for name, text in PACKAGE_TEXTS.items():
        package = json.loads(text)
        assert package["uri"].endswith(name)
        assert package["version"] == "1.1"
        assert package["publisher"]["name"] == generate.PUBLISHER
        assert package["license"] == generate.LICENSE
        assert package["publicationPolicy"] == generate.PUBLICATION_POLICY
        assert package["publishedDate"] >= max(
            release["date"] for release in package["releases"] if release["ocid"] not in set(Odd)
        )


@pytest.mark.parametrize("field", REQUIRED)
def test_every_release_has_the_required_fields_but_where_they_are_missing_on_purpose(field):
    without = {release["ocid"] for release in RELEASES if not release.get(field)}

    assert without == ({Odd.NO_DATE, Odd.NULL_DATE, Odd.EMPTY_DATE} if field == "date" else set())
    assert all(ocid.startswith(f"{generate.OCID_PREFIX}-") for ocid in BY_OCID)


def test_release_ids_are_unique():
    assert max(Counter(release["id"] for release in RELEASES).values()) == 1


def test_ids_are_unique_within_each_array():
    for release in RELEASES:
        for path, value in nodes(release):
            if isinstance(value, list) and value and isinstance(value[0], dict):
                ids = [entry["id"] for entry in value]
                assert len(ids) == len(set(ids)), f"{release['id']}: {'.'.join(path)} repeats an id"


def test_every_organization_reference_points_to_a_party_of_its_release():
    references = {"buyer", "procuringEntity", "tenderers", "suppliers", "payer", "payee"}
    for release in RELEASES:
        parties = {party["id"]: party["name"] for party in release["parties"]}
        for path, value in nodes(release):
            if path and path[-1] in references and isinstance(value, dict):
                assert parties.get(value["id"]) == value["name"], f"{release['id']}: {'.'.join(path)}"


def test_every_part_of_a_contracting_process_is_there():
    paths = {".".join(path) for release in RELEASES for path, value in nodes(release) if value}
    expected = """
        planning.rationale planning.budget.amount.amount planning.documents planning.milestones
        parties.roles parties.identifier.legalName parties.address.countryName parties.contactPoint.email
        tender.items.classification.id tender.items.unit.value.amount tender.items.quantity tender.documents.url
        tender.milestones tender.tenderPeriod.endDate tender.enquiryPeriod tender.amendments tender.tenderers
        awards.suppliers awards.items awards.documents
        contracts.items contracts.documents contracts.milestones contracts.amendments
        contracts.implementation.transactions.payee contracts.implementation.milestones
        contracts.implementation.documents relatedProcesses.identifier
    """
    assert not set(expected.split()) - paths


def test_processes_have_one_to_four_releases_spread_over_files_and_they_change_what_came_before():
    numbers = Counter(len(entries) for entries in BY_OCID.values())
    assert set(numbers) == {1, 2, 3, 4}
    files = defaultdict(set)
    for name, text in PACKAGE_TEXTS.items():
        for release in json.loads(text)["releases"]:
            files[release["ocid"]].add(name)
    assert sum(len(names) > 1 for names in files.values()) >= 30

    changed = Counter()
    for entries in BY_OCID.values():
        tenders = [entry["tender"] for entry in entries if "tender" in entry]
        contracts = [entry["contracts"][0] for entry in entries if "contracts" in entry]
        changed["status"] += len({tender["status"] for tender in tenders if "status" in tender}) > 1
        changed["items"] += len({len(tender["items"]) for tender in tenders if "items" in tender}) > 1
        changed["value"] += len({entry["value"]["amount"] for entry in contracts if "value" in entry}) > 1
        changed["transactions"] += "implementation" in contracts[-1] if len(contracts) > 1 else 0
    assert all(changed[what] >= 5 for what in ("status", "items", "value", "transactions")), changed


def test_undated_releases_are_undated_each_in_its_own_way():
    assert "date" not in only(Odd.NO_DATE)
    dates = {odd: only(odd)["date"] for odd in UNDATED - {Odd.NO_DATE}}
    assert dates == {
        Odd.NULL_DATE: None,
        Odd.EMPTY_DATE: "",
        Odd.WORD_DATE: "yesterday",
        Odd.MONTH_13: "2021-13-45",
    }
    assert only(Odd.YEAR_END_OFFSET)["date"] == "2020-12-31T23:59:59-05:00"


def test_numbers_are_written_exactly():
    assert '"amount":1234567890.10,' in line_of(Odd.EXACT_NUMBER)
    assert only(Odd.BIG_INTEGER)["contracts"][0]["ledgerNumber"] > 2**64


def test_empty_and_null_values_are_there():
    tender = only(Odd.EMPTY_VALUES)["tender"]
    assert (tender["documents"], tender["tenderPeriod"], tender["eligibilityCriteria"]) == ([], {}, "")
    assert only(Odd.NULL_VALUES)["tender"]["description"] is None
    assert only(Odd.NULL_VALUES)["contracts"][0]["period"]["endDate"] is None


def test_a_text_is_longer_than_a_cell_of_excel():
    text = only(Odd.LONG_TEXT)["tender"]["description"]
    assert generate.LONG_TEXT_CHARACTERS <= len(text) < generate.LONG_TEXT_CHARACTERS + 1_000
    assert len(text) > 32_767


def test_escapes_stay_as_written():
    line = line_of(Odd.ESCAPED_TEXT)
    for escape in (r"\u00e9", r"\"", r"\/", r"\n", r"\\", r"\t", r"\ud83d\udc26"):
        assert escape in line
    assert only(Odd.ESCAPED_TEXT)["tender"]["title"] == (
        'Café "Le Nid" / kiosk no. 2\nGround floor, plan in C:\\plans\\nest.pdf\t– see annex 🐦'
    )


def test_text_is_written_in_many_scripts_and_unescaped_elsewhere():
    text = "".join(PACKAGE_TEXTS.values())
    for sample in ("Œuvre", "Шалашево", "園丁灣", "شركة", "סוכת", "हरित", "บริษัท", "ბუდე", "Αφοί", "👩🏽\u200d🔧", "🐦"):
        assert sample in text
    assert text.count(r"\u") == line_of(Odd.ESCAPED_TEXT).count(r"\u")
