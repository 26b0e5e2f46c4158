"""What became of each unit, as the database itself saw it: a trigger writes down every change of status and token.

The suite's tables say how things ended, and a second commit would look just like a first; the ledger has both. It also
remembers jobs that have been deleted since, being older than others of their collection.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

_SET_UP = """
CREATE SCHEMA stress;
CREATE TABLE stress.change (
    id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    unit_id bigint, was text, status text, result text, token bigint, attempt int, worker text
);
CREATE FUNCTION stress.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stress.change (unit_id, was, status, result, token, attempt, worker)
    VALUES (NEW.id, OLD.status, NEW.status, NEW.result, NEW.token, NEW.attempt,
        CASE WHEN NEW.worker = '' THEN OLD.worker ELSE NEW.worker END);
    RETURN NULL;
END $$;
CREATE TRIGGER stress_note AFTER UPDATE ON unit FOR EACH ROW
    WHEN (OLD.status <> NEW.status OR OLD.token IS DISTINCT FROM NEW.token) EXECUTE FUNCTION stress.note();
CREATE TABLE stress.job_end (job_id bigint);
CREATE FUNCTION stress.note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stress.job_end VALUES (NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER stress_note_end AFTER UPDATE ON job FOR EACH ROW
    WHEN (OLD.status <> 'COMPLETED' AND NEW.status = 'COMPLETED') EXECUTE FUNCTION stress.note_end();
"""


@dataclass(frozen=True)
class Change:
    """A unit's row changed: at (seconds since the epoch), from which status to which, by or away from which worker."""

    at: float
    unit_id: int
    was: str
    status: str
    result: str
    token: int | None
    attempt: int
    worker: str

    @property
    def is_claim(self) -> bool:
        """Whether a worker claimed the unit: from another who fell silent, or when nobody had it."""
        return self.status == "RUNNING"

    @property
    def is_end(self) -> bool:
        """Whether the unit was completed."""
        return self.status == "COMPLETED"


def set_up(sessions: sessionmaker[Session]) -> None:
    """Create the trigger."""
    with sessions.begin() as session:
        session.execute(text(_SET_UP))


def job_ends(sessions: sessionmaker[Session]) -> Counter[int]:
    """Return how often each job was completed; of those too that have been deleted since."""
    with sessions() as session:
        return Counter(session.scalars(text("SELECT job_id FROM stress.job_end")))


def read(sessions: sessionmaker[Session]) -> dict[int, list[Change]]:
    """Return the changes of each unit, in order."""
    statement = text(
        "SELECT extract(epoch FROM at)::float AS at, unit_id, was, status, result, token, attempt, worker "
        "FROM stress.change ORDER BY id"
    )
    histories: dict[int, list[Change]] = defaultdict(list)
    with sessions() as session:
        for row in session.execute(statement).mappings():
            histories[row["unit_id"]].append(Change(**row))
    return histories


@dataclass(frozen=True)
class Story:
    """What the ledger tells of a run."""

    claims: Counter[int]
    """Number of claims → number of units that took so many."""
    taken_back: int
    put_off: int
    """Temporary failures, and units handed back by a worker that stopped."""
    slowest: tuple[float, str]
    """Longest time from a disturbance of the process that held a unit to the unit's end; which it was."""
    longest: tuple[float, str]
    """Longest time from a unit's first claim to its end, of units that were claimed more than once."""


def tell(histories: dict[int, list[Change]], victims: Sequence[tuple[float, str]]) -> Story:
    """Sum up.

    :param victims: moment and process id of each disturbance of a worker.
    """
    changes = [change for history in histories.values() for change in history]
    return Story(
        claims=Counter(sum(change.is_claim for change in history) for history in histories.values()),
        taken_back=sum(change.was == "RUNNING" and change.status in {"PLANNED", "RUNNING"} for change in changes),
        put_off=sum(change.was == "RUNNING" and change.status == "QUEUED" for change in changes),
        slowest=max(_recoveries(histories, victims), default=(0.0, "none")),
        longest=max(_lives(histories), default=(0.0, "none")),
    )


def _recoveries(histories: dict[int, list[Change]], victims: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    by_process: dict[str, list[float]] = defaultdict(list)
    for moment, process in victims:
        by_process[process].append(moment)
    found = []
    for unit_id, life in _lives_of(histories):
        for claim, following in pairwise(life):
            if claim.is_claim:
                process = claim.worker.rpartition(":")[2]
                hits = [moment for moment in by_process.get(process, []) if claim.at <= moment <= following.at]
                found += [(life[-1].at - moment, f"unit {unit_id}, held by {claim.worker}") for moment in hits]
    return found


def _lives(histories: dict[int, list[Change]]) -> list[tuple[float, str]]:
    lives = []
    for unit_id, life in _lives_of(histories):
        claims = [change for change in life if change.is_claim]
        if len(claims) > 1:
            lives.append((life[-1].at - claims[0].at, f"unit {unit_id}, {len(claims)} claims"))
    return lives


def violations(histories: dict[int, list[Change]]) -> list[str]:
    """Return what must never be: a unit without an end, with two, or claimed with a token that is not newer.

    A unit whose job is restarted has another life, with an end of its own.
    """
    found: list[str] = []
    for unit_id, history in histories.items():
        for life in _split(history):
            ends = [change for change in life if change.is_end]
            if [change.result for change in ends] != ["OK"]:
                found.append(f"Unit {unit_id} ended {len(ends)} times: {_shown(ends)}.")
            elif life[-1] is not ends[0]:
                found.append(f"Unit {unit_id} changed after its end: {_shown(life)}.")
        tokens = [change.token for change in history if change.is_claim]
        if tokens != sorted(set(tokens)):
            found.append(f"Unit {unit_id} was claimed with tokens {tokens}.")
    return found


def _lives_of(histories: dict[int, list[Change]]) -> list[tuple[int, list[Change]]]:
    return [(unit_id, life) for unit_id, history in histories.items() for life in _split(history)]


def _split(history: Sequence[Change]) -> list[list[Change]]:
    lives: list[list[Change]] = [[]]
    for change in history:
        if (change.was, change.status) == ("COMPLETED", "PLANNED"):
            lives.append([])
        else:
            lives[-1].append(change)
    return lives


def _shown(changes: Sequence[Any]) -> str:
    return "; ".join(f"{change.was}→{change.status} {change.result} by {change.worker}" for change in changes) or "none"
