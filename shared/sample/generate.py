"""Writes the sample publication: ``python -m shared.sample.generate [DIRECTORY]``. The same bytes on every run.

The publication
---------------
An invented publisher, the National Procurement Office of the Republic of Bowerland, publishes release packages as OCDS
1.1 defines them. Contracting processes run from 2019 to 2024. More than half have one release; the others have up to
four, which follow one another (planning and tender, amendment, award, contract, change, implementation) and, because
packages are filled by date of publication, often sit in different files. Compiling them must merge: a status changes, a
deadline moves, an item is added, a contract's value is amended, transactions are appended.

Odd ones
--------
Each member of :class:`Odd` is the ocid of a process with one release that is valid JSON, and difficult on purpose:

- no ``date``, a null, an empty one, a word, a thirteenth month;
- a date whose offset puts it into another year than UTC does (its text says 2020);
- a description of more characters than an Excel cell holds (32,767);
- a number whose text would change if it were read as a float and written again (``1234567890.10``), and an integer of
  more than 64 bits;
- an empty array, an empty object, nulls;
- a text written with escapes (``\\u00e9``, ``\\/``, a surrogate pair, quotes, backslashes, a line break);
- a text of many scripts, directions and combining characters.

Each package has one release a line, so that a change to the generator shows as a readable difference.
"""

import json
import random
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from shared.sample import PACKAGES
from shared.sample.vocabulary import BUYERS, PLACES, SUBJECTS, SUPPLIERS, Item, Organization, Subject

OCID_PREFIX = "ocds-b0w3rb"
PUBLISHER = "Republic of Bowerland, National Procurement Office"
LICENSE = "https://creativecommons.org/licenses/by/4.0/"
PUBLICATION_POLICY = "https://npo.example.org/open-data/policy"
SITE = "https://npo.example.org"
PACKAGE_COUNT = 8
FIRST_DAY = datetime(2019, 1, 7, 9, 0, tzinfo=UTC)
LAST_DAY = datetime(2024, 12, 20, 9, 0, tzinfo=UTC)
LONG_TEXT_CHARACTERS = 40_000
EXACT_NUMBER = "1234567890.10"
BIG_INTEGER = 123456789012345678901234567890
ESCAPED_TEXT = (
    r'"Caf\u00e9 \"Le Nid\" \/ kiosk no. 2\nGround floor, plan in C:\\plans\\nest.pdf\t\u2013 see annex \ud83d\udc26"'
)
"""A JSON text, quotes included, that encoders write differently."""
MANY_SCRIPTS = "Ἕν, два, 三, أربعة, חמש, छह, เจ็ด – Łódź, Zürich, İzmir, n̈ 👩🏽\u200d🔧🇺🇳 “done”"

# The steps of a process that each of its releases publishes, and how many processes there are of each kind.
PLANS: tuple[tuple[int, tuple[tuple[str, ...], ...]], ...] = (
    (28, (("planning",),)),
    (52, (("planning", "tender"),)),
    (44, (("planning", "tender", "award", "contract"),)),
    (24, (("award", "contract"),)),
    (24, (("tender",), ("award", "contract"))),
    (14, (("planning", "tender"), ("change_tender",))),
    (12, (("tender",), ("cancel_tender",))),
    (12, (("planning",), ("tender",), ("award", "contract"))),
    (8, (("tender", "award"), ("contract",), ("implementation", "change_contract"))),
    (8, (("planning", "tender"), ("change_tender",), ("award", "contract"), ("implementation", "change_contract"))),
    (5, (("planning", "tender"), ("award",), ("contract",), ("implementation", "complete"))),
)
TAGS = {
    "change_tender": "tenderAmendment",
    "cancel_tender": "tenderCancellation",
    "change_contract": "contractAmendment",
    "complete": "contractTermination",
}


class Odd(StrEnum):
    """Ocids of the releases that are difficult on purpose."""

    NO_DATE = f"{OCID_PREFIX}-odd-no-date"
    NULL_DATE = f"{OCID_PREFIX}-odd-null-date"
    EMPTY_DATE = f"{OCID_PREFIX}-odd-empty-date"
    WORD_DATE = f"{OCID_PREFIX}-odd-word-date"
    MONTH_13 = f"{OCID_PREFIX}-odd-month-13"
    YEAR_END_OFFSET = f"{OCID_PREFIX}-odd-year-end-offset"
    LONG_TEXT = f"{OCID_PREFIX}-odd-long-text"
    EXACT_NUMBER = f"{OCID_PREFIX}-odd-exact-number"
    BIG_INTEGER = f"{OCID_PREFIX}-odd-big-integer"
    EMPTY_VALUES = f"{OCID_PREFIX}-odd-empty-values"
    NULL_VALUES = f"{OCID_PREFIX}-odd-null-values"
    ESCAPED_TEXT = f"{OCID_PREFIX}-odd-escaped-text"
    MANY_SCRIPTS = f"{OCID_PREFIX}-odd-many-scripts"


