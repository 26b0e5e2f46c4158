"""Quality checks: what there is to check, a job's report, and the thresholds that a collection may set.

The model
---------
A *check* asks one question of many *places* in the published records: of every reference, of every date. A place where
it can be asked passes or fails; where it cannot (there is no contract, or what would be compared is missing) it is not
counted. The share that passed is that of the places that could be judged; without any, the check is *not applicable*.

The processor judges (services/processor/quality); this module knows the checks and keeps what they found, and
shared/quality_report.py reads it, so that the API, the command line and the scheduler tell of it alike.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from shared.db.models import QualityCheck
from shared.errors import BowerbirdError

OPTION = "quality_thresholds"
"""The collection's option: check id or severity → the least share, 0 to 1, that must pass."""
SCHEMA_OPTION = "json_schema"
"""The collection's option: a JSON Schema of its own, which every record is held against."""
IGNORED = "thresholds_ignored"
"""In a job's context: by whom it was told to be published whatever its thresholds say."""


class Severity(StrEnum):
    """What a failure of a check says about the data."""

    ERROR = "error"
    """It breaks a rule of the standard, or cannot be true."""
    WARNING = "warning"
    """It is probably wrong."""
    INFO = "info"
    """Worth knowing."""


@dataclass(frozen=True)
class Check:
    """A check. ``id`` never changes its meaning: thresholds and programs name it."""

    id: str
    severity: Severity
    of: str
    """What its places are, in the plural."""
    title: str
    """What is so where it passes."""
    explanation: str


class InvalidThresholdError(BowerbirdError):
    """A threshold names no check, or is no share."""


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

