"""The merge routine of OCDS: from the releases of one contracting process to its compiled release.

The model (https://standard.open-contracting.org/1.1/en/schema/merging/)
---------
Releases are merged one after another, oldest first, into one object. A field of a later release replaces that of an
earlier one; ``null`` removes it; objects are merged field by field; in arrays of objects, those with the same ``id``
are merged and the others are added. Arrays of anything else, and :data:`WHOLE_LISTS`, are replaced as a whole.
Objects and arrays without a value say nothing and are dropped, except that an empty whole list replaces.

``id``, ``date`` and ``tag`` describe a single release and are not merged. The compiled release has its own: ``date`` is
that of the latest release, ``id`` is ``{ocid}-{date}``, ``tag`` is ``["compiled"]``. Where no release has a date, there
is no ``date``, and ``id`` is the ocid alone.
"""

from collections.abc import Iterable
from typing import Any, Literal

from msgspec import Raw

from services.processor.findings import Finding, Findings, shown
from shared.errors import PermanentError

RELEASE_METADATA = ("ocid", "id", "date", "tag")

WHOLE_LISTS = """
    parties/roles
    parties/additionalIdentifiers
    buyer/additionalIdentifiers
    relatedProcesses/relationship
    tender/additionalProcurementCategories
    tender/submissionMethod
    tender/procuringEntity/additionalIdentifiers
    tender/tenderers/additionalIdentifiers
    tender/items/additionalClassifications
    tender/amendment/changes
    tender/amendments/changes
    awards/suppliers/additionalIdentifiers
    awards/items/additionalClassifications
    awards/amendment/changes
    awards/amendments/changes
    contracts/items/additionalClassifications
    contracts/amendment/changes
    contracts/amendments/changes
    contracts/relatedProcesses/relationship
    contracts/implementation/transactions/payer/additionalIdentifiers
    contracts/implementation/transactions/payee/additionalIdentifiers
"""
"""Paths of OCDS 1.1.5 whose arrays are replaced as a whole: the release schema says ``wholeListMerge``, or gives the
items no ``id``, or a type other than object. Fields that the schema does not know merge by ``id``."""

Whole = Literal["whole"]
Rules = dict[str, "Rules | Whole"]
Path = tuple[str, ...]

WHOLE: Whole = "whole"
NO_RULES: Rules = {}
ONLY_OBJECTS = {dict}


def rules_of(paths: str) -> Rules:
    """Return paths as nested dicts, with :data:`WHOLE` at the end of each."""
    rules: Rules = {}
    for path in paths.split():
        *parents, last = path.split("/")
        node: Any = rules
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = WHOLE
    return rules


RULES = rules_of(WHOLE_LISTS)


def compile_release(
    ocid: str, date: str | None, releases: Iterable[dict[str, Any]], findings: Findings
) -> dict[str, Any]:
    """Merge the releases of one contracting process.

    :param date: the date of the compiled release, as written; None if no release has one.
    :param releases: oldest first. Their parts are used, not copied.
    :param findings: is told of ids that occur twice in an array, or are neither text nor number.
    :raises PermanentError: a field is an object or an array in one release and something else in an earlier one.
    """
    merger = _Merger(ocid, findings)
    merged: dict[str, Any] = {}
    for release in releases:
        for name in RELEASE_METADATA:
            release.pop(name, None)
        merger.merge_object(merged, release, RULES, ())
    own = {"id": ocid} if date is None else {"id": f"{ocid}-{date}", "date": date}
    return {"ocid": ocid, **own, "tag": ["compiled"], **merged}


class _Merger:
    """Merges the releases of one process; knows what is needed to say where something was found."""

    def __init__(self, ocid: str, findings: Findings) -> None:
        self.ocid = ocid
        self.findings = findings

    def merge_object(self, target: dict[str, Any], source: dict[str, Any], rules: Rules, path: Path) -> None:
        for name, value in source.items():
            kind = type(value)
            if kind is dict:
                if value:
                    rule = rules.get(name)
                    child = self._child(target, name, dict, path)
                    self.merge_object(child, value, rule if type(rule) is dict else NO_RULES, (*path, name))
                    if not child:
                        del target[name]
            elif kind is list:
                rule = rules.get(name)
                if rule == WHOLE or not {*map(type, value)} <= ONLY_OBJECTS:
                    target[name] = value
                elif value:
                    child = self._child(target, name, list, path)
                    self._merge_items(child, value, rule if type(rule) is dict else NO_RULES, (*path, name))
                    if not child:
                        del target[name]
            elif value is None:
                target.pop(name, None)
            else:
                target[name] = value

    def _merge_items(self, target: list[Any], source: list[dict[str, Any]], rules: Rules, path: Path) -> None:
        known: dict[Any, dict[str, Any]] = {id_: item for item in target if (id_ := _identity(item)) is not None}
        seen = set()
        for item in source:
            identity = _identity(item)
            merged = known.get(identity)
            if merged is None:
                target.append(merged := {})
            elif identity in seen:
                self._found(Finding.DUPLICATE_ID, path, item)
            if identity is not None:
                known[identity] = merged
                seen.add(identity)
            elif item.get("id") is not None:
                self._found(Finding.UNUSABLE_ID, path, item)
            self.merge_object(merged, item, rules, path)
            if not merged:  # so it has no id, and was appended
                target.pop()

    def _child(self, target: dict[str, Any], name: str, kind: type, path: Path) -> Any:
        """Return the object or array that the field holds so far, a new one if there is none."""
        child = target.get(name)
        if child is None:
            child = target[name] = kind()
        elif type(child) is not kind:
            raise PermanentError(
                f"Contracting process {shown(self.ocid)}: /{shown('/'.join((*path, name)))} is {_named(kind)} in one "
                f"release and {_named(type(child))} in an earlier one, so they cannot be merged. Have the publisher "
                "correct these releases, or leave them out of the source; then run the job again."
            )
        return child

    def _found(self, finding: Finding, path: Path, item: dict[str, Any]) -> None:
        value = item["id"]
        identity = bytes(value).decode() if type(value) is Raw else value
        where = f"/{'/'.join(path)}"
        self.findings.add(finding, f"{self.ocid} {where} {identity}", place=(self.ocid, where, str(identity)))


def _identity(item: Any) -> str | int | bytes | None:
    """Return what an object in an array is recognised by, None for nothing. The number 1 and the text "1" differ."""
    value = item.get("id") if type(item) is dict else None
    if type(value) is str or type(value) is int:
        return value
    return bytes(value) if type(value) is Raw else None


def _named(kind: type) -> str:
    return "an object" if kind is dict else "an array" if kind is list else "a single value"
