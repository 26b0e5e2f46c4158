"""Checks that compare parts of one release with each other: dates in order, amounts that add up, references.

Each is given what the walk found. Nothing here trusts a type: what is not of the right one cannot be judged, and was
told of already. Ids are compared as text, so that 1 and "1" are the same.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import isfinite
from typing import Any, TypeGuard

from services.processor.quality.tally import Path, Tally
from services.processor.quality.walk import Place, Walk

ROUNDING = 1.01
"""How much more than a value a sum may be."""
GRACE = timedelta(days=1)
"""How far in the future a date may be that tells of the past."""

HAPPENED = frozenset({"date", "dateSigned", "dateMet", "datePublished", "dateModified", "dateAnswered"})
"""Fields whose dates are of what has happened."""
ROLES = {
    "buyer": "buyer",
    "procuringEntity": "procuringEntity",
    "tenderers": "tenderer",
    "suppliers": "supplier",
    "payer": "payer",
    "payee": "payee",
    "author": "enquirer",
    "sourceParty": "funder",
}
"""Field of a reference → the role that its organization has to have."""
VALUED_DEPTH = 3
VALUED = {
    ("tender", "value"),
    ("awards", "value"),
    ("contracts", "value"),
}
"""First and last part of the path of values that are hardly ever zero."""

OCID = re.compile(r"(ocds-[a-z0-9]{6})-\S.*", re.DOTALL)
_MOMENT = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2})(?::(\d{2})(?:[.,](\d+))?)? ?([Zz]|[+-]\d{2}:?\d{2})?)?", re.ASCII
)

Checker = Callable[[dict[str, Any], Walk, dict[str, Tally]], None]


class Moment:
    """What a date says: a day, and if it has a time, an instant."""

    __slots__ = ("day", "instant")

    def __init__(self, day: str, instant: datetime | None) -> None:
        self.day = day
        self.instant = instant

    def is_before(self, other: "Moment") -> bool:
        """Return whether it is surely earlier. Where either has no time, days are compared as they are written."""
        if self.instant is not None and other.instant is not None:
            return self.instant < other.instant
        return self.day < other.day


@lru_cache(maxsize=16_384)
def moment(text: str) -> Moment | None:
    """Return what a date says, None if it names no day. A time without an offset is taken as UTC."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    day, minutes, seconds, fraction, offset = match.groups()
    try:
        if minutes is None:
            datetime.fromisoformat(day)
            return Moment(day, None)
        zone = "+00:00" if offset is None or offset in "Zz" else offset
        micro = (fraction or "")[:6].ljust(6, "0")
        instant = datetime.fromisoformat(f"{day}T{minutes}:{seconds or '00'}.{micro}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return Moment(day, instant)


def _moment(item: dict[str, Any], name: str) -> Moment | None:
    return moment(value) if type(value := item.get(name)) is str else None


def _identity(item: Any, name: str = "id") -> str | None:
    """Return an id as text; None for none."""
    value = item.get(name) if type(item) is dict else None
    if type(value) is int:
        return str(value)
    return value if type(value) is str and value else None


def _amount(item: dict[str, Any], name: str = "value") -> tuple[float, str] | None:
    """Return amount and currency of a value, None if either is missing."""
    value = item.get(name)
    if type(value) is not dict:
        return None
    amount, currency = value.get("amount"), value.get("currency")
    if _is_number(amount) and type(currency) is str and currency:
        return amount, currency
    return None


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) is int or (type(value) is float and isfinite(value))


def _part(item: Any, name: str) -> dict[str, Any]:
    """Return an object in an object, an empty one if there is none."""
    value = item.get(name) if type(item) is dict else None
    return value if type(value) is dict else {}