UNDATED = frozenset({Odd.NO_DATE, Odd.NULL_DATE, Odd.EMPTY_DATE, Odd.WORD_DATE, Odd.MONTH_13})
"""Those that belong to no year."""

# Stand-ins for what json.dumps would write in its own way; the JSON text on the right replaces them.
VERBATIM = {"\ue000exact\ue000": EXACT_NUMBER, "\ue000escaped\ue000": ESCAPED_TEXT}
EXACT_STAND_IN, ESCAPED_STAND_IN = VERBATIM

Draft = tuple[datetime, dict[str, Any]]
"""When a release was published, whatever its ``date`` says, and the release."""
T = TypeVar("T")


class Dice:
    """Reproducible choices: built on ``random()`` alone, whose sequence Python promises to keep for a seed."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311  invented data, no secret

    def between(self, low: int, high: int) -> int:
        """Return an integer, bounds included."""
        return low + int(self._random.random() * (high - low + 1))

    def pick(self, values: Sequence[T]) -> T:
        """Return one of the values."""
        return values[self.between(0, len(values) - 1)]

    def some(self, values: Sequence[T], count: int) -> list[T]:
        """Return different values, in random order."""
        rest = list(values)
        return [rest.pop(self.between(0, len(rest) - 1)) for _ in range(min(count, len(rest)))]

    def chance(self, probability: float) -> bool:
        """Return True this often."""
        return self._random.random() < probability


class Process:
    """One contracting process: remembers what its earlier releases said, so that later ones change it."""

    def __init__(self, number: int, ocid: str | None = None) -> None:
        self.dice = dice = Dice(f"bowerland {number}")
        self.number = number
        self._ocid = ocid
        self.subject: Subject = dice.pick(SUBJECTS)
        self.buyer: Organization = dice.pick([buyer for buyer in BUYERS if buyer.deals_in(self.subject.trade)])
        self.place = dice.pick(PLACES) if self.buyer.trades else self.buyer.locality
        self.title = dice.pick(self.subject.titles).format(place=self.place)
        self.reason = dice.pick(self.subject.reasons)
        self.currency = "EUR" if dice.chance(0.2) else "USD"
        sellers = [supplier for supplier in SUPPLIERS if supplier.deals_in(self.subject.trade)]
        self.tenderers = dice.some(sellers, dice.between(2, 5))
        self.items = [
            self._item(number, item) for number, item in enumerate(dice.some(self.subject.items, dice.between(1, 3)), 1)
        ]
        self.estimate = sum(item["quantity"] * cents(item["unit"]["value"]["amount"]) for item in self.items)
        self.price = self.estimate * dice.between(82, 101) // 100
        self.releases = 0
        self.now = FIRST_DAY
        self.steps: Sequence[str] = ()
        self.parties: dict[str, dict[str, Any]] = {}
        self.roles: dict[str, list[str]] = {}

    def drafts(self, plan: Sequence[Sequence[str]]) -> Iterator[Draft]:
        """Yield the process's releases, one for each tuple of steps."""
        gaps = [self._gap(steps) for steps in plan[1:]]
        room = (LAST_DAY - FIRST_DAY - sum(gaps, timedelta())).days
        self.now = FIRST_DAY + timedelta(days=self.dice.between(0, room), minutes=self.dice.between(0, 420))
        self.started = self.now
        for steps, gap in zip(plan, [*gaps, timedelta()], strict=True):
            yield self.now, self.release(steps)
            self.now += gap

    def _gap(self, steps: Sequence[str]) -> timedelta:
        """Return the time before a release: amendments come before a deadline, all else after it."""
        days = self.dice.between(8, 13) if "change_tender" in steps else self.dice.between(62, 120)
        return timedelta(days=days, minutes=self.dice.between(0, 420))

    @property
    def ocid(self) -> str:
        """The process's ocid: that of an odd one, or made of its first year and its number."""
        return self._ocid or f"{OCID_PREFIX}-{self.started.year}-{self.number:04}"

    def release(self, steps: Sequence[str]) -> dict[str, Any]:
        """Return the release that publishes the steps."""
        self.releases += 1
        self.parties = {}
        self.steps = steps
        release: dict[str, Any] = {
            "ocid": self.ocid,
            "id": f"{self.ocid}-{self.releases}",
            "date": stamp(self.now),
            "tag": [TAGS.get(step, step) for step in steps],
            "initiationType": "tender",
            "language": "en",
            "buyer": self._refer(self.buyer, "buyer"),
        }
        for step in steps:
            for section, content in getattr(self, step)().items():
                release[section] = merge(release[section], content) if section in release else content
        release["parties"] = [party | {"roles": list(party["roles"])} for party in self.parties.values()]
        return release

    def planning(self) -> dict[str, Any]:
        """Why, and from which budget."""
        self._refer(self.buyer, "payer")
        planning: dict[str, Any] = {
            "rationale": self.reason,
            "budget": {
                "id": f"B-{self.now.year}-{self.dice.between(100, 999)}",
                "description": f"Programme {self.dice.pick('ABCDEFGH')}{self.dice.between(1, 40)}, {self.buyer.name}",
                "amount": self._money(round_up(self.estimate)),
                "project": f"{self.place}: {self.subject.items[0].classification.lower()}",
                "projectID": f"P-{self.dice.between(1000, 9999)}",
            },
        }
        if self.dice.chance(0.5):
            planning["documents"] = [self._document("needsAssessment", "Needs assessment")]
        if self.dice.chance(0.3):
            planning["milestones"] = [self._milestone("preProcurement", "Public consultation closes", -20)]
        return {"planning": planning}

    def tender(self) -> dict[str, Any]:
        """What is asked for, how, until when."""
        dice = self.dice
        method = dice.pick(("open", "open", "open", "selective", "limited"))
        # A release that tells of the award as well tells of a tender that is over.
        self.opened = self.now - timedelta(days=70 if "award" in self.steps else 0)
        self.closing = self.opened + timedelta(days=dice.between(18, 45))
        tender: dict[str, Any] = {
            "id": f"T-{self.number:04}",
            "title": self.title,
            **{f"title_{language}": title for language, title in self.subject.translations if dice.chance(0.4)},
            "description": f"{self.title}. {self.reason}",
            "status": "active",
            "procuringEntity": self._refer(self.buyer, "procuringEntity"),
            "mainProcurementCategory": self.subject.category,
            "procurementMethod": method,
            "procurementMethodDetails": f"Procurement Act, section {dice.between(12, 44)}",
            "awardCriteria": dice.pick(("priceOnly", "costOnly", "ratedCriteria")),
            "submissionMethod": dice.some(("electronicSubmission", "written", "inPerson"), dice.between(1, 2)),
            "value": self._money(self.estimate),
            "items": self.items,
            "tenderPeriod": self._period(self.opened, self.closing),
            "documents": [self._document("tenderNotice", "Contract notice")],
        }
        if method == "limited":
            tender["procurementMethodRationale"] = "Two earlier calls ended without an acceptable tender."
        if dice.chance(0.4):
            tender["documents"].append(self._document("biddingDocuments", "Instructions, forms and draft contract"))
            tender["enquiryPeriod"] = self._period(self.opened, self.opened + timedelta(days=12))
            tender["hasEnquiries"] = dice.chance(0.5)
        if dice.chance(0.3):
            tender["milestones"] = [self._milestone("engagement", "Site visit", 9)]
        if dice.chance(0.3):
            tender["eligibilityCriteria"] = "Taxes paid; no exclusion ground; two comparable contracts in five years."
        return {"tender": tender}

    def change_tender(self) -> dict[str, Any]:
        """Move the deadline and ask for one thing more."""
        former, self.closing = self.closing, self.closing + timedelta(days=14)
        asked = {item["classification"]["id"] for item in self.items}
        others = [item for item in self.subject.items if item.code not in asked] or self.subject.items
        added = self._item(len(self.items) + 1, self.dice.pick(others))
        self.items = [*self.items, added]
        self.estimate += added["quantity"] * cents(added["unit"]["value"]["amount"])
        self.price = self.estimate * self.dice.between(85, 102) // 100
        amendment = {
            "id": "1",
            "date": stamp(self.now),
            "description": f"Deadline moved from {former:%Y-%m-%d}; item {added['id']} added.",
            "rationale": "Answers to questions received",
        }
        tender = {
            "id": f"T-{self.number:04}",
            "items": [added],
            "value": self._money(self.estimate),
            "tenderPeriod": self._period(self.opened, self.closing),
            "amendments": [amendment],
        }
        return {"tender": tender}

    def cancel_tender(self) -> dict[str, Any]:
        """End the procedure without an award."""
        tender = {
            "id": f"T-{self.number:04}",
            "status": self.dice.pick(("cancelled", "unsuccessful")),
            "statusDetails": self.dice.pick(("No tender was received in time.", "The budget was withdrawn.")),
        }
        return {"tender": tender}

    def award(self) -> dict[str, Any]:
        """Who won, among whom."""
        winner = self.tenderers[0]
        award: dict[str, Any] = {
            "id": f"A-{self.number:04}",
            "title": self.title,
            "status": "active",
            "date": stamp(self.now),
            "value": self._money(self.price),
            "suppliers": [self._refer(winner, "supplier")],
            "items": [self._contracted(item) for item in self.items],
        }
        if self.dice.chance(0.2):
            award["suppliers"].append(self._refer(self.tenderers[1], "supplier"))
            award["description"] = "Awarded to a consortium."
        if self.dice.chance(0.4):
            award["documents"] = [self._document("awardNotice", "Award notice")]
        tender = {
            "id": f"T-{self.number:04}",
            "status": "complete",
            "numberOfTenderers": len(self.tenderers),
            "tenderers": [self._refer(tenderer, "tenderer") for tenderer in self.tenderers],
        }
        return {"tender": tender, "awards": [award]}

    def contract(self) -> dict[str, Any]:
        """What was signed."""
        signed = self.now + timedelta(days=self.dice.between(0, 4))
        contract: dict[str, Any] = {
            "id": f"C-{self.number:04}",
            "awardID": f"A-{self.number:04}",
            "title": self.title,
            "status": "active",
            "period": self._period(signed, signed + timedelta(days=self.dice.between(60, 720))),
            "value": self._money(self.price),
            "dateSigned": stamp(signed),
            "items": [self._contracted(item) for item in self.items],
        }
        if self.dice.chance(0.35):
            contract["documents"] = [self._document("contractSigned", "Contract, signed, without personal data")]
        if self.dice.chance(0.35):
            contract["milestones"] = [self._milestone("delivery", "First delivery accepted", 40)]
        sections: dict[str, Any] = {"contracts": [contract]}
        if self.dice.chance(0.2):
            sections["relatedProcesses"] = [self._related_process()]
        return sections

    def change_contract(self) -> dict[str, Any]:
        """Amend the contract's value."""
        former, self.price = self.price, self.price * self.dice.between(103, 118) // 100
        amendment = {
            "id": "1",
            "date": stamp(self.now),
            "description": f"Value raised from {former / 100:.2f} to {self.price / 100:.2f} {self.currency}.",
            "rationale": self.dice.pick(("Index clause", "Quantities measured on site", "Option taken up")),
        }
        contract = {"id": f"C-{self.number:04}", "value": self._money(self.price), "amendments": [amendment]}
        return {"contracts": [contract]}

    def implementation(self) -> dict[str, Any]:
        """What was paid and delivered so far."""
        payer, payee = self._refer(self.buyer, "payer"), self._refer(self.tenderers[0], "payee")
        transactions = [
            {
                "id": f"P-{self.number:04}-{number}",
                "source": f"{SITE}/ledger/{self.number:04}",
                "date": stamp(self.now - timedelta(days=18 - 5 * number)),
                "value": self._money(self.price * share // 100),
                "payer": payer,
                "payee": payee,
            }
            for number, share in enumerate(self.dice.some((10, 15, 20, 25), self.dice.between(1, 3)), 1)
        ]
        implementation: dict[str, Any] = {
            "transactions": transactions,
            "milestones": [self._milestone("delivery", "Accepted without defects", -3)],
        }
        if self.dice.chance(0.5):
            implementation["documents"] = [self._document("physicalProgressReport", "Progress report with photographs")]
        return {"contracts": [{"id": f"C-{self.number:04}", "implementation": implementation}]}

    def complete(self) -> dict[str, Any]:
        """End the contract as agreed."""
        return {"contracts": [{"id": f"C-{self.number:04}", "status": "terminated", "statusDetails": "Fulfilled"}]}

    def _refer(self, organization: Organization, role: str) -> dict[str, str]:
        """Return a reference to an organization, and list it among the release's parties.

        With all roles it has had so far: compiling replaces an array of strings by the latest.
        """
        roles = self.roles.setdefault(organization.id, [])
        if role not in roles:
            roles.append(role)
        party = self.parties.setdefault(organization.id, make_party(organization) | {"roles": roles})
        return {"id": party["id"], "name": party["name"]}

    def _item(self, number: int, item: Item) -> dict[str, Any]:
        unit_price = self.dice.between(item.price[0] * 100, item.price[1] * 100)
        code, unit = item.unit
        return {
            "id": str(number),
            "description": item.description,
            "classification": {"scheme": "CPV", "id": item.code, "description": item.classification},
            "quantity": self.dice.between(*item.quantity),
            "unit": {"scheme": "UNCEFACT", "id": code, "name": unit, "value": self._money(unit_price)},
        }

    @staticmethod
    def _contracted(item: dict[str, Any]) -> dict[str, Any]:
        """Return an item as awards and contracts repeat it: without the estimated price."""
        return {name: item[name] for name in ("id", "description", "classification", "quantity")}

    def _document(self, kind: str, title: str) -> dict[str, str]:
        return {
            "id": f"{kind}-{self.releases}",
            "documentType": kind,
            "title": title,
            "url": f"{SITE}/documents/{self.number:04}/{kind}-{self.releases}.pdf",
            "datePublished": stamp(self.now),
            "format": "application/pdf",
            "language": self.dice.pick(("en", "en", "en", "fr", "es", "ru", "zh")),
        }

    def _milestone(self, kind: str, title: str, days: int) -> dict[str, str]:
        return {
            "id": f"{kind}-{self.releases}",
            "title": title,
            "type": kind,
            "dueDate": stamp(self.now + timedelta(days=days)),
            "status": "met" if days < 0 else "scheduled",
        }

    def _related_process(self) -> dict[str, Any]:
        other = self.dice.between(1, 200)
        return {
            "id": "1",
            "relationship": ["framework"],
            "title": f"Framework agreement FA-{other:04}",
            "scheme": "ocid",
            "identifier": f"{OCID_PREFIX}-fa-{other:04}",
            "uri": f"{SITE}/processes/{OCID_PREFIX}-fa-{other:04}",
        }

    def _money(self, amount: int) -> dict[str, Any]:
        """:param amount: in cents."""
        return {"amount": amount // 100 if amount % 100 == 0 else amount / 100, "currency": self.currency}

    @staticmethod
    def _period(start: datetime, end: datetime) -> dict[str, Any]:
        return {"startDate": stamp(start), "endDate": stamp(end), "durationInDays": (end - start).days}


def cents(amount: float) -> int:
    """Return an amount as an integer, free of rounding errors."""
    return round(amount * 100)


def round_up(amount: int) -> int:
    """Return an amount in cents as a budget has it: the next full thousand."""
    return -(-amount // 100_000) * 100_000


def stamp(time: datetime) -> str:
    """Return a time as OCDS writes it."""
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def make_party(organization: Organization) -> dict[str, Any]:
    """Return an organization as a party; the caller adds its roles."""
    party: dict[str, Any] = {
        "id": f"XB-REG-{organization.id}",
        "name": organization.name,
        "identifier": {"scheme": "XB-REG", "id": organization.id, "legalName": organization.name},
        "address": {
            "streetAddress": organization.street,
            "locality": organization.locality,
            "region": organization.region,
            "postalCode": organization.postal_code,
            "countryName": "Bowerland",
        },
        "contactPoint": {"name": organization.contact, "email": f"tenders@{organization.domain}"},
    }
    if organization.scale:
        party["details"] = {"scale": organization.scale}
    return party


def merge(old: Any, new: Any) -> Any:
    """Return one section as two steps of the same release give it: objects by member, arrays of objects by ``id``."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {name: merge(old[name], value) if name in old else value for name, value in new.items()}
    if isinstance(old, list) and isinstance(new, list):
        entries = {entry["id"]: entry for entry in old}
        for entry in new:
            entries[entry["id"]] = merge(entries[entry["id"]], entry) if entry["id"] in entries else entry
        return list(entries.values())
    return new


def long_text() -> str:
    """Return a text of at least LONG_TEXT_CHARACTERS characters: a technical annex pasted into a description."""
    dice = Dice("a long annex")
    paragraphs: list[str] = []
    length = 0
    while length < LONG_TEXT_CHARACTERS:
        subject = dice.pick(SUBJECTS)
        item = dice.pick(subject.items)
        place = dice.pick(PLACES)
        paragraphs.append(
            f"{len(paragraphs) + 1}. {item.classification} ({item.code}), {place}: {item.description}. "
            f"{dice.pick(subject.reasons)}"
        )
        length += len(paragraphs[-1]) + 1
    return "\n".join(paragraphs)


# Where a release differs from an ordinary one, and what stands there.
ODD_VALUES: dict[Odd, dict[tuple[str | int, ...], Any]] = {
    Odd.NULL_DATE: {("date",): None},
    Odd.EMPTY_DATE: {("date",): ""},
    Odd.WORD_DATE: {("date",): "yesterday"},
    Odd.MONTH_13: {("date",): "2021-13-45"},
    Odd.YEAR_END_OFFSET: {("date",): "2020-12-31T23:59:59-05:00"},
    Odd.LONG_TEXT: {("tender", "description"): long_text()},
    Odd.EXACT_NUMBER: {("contracts", 0, "value", "amount"): EXACT_STAND_IN},
    Odd.BIG_INTEGER: {("contracts", 0, "ledgerNumber"): BIG_INTEGER},
    Odd.EMPTY_VALUES: {
        ("tender", "documents"): [],
        ("tender", "tenderPeriod"): {},
        ("tender", "eligibilityCriteria"): "",
    },
    Odd.NULL_VALUES: {
        ("tender", "description"): None,
        ("tender", "awardPeriod"): None,
        ("contracts", 0, "period", "endDate"): None,
    },
    Odd.ESCAPED_TEXT: {("tender", "title"): ESCAPED_STAND_IN},
    Odd.MANY_SCRIPTS: {("tender", "title"): MANY_SCRIPTS},
}


def make_odd(odd: Odd, release: dict[str, Any]) -> None:
    """Make a release difficult in the way that the name says."""
    if odd is Odd.NO_DATE:
        del release["date"]
    for (*parents, name), value in ODD_VALUES.get(odd, {}).items():
        target: Any = release
        for parent in parents:
            target = target[parent]
        target[name] = value


def all_drafts() -> Iterator[Draft]:
    """Yield every release, process by process."""
    number = 0
    for count, plan in PLANS:
        for _ in range(count):
            number += 1
            yield from Process(number).drafts(plan)
    for odd in Odd:
        number += 1
        for published, release in Process(number, odd).drafts([("planning", "tender", "award", "contract")]):
            make_odd(odd, release)
            yield published, release


def encode(value: Any) -> str:
    """Return compact JSON text; stand-ins are replaced by what they stand for."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for stand_in, verbatim in VERBATIM.items():
        text = text.replace(f'"{stand_in}"', verbatim)
    return text


def package_text(number: int, drafts: Sequence[Draft]) -> str:
    """Return a release package as JSON text: a head, then one release a line."""
    head = {
        "uri": f"{SITE}/packages/package-{number:02}.json",
        "version": "1.1",
        "publishedDate": stamp(drafts[-1][0]),
        "publisher": {"name": PUBLISHER, "scheme": "XB-REG", "uid": "G-014", "uri": SITE},
        "license": LICENSE,
        "publicationPolicy": PUBLICATION_POLICY,
    }
    lines = ",\n".join(encode(release) for _, release in drafts)
    return f'{encode(head)[:-1]},"releases":[\n{lines}\n]}}\n'


def generate(directory: Path) -> list[Path]:
    """Write the packages to a directory, which is made if it is missing; return their paths, in order."""
    drafts = sorted(all_drafts(), key=lambda draft: (draft[0], draft[1]["id"]))
    size = -(-len(drafts) // PACKAGE_COUNT)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(1, PACKAGE_COUNT + 1):
        path = directory / f"package-{number:02}.json"
        path.write_text(
            package_text(number, drafts[(number - 1) * size : number * size]), encoding="utf-8", newline="\n"
        )
        paths.append(path)
    return paths


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGES
    written = generate(target)
    sys.stdout.write(f"{len(written)} packages in {target}\n")