CHECKS: dict[str, Check] = {
    check.id: check
    for check in (
        Check(
            "records.readable",
            _E,
            "records",
            "The record is a JSON object that can be judged",
            "Fails for anything but an object, for numbers beyond what a computer's number can hold, and for nesting "
            "of hundreds of levels. Nothing else is asked of such a record.",
        ),
        Check(
            "schema.required",
            _E,
            "required fields",
            "A required field has a value",
            "Judged for every required field of every object that is there. Null and empty text are no value.",
        ),
        Check(
            "schema.types",
            _E,
            "values",
            "A value is of the type that the standard gives its field",
            "Text, number, true or false, object, array, or one or the other. What an object of the wrong type holds "
            "is not looked into.",
        ),
        Check(
            "schema.dates",
            _E,
            "dates",
            "A date is written as the standard asks",
            "A day of the calendar, T, a time with seconds, and Z or an offset: 2026-03-02T04:00:11Z.",
        ),
        Check(
            "schema.urls",
            _E,
            "addresses",
            "An address is an absolute URI",
            "It begins with a scheme such as https: and has no space. Whether there is anything at it is not asked.",
        ),
        Check(
            "schema.fields",
            _I,
            "fields",
            "A field is one of the standard, or of an extension that is declared and known here",
            "Others may be published, but nobody can tell what they mean. Translations (title_fr) count as known.",
        ),
        Check(
            "schema.own",
            _E,
            "records",
            "The record fits the collection's own JSON Schema",
            "Judged only for collections that have one (`bowerbird add --schema`). The example is the record's first "
            "fault.",
        ),
        Check(
            "codes.closed",
            _E,
            "codes",
            "A code is on its closed code list",
            "Statuses, methods, categories, release tags, currencies: lists to which a publisher may not add.",
        ),
        Check(
            "codes.open",
            _I,
            "codes",
            "A code is on its open code list",
            "Document types, roles, classification schemes and so on: a publisher may add codes of its own, which "
            "few programs will understand.",
        ),
        Check(
            "values.empty",
            _W,
            "fields",
            "A field that is there has something in it",
            "Fails for text of nothing but space, and for objects and arrays without anything. Null is taken as not "
            "there.",
        ),
        Check(
            "ids.ocid-form",
            _E,
            "ocids",
            "An ocid has the form that the standard gives it",
            "ocds-, six lower-case letters or digits, a hyphen, and the publisher's own id. Whether the prefix is "
            "registered is not asked.",
        ),
        Check(
            "ids.ocid-prefix",
            _W,
            "ocids",
            "An ocid has the prefix that most of the collection's have",
            "Judged for ocids of the right form. A second prefix is mostly a test's, or another publisher's.",
        ),
        Check(
            "ids.releases",
            _E,
            "releases",
            "A release's id is its own among the releases of its contracting process",
            "Judged as collected, before releases are merged. Whoever refers to a release by its id may get another.",
        ),
        Check(
            "ids.records",
            _W,
            "records",
            "No other record, or compiled release, was collected under the same id",
            "Judged as collected, for plain records with an id and for compiled releases: of several, only the last "
            "is published.",
        ),
        Check(
            "ids.objects",
            _E,
            "objects with an id",
            "An object's id is its own in its array",
            "Awards, contracts, items, parties, documents, milestones, and all others but identifiers and "
            "classifications, whose ids are those of a scheme. Where releases were merged, two "
            "with the same id became one, and are counted as collected.",
        ),
        Check(
            "dates.periods",
            _E,
            "periods",
            "A period does not end before it starts",
            "Judged for every period with both dates; also its latest extent against its end.",
        ),
        Check(
            "dates.future",
            _W,
            "dates",
            "What has happened is not dated in the future",
            "Dates of releases, awards, signatures, transactions, amendments, bids and documents, and dates on which "
            "milestones were met; a day's grace for time zones.",
        ),
        Check(
            "dates.early",
            _W,
            "dates",
            "A date is not before 1970",
            "Earlier ones are mostly placeholders, such as 0001-01-01 or 1900-01-01.",
        ),
        Check(
            "dates.awards",
            _E,
            "awards",
            "An award is not dated before its tender period starts",
            "Judged for awards with a date, where the tender has a period with a start.",
        ),
        Check(
            "dates.signed",
            _W,
            "contracts",
            "A contract is not signed before its award",
            "Judged for contracts with a date of signature whose award is there and has a date.",
        ),
        Check(
            "dates.transactions",
            _W,
            "transactions",
            "A payment is not made before its contract is signed",
            "Judged for transactions with a date, of contracts with a date of signature.",
        ),
        Check(
            "dates.documents",
            _W,
            "documents",
            "A document is not modified before it is published",
            "Judged for documents with both dates.",
        ),
        Check(
            "dates.milestones",
            _W,
            "milestones",
            "A milestone has the date on which it was met if, and only if, it was met",
            "Judged for milestones with a status; those met in part may have the date or not, and are not counted.",
        ),
        Check(
            "amounts.currency",
            _E,
            "amounts",
            "An amount has a currency",
            "Judged for every amount that is a number.",
        ),
        Check(
            "amounts.negative",
            _E,
            "amounts",
            "An amount is not negative",
            "Payments and parts of a budget may be negative, and are not counted.",
        ),
        Check(
            "amounts.zero",
            _W,
            "amounts",
            "The value of a tender, award or contract is not zero",
            "Zero is mostly a value that nobody entered.",
        ),
        Check(
            "amounts.contracts",
            _W,
            "awards",
            "The contracts of an award are not worth more than the award",
            "Judged for awards with contracts, all with values in one currency; a hundredth is allowed for rounding.",
        ),
        Check(
            "amounts.transactions",
            _W,
            "contracts",
            "No more is paid for a contract than it is worth",
            "Judged for contracts with payments, all with values in one currency; a hundredth is allowed for rounding.",
        ),
        Check(
            "references.parties",
            _E,
            "references",
            "A reference to an organization names one of the parties by its id",
            "Buyer, procuring entity, tenderers, suppliers, payers, payees. One without an id names nobody, and fails. "
            '1 and the text "1" are the same.',
        ),
        Check(
            "references.roles",
            _W,
            "references",
            "The organization that is referred to has the role in which it is",
            "A supplier of an award has the role supplier, and so on. Judged where the party is found.",
        ),
        Check(
            "references.awards",
            _E,
            "contracts",
            "A contract names an award that is there",
            "Judged for contracts with an awardID.",
        ),
        Check(
            "references.lots",
            _E,
            "references",
            "A reference to a lot names one of the tender's lots",
            "Judged where the extension for lots is declared.",
        ),
        Check(
            "references.bids",
            _E,
            "references",
            "A reference to a bid names one of the bids",
            "Judged where the extension for bids is declared.",
        ),
        Check(
            "references.processes",
            _W,
            "references",
            "A related process that is named by its ocid has an ocid, and not its own",
            "Judged for related processes with the scheme ocid and an identifier. Whether that process was published "
            "is not asked.",
        ),
    )
}
"""Every check by its id, in the order in which they are shown."""