def _objects(item: Any, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of an array in an object, with their places."""
    value = item.get(name) if type(item) is dict else None
    if type(value) is list:
        for index, element in enumerate(value):
            if type(element) is dict:
                yield index, element


# Dates


def check_periods(_release: dict[str, Any], walk: Walk, tallies: dict[str, Tally]) -> None:
    """Judge the order of the dates of periods."""
    tally = tallies["dates.periods"]
    for path, period in walk.found["Period"]:
        end = _moment(period, "endDate")
        if end is None:
            continue
        start, latest = _moment(period, "startDate"), _moment(period, "maxExtentDate")
        if start is not None:
            tally.judge(not end.is_before(start), walk.record, path, period)
        if latest is not None:
            tally.judge(not latest.is_before(end), walk.record, (*path, "maxExtentDate"), period)


def future_checker(now: datetime) -> Checker:
    """Return a check of dates of what has happened against the time at which the checks began."""
    limit = Moment(f"{now + GRACE:%Y-%m-%d}", now + GRACE)

    def check_future(_release: dict[str, Any], walk: Walk, tallies: dict[str, Tally]) -> None:
        tally = tallies["dates.future"]
        for path, text in walk.dates:
            if path[-1] in HAPPENED and (when := moment(text)) is not None:
                tally.judge(not limit.is_before(when), walk.record, path, text)

    return check_future


def check_order(release: dict[str, Any], walk: Walk, tallies: dict[str, Tally]) -> None:
    """Judge awards against the tender, contracts against awards, payments against contracts."""
    opened = _moment(_part(_part(release, "tender"), "tenderPeriod"), "startDate")
    awarded: dict[str, Moment] = {}
    for path, award in walk.found["Award"]:
        when = _moment(award, "date")
        if when is None:
            continue
        if (identity := _identity(award)) is not None:
            awarded[identity] = when
        if opened is not None:
            tallies["dates.awards"].judge(not when.is_before(opened), walk.record, (*path, "date"), award["date"])
    for path, contract in walk.found["Contract"]:
        signed = _moment(contract, "dateSigned")
        if signed is None:
            continue
        award_date = awarded.get(_identity(contract, "awardID") or "")
        if award_date is not None:
            tallies["dates.signed"].judge(
                not signed.is_before(award_date), walk.record, (*path, "dateSigned"), contract["dateSigned"]
            )
        for index, payment in _objects(_part(contract, "implementation"), "transactions"):
            if (paid := _moment(payment, "date")) is not None:
                place = (*path, "implementation", "transactions", index, "date")
                tallies["dates.transactions"].judge(not paid.is_before(signed), walk.record, place, payment["date"])


def check_documents(_release: dict[str, Any], walk: Walk, tallies: dict[str, Tally]) -> None:
    """Judge the dates of documents."""
    for path, document in walk.found["Document"]:
        published, modified = _moment(document, "datePublished"), _moment(document, "dateModified")
        if published is not None and modified is not None:
            tallies["dates.documents"].judge(
                not modified.is_before(published), walk.record, (*path, "dateModified"), document["dateModified"]
            )


def check_milestones(_release: dict[str, Any], walk: Walk, tallies: dict[str, Tally]) -> None:
    """Judge the dates of milestones against their status."""
    for path, milestone in walk.found["Milestone"]:
        status, met = milestone.get("status"), milestone.get("dateMet")
        if type(status) is str and status in ("met", "notMet", "scheduled"):
            passes = bool(met) == (status == "met")
            tallies["dates.milestones"].judge(passes, walk.record, (*path, "dateMet"), met)


# Amounts


def check_amounts(_release: dict[str, Any], walk: Walk, tallies: dict[str, Tally]) -> None:
    """Judge each amount by itself."""
    currency, negative, zero = tallies["amounts.currency"], tallies["amounts.negative"], tallies["amounts.zero"]
    for name in ("Value", "SignedValue"):
        for path, value in walk.found[name]:
            amount = value.get("amount")
            if not _is_number(amount):
                continue
            currency.applicable += 1
            if not value.get("currency"):
                currency.fail(walk.record, (*path, "currency"), value)
            if name == "SignedValue":
                continue
            negative.applicable += 1
            if amount < 0:
                negative.fail(walk.record, (*path, "amount"), amount)
            if len(path) <= VALUED_DEPTH and (path[0], path[-1]) in VALUED:
                zero.judge(amount != 0, walk.record, (*path, "amount"), amount)


def check_sums(_release: dict[str, Any], walk: Walk, tallies: dict[str, Tally]) -> None:
    """Judge the contracts of an award against it, and the payments of a contract against that."""
    contracts: dict[str, list[tuple[float, str] | None]] = {}
    for path, contract in walk.found["Contract"]:
        worth = _amount(contract)
        if (award_id := _identity(contract, "awardID")) is not None:
            contracts.setdefault(award_id, []).append(worth)
        payments = [_payment(payment) for _, payment in _objects(_part(contract, "implementation"), "transactions")]
        _judge_sum(tallies["amounts.transactions"], payments, worth, walk.record, (*path, "value"), contract)
    for path, award in walk.found["Award"]:
        parts = contracts.get(_identity(award) or "", [])
        _judge_sum(tallies["amounts.contracts"], parts, _amount(award), walk.record, (*path, "value"), award)


def _payment(payment: dict[str, Any]) -> tuple[float, str] | None:
    return _amount(payment) or _amount(payment, "amount")


def _judge_sum(
    tally: Tally,
    parts: list[tuple[float, str] | None],
    whole: tuple[float, str] | None,
    record: str,
    path: Path,
    item: dict[str, Any],
) -> None:
    if whole is None or not parts:
        return
    total = 0.0
    for part in parts:
        if part is None or part[1] != whole[1]:
            return
        try:
            total += part[0]
        except OverflowError:  # a whole number of hundreds of digits
            return
    tally.judge(total <= max(whole[0] * ROUNDING, whole[0]), record, path, {"value": item.get("value"), "sum": total})


# References


def check_parties(release: dict[str, Any], walk: Walk, tallies: dict[str, Tally]) -> None:
    """Judge references to organizations, and the roles of those that are found."""
    references = walk.found["OrganizationReference"]
    if not references:
        return
    parties = {identity: party for _, party in _objects(release, "parties") if (identity := _identity(party))}
    found, roles = tallies["references.parties"], tallies["references.roles"]
    found.applicable += len(references)
    for path, reference in references:
        party = parties.get(_identity(reference) or "")
        if party is None:
            found.fail(walk.record, (*path, "id"), reference.get("id"))
            continue
        last = path[-1]
        role = ROLES.get(last if type(last) is str else str(path[-2]))
        if role is not None:
            has = party.get("roles")
            roles.judge(type(has) is list and role in has, walk.record, path, {"role": role, "roles": has})


def check_awards(_release: dict[str, Any], walk: Walk, tallies: dict[str, Tally]) -> None:
    """Judge the award that a contract names."""
    contracts = walk.found["Contract"]
    if not contracts:
        return
    awards = {_identity(award) for _, award in walk.found["Award"]}
    for path, contract in contracts:
        if (award_id := _identity(contract, "awardID")) is not None:
            tallies["references.awards"].judge(award_id in awards, walk.record, (*path, "awardID"), award_id)


def check_processes(release: dict[str, Any], walk: Walk, tallies: dict[str, Tally]) -> None:
    """Judge the ocids of related processes."""
    for path, related in walk.found["RelatedProcess"]:
        identifier = related.get("identifier")
        if related.get("scheme") == "ocid" and type(identifier) is str and identifier:
            passes = OCID.fullmatch(identifier) is not None and identifier != release.get("ocid")
            tallies["references.processes"].judge(passes, walk.record, (*path, "identifier"), identifier)


def check_lots(release: dict[str, Any], walk: Walk, tallies: dict[str, Tally]) -> None:
    """Judge references to lots, wherever they are."""
    lots = {_identity(lot) for _, lot in _objects(_part(release, "tender"), "lots")}
    _judge_names(release, ("relatedLot", "relatedLots"), lots, tallies["references.lots"], walk.record)


def check_bids(release: dict[str, Any], walk: Walk, tallies: dict[str, Tally]) -> None:
    """Judge references to bids."""
    bids = {_identity(bid) for _, bid in _objects(_part(release, "bids"), "details")}
    for name in ("awards", "contracts"):
        for index, item in _objects(release, name):
            for path, reference in _references(item, ("relatedBid", "relatedBids")):
                place = (name, index, *path)
                tallies["references.bids"].judge(_as_text(reference) in bids, walk.record, place, reference)


def _judge_names(value: Any, names: tuple[str, ...], known: set[str | None], tally: Tally, record: str) -> None:
    pending: list[tuple[Path, Any]] = [((), value)]
    while pending:
        path, item = pending.pop()
        if type(item) is list:
            pending.extend(((*path, index), element) for index, element in enumerate(item))
        elif type(item) is dict:
            for place, reference in _references(item, names):
                tally.judge(_as_text(reference) in known, record, (*path, *place), reference)
            pending.extend(((*path, name), element) for name, element in item.items())


def _references(item: dict[str, Any], names: Iterable[str]) -> Iterator[tuple[Path, Any]]:
    """Yield the ids in the named fields, each an id or an array of them."""
    for name in names:
        value = item.get(name)
        if type(value) is list:
            yield from (((name, index), one) for index, one in enumerate(value) if _as_text(one) is not None)
        elif _as_text(value) is not None:
            yield (name,), value


def _as_text(value: Any) -> str | None:
    if type(value) is int:
        return str(value)
    return value if type(value) is str and value else None


def checkers(now: datetime, extensions: Iterable[str]) -> list[Checker]:
    """Return the checks that apply to releases with these extensions."""
    by_extension = {"lots": check_lots, "bids": check_bids}
    return [
        check_periods,
        future_checker(now),
        check_order,
        check_documents,
        check_milestones,
        check_amounts,
        check_sums,
        check_parties,
        check_awards,
        check_processes,
        *(check for name, check in by_extension.items() if name in extensions),
    ]


__all__ = ["OCID", "Checker", "Place", "checkers", "moment"]