@dataclass
class Outcome:
    """What one check found in a job's records."""

    check: str
    applicable: int
    failed: int
    examples: list[dict[str, str]]
    """``record`` (ocid or id), ``path`` (JSON Pointer) and ``value`` (JSON, cut), of the first that failed."""

    @property
    def passed(self) -> int:
        """How many places passed."""
        return self.applicable - self.failed


def check_thresholds(thresholds: Mapping[str, Any]) -> dict[str, float]:
    """Return thresholds as numbers: check id or severity → least share that must pass.

    :raises InvalidThresholdError: a name is no check and no severity, or a share is not between 0 and 1.
    """
    return {name: _share(name, value) for name, value in thresholds.items()}


def _share(name: str, value: Any) -> float:
    if name not in CHECKS and name not in set(Severity):
        raise InvalidThresholdError(
            f"There is no check {name!r}. `bowerbird quality` lists them; {', '.join(Severity)} stand for all checks "
            "of that severity."
        )
    try:
        share = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share <= 1:
        raise InvalidThresholdError(
            f"The threshold of {name} is {value!r}. It takes the share that must pass, from 0 to 1: 0.95 for 95 %."
        )
    return share


def parse_thresholds(texts: Iterable[str]) -> dict[str, float]:
    """Return thresholds written as ``references.awards=0.95``. Raise as :func:`check_thresholds` does."""
    thresholds: dict[str, str] = {}
    for text in texts:
        name, separator, share = text.partition("=")
        if not separator:
            raise InvalidThresholdError(f"{text!r} is no threshold. It takes check and share: references.awards=0.95")
        thresholds[name.strip()] = share.strip()
    return check_thresholds(thresholds)


def threshold_of(check: Check, thresholds: Mapping[str, float]) -> float | None:
    """Return the threshold of a check: its own, else that of its severity, else None."""
    return thresholds.get(check.id, thresholds.get(check.severity))


def is_under(applicable: int, failed: int, threshold: float | None) -> bool:
    """Return whether too few places passed. A check that is not applicable is under no threshold."""
    return threshold is not None and applicable > 0 and (applicable - failed) / applicable < threshold


# Reports


def replace_report(session: Session, job_id: int, outcomes: Iterable[Outcome], thresholds: Mapping[str, float]) -> None:
    """Store a job's report in place of an earlier one, with the thresholds it is to be held against."""
    session.execute(delete(QualityCheck).where(QualityCheck.job_id == job_id))
    rows = [
        {
            "job_id": job_id,
            "check": outcome.check,
            "applicable": outcome.applicable,
            "failed": outcome.failed,
            "threshold": threshold_of(CHECKS[outcome.check], thresholds),
            "examples": outcome.examples,
        }
        for outcome in outcomes
    ]
    session.execute(insert(QualityCheck), rows)


def breaches(session: Session, job_id: int) -> list[QualityCheck]:
    """Return the checks of a job that are under their threshold, in the order in which they are shown."""
    rows = select(QualityCheck).where(QualityCheck.job_id == job_id, QualityCheck.threshold.is_not(None))
    under = [row for row in session.scalars(rows) if is_under(row.applicable, row.failed, row.threshold)]
    return sorted(under, key=lambda row: position(row.check))


def describe_breach(row: QualityCheck) -> str:
    """Return what is wrong in a sentence: check, figures, threshold and where an example is (not what it says)."""
    check, passed = CHECKS[row.check], row.applicable - row.failed
    sentence = (
        f"{check.id}: {passed:,} of {row.applicable:,} {check.of} pass ({percent(passed, row.applicable)}), under the "
        f"threshold of {as_percent(row.threshold or 0)}"
    )
    example = next(iter(row.examples), None)
    return f"{sentence}; for example {example['record']} {example['path']}".rstrip() if example else sentence


def percent(passed: int, applicable: int) -> str:
    """Return a share for people. Only where all passed, or none, does it say so: 99.999 % is not 100 %."""
    if passed in (0, applicable):
        return "100 %" if passed else "0 %"
    thousandths = min(max(passed * 1000 // applicable, 1), 999)
    return f"{thousandths / 10:.1f} %"


def as_percent(share: float) -> str:
    """Return a threshold for people: ``95 %``, ``99.95 %``."""
    return f"{share * 100:.10g} %"


def position(check: str) -> int:
    """Return the place of a check among those that are shown."""
    return list(CHECKS).index(check) if check in CHECKS else len(CHECKS)
