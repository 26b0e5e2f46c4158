"""The one list of what was given up: units that failed for good, and messages that nobody understood.

The model: a row a unit or message, written *before* its message is rejected, so that none can be missing from the list;
a unit's in the transaction that fails it. Recording is repeatable: what is delivered again, because its consumer died
before it could reject, meets its own row, and so does what dies again after a replay: the row is open again.

The broker's dead-letter queues hold copies. Of a unit the row is the truth and the copy says nothing more: a replay
plans the unit again and the copy goes. Of a message that was not understood the copy is what is replayed: it goes back
to its queue as it was, and is refused again unless the code that reads it has changed. :func:`reconcile` puts the two
in agreement: copies of what is settled go, and what the broker gave up by itself (see ``DELIVERY_LIMIT``) is recorded.
"""

import functools
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json
from sqlalchemy import Select, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, sessionmaker

from shared.broker import Broker, Delivery
from shared.broker import DeadLetter as DeadMessage
from shared.db.models import Audit, Collection, DeadLetter, Job, LetterKind, LetterStatus, Task, Unit
from shared.errors import BowerbirdError, BrokerUnavailableError, PermanentError
from shared.faults import fault
from shared.jobs import announce_job, revive_units, trace_of
from shared.logging import get_logger
from shared.messages import EVENTS_QUEUE, MAX_BODY_BYTES, RunUnit, decode, describe, queues
from shared.pauses import find_queue
from shared.units import Assignment, storable

log = get_logger()

MAX_KEPT_BYTES = 1024 * 1024
"""How much of a body the list keeps. The broker's copy has all of it."""
MAX_TEXT_CHARACTERS = 20_000
MAX_COPIES = 100_000
"""How many copies of a queue are compared with the list at once."""
TURNS_LOCK = 0x626F776572
"""Number of the advisory lock under which letters are acted on."""
MAX_CHOSEN = 100_000
"""More than anyone acts on at once."""
MAX_ID = 2**63 - 1
SETTLED_DAYS = 90
"""How long a letter about no job is kept once it is replayed or discarded. Others go with their job."""
FORGET_LIMIT = 1_000
"""Letters that are deleted in one transaction."""
GONE = "The broker no longer has this message, so there is nothing to replay: discard it."


class LetterView(BaseModel):
    """A dead letter in a list."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: int
    kind: LetterKind = Field(description="`UNIT`: its attempts are used up. `MESSAGE`: it was not understood.")
    status: LetterStatus
    queue: str
    type: str = Field(description="Type of the message.")
    message_id: str
    reason: str
    attempts: int = Field(description="How often the unit was tried, or the message refused.")
    source_id: str | None = Field(description="The collection's name.")
    job_id: int | None
    task: str | None = Field(description="Type of the task.")
    task_id: int | None
    unit_id: int | None
    first_at: datetime
    last_at: datetime
    resolved_at: datetime | None
    resolved_by: str


class FullLetterView(LetterView):
    """A dead letter with all that is known of it."""

    traceback: str
    body: Any = Field(description="The original body: its JSON value, or its text where it is none.")
    body_bytes: int = Field(description="Size of the whole body; of a very large one only the beginning is kept.")


@dataclass(frozen=True)
class Selection:
    """Which dead letters: those that meet everything that is given."""

    ids: tuple[int, ...] = ()
    job_id: int | None = None
    source_id: str | None = None
    queue: str | None = None
    reason: str = ""
    """Part of the reason; upper and lower case are the same."""
    since: timedelta | None = None
    """Died within this time."""
    resolved: bool = False
    """Also those that are replayed or discarded."""

    def is_everything(self) -> bool:
        """Return whether nothing narrows it: whoever acts on it should have said so."""
        return not any((self.ids, self.job_id, self.source_id, self.queue, self.reason, self.since))


@dataclass(frozen=True)
class Outcome:
    """What became of one dead letter. ``unchanged``: it was replayed or discarded before."""

    id: int
    outcome: Literal["replayed", "discarded", "unchanged", "refused"]
    detail: str = ""


def letter_queue(name: str) -> str:
    """Return the queue whose letters are meant: of a worker service, or ``scheduler``; the queue's own name, too.

    Raise :class:`BowerbirdError` for any other.
    """
    return EVENTS_QUEUE if name in ("scheduler", EVENTS_QUEUE) else find_queue(name)


# Recording


def record_unit(session: Session, assignment: Assignment, delivery: Delivery, *, reason: str, traceback: str) -> None:
    """Put a unit on the list. Call in the transaction that fails it."""
    _record(
        session,
        kind=LetterKind.UNIT,
        key=_unit_key(assignment.unit_id),
        message=delivery,
        message_id=delivery.message_id,
        reason=reason,
        traceback=traceback,
        attempts=assignment.attempt,
        job_id=assignment.job_id,
        task_id=assignment.task_id,
        unit_id=assignment.unit_id,
    )


def record_message(session: Session, delivery: Delivery, *, reason: str, traceback: str = "") -> None:
    """Put a message on the list that cannot be understood. Call before it is rejected; repeating it is harmless."""
    _record_message(session, delivery, delivery.message_id, reason=reason, traceback=traceback)


def _record_message(
    session: Session, message: Delivery | DeadMessage, message_id: str, *, reason: str, traceback: str = ""
) -> None:
    ids = _ids_in(message)
    job_id = ids.pop("job_id")
    if job_id is not None:  # locked, so that the job cannot be deleted before its letter refers to it
        job_id = session.scalar(select(Job.id).where(Job.id == job_id).with_for_update(read=True, key_share=True))
    _record(
        session,
        kind=LetterKind.MESSAGE,
        key=_message_key(message_id, message.body),
        message=message,
        message_id=message_id,
        reason=reason,
        traceback=traceback,
        attempts=1,
        job_id=job_id,
        **ids,
    )


def _record(
    session: Session, *, message: Delivery | DeadMessage, message_id: str, reason: str, traceback: str, **values: Any
) -> None:
    again = {
        "status": LetterStatus.OPEN,
        "body": message.body[:MAX_KEPT_BYTES],
        "reason": storable(reason[:MAX_TEXT_CHARACTERS]),
        "traceback": storable(traceback[-MAX_TEXT_CHARACTERS:]),
        "resolved_at": None,
        "resolved_by": "",
    }
    statement = insert(DeadLetter).values(
        queue=message.queue,
        type=storable(message.type),
        message_id=storable(message_id),
        body_bytes=len(message.body),
        **values,
        **again,
    )
    is_unit = values["kind"] == LetterKind.UNIT
    attempts = statement.excluded.attempts if is_unit else DeadLetter.attempts + 1
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[DeadLetter.queue, DeadLetter.key],
            set_={**again, "message_id": statement.excluded.message_id, "attempts": attempts, "last_at": func.now()},
        )
    )


def _ids_in(message: Delivery | DeadMessage) -> dict[str, int | None]:
    """Return the numbers that a message gives, where they can be numbers of rows, however wrong the rest of it is."""
    body: Any = None
    if len(message.body) <= MAX_BODY_BYTES:
        try:
            body = from_json(message.body)
        except ValueError:
            body = None
    body = body if isinstance(body, dict) else {}
    correlation = message.correlation_id
    if correlation.isascii() and correlation.isdecimal():
        body.setdefault("job_id", int(correlation[:20]))
    return {name: _row_id(body.get(name)) for name in ("job_id", "task_id", "unit_id")}


def _row_id(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_ID else None


# Which is which


def _unit_key(unit_id: int) -> str:
    return f"unit {unit_id}"


def _message_key(message_id: str, body: bytes) -> str:
    """Return what names a message: its id; for one that has none (published by hand), its content."""
    return f"message {storable(message_id)}" if message_id else f"body {hashlib.sha256(body).hexdigest()}"


def _keys(copy: DeadMessage) -> list[str]:
    """Return the keys under which the list may have a copy: its unit's, if it tells of one, then its own."""
    own = _message_key(copy.id, copy.body)
    try:
        message = decode(copy.type, copy.body)
    except PermanentError:
        return [own]
    return [_unit_key(message.unit_id), own] if isinstance(message, RunUnit) else [own]


# Reading


def list_letters(
    session: Session, selection: Selection, *, limit: int, before: tuple[datetime, int] | None = None
) -> list[LetterView]:
    """Return the newest dead letters of a selection, newest first.

    :param before: ``last_at`` and ``id`` of the last one on the page before.
    """
    statement = _chosen(selection).order_by(DeadLetter.last_at.desc(), DeadLetter.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(tuple_(DeadLetter.last_at, DeadLetter.id) < before)
    return [LetterView.model_validate(row) for row in session.execute(statement).mappings()]


def choose_letters(session: Session, selection: Selection) -> list[LetterView]:
    """Return the dead letters to act on, newest first.

    Asked for by number, one that is settled already is among them: its answer is that nothing was left to do.
    """
    return list_letters(session, replace(selection, resolved=bool(selection.ids)), limit=MAX_CHOSEN)


def get_letters(session: Session, ids: Sequence[int]) -> list[FullLetterView]:
    """Return dead letters in full, resolved ones too, by id; what there is not is left out."""
    statement = _chosen(Selection(ids=tuple(ids), resolved=True), DeadLetter.traceback, DeadLetter.body)
    rows = session.execute(statement.add_columns(DeadLetter.body_bytes).order_by(DeadLetter.id)).mappings()
    return [FullLetterView.model_validate({**row, "body": describe(row["body"])}) for row in rows]


def count_open(session: Session) -> int:
    """Return how many dead letters are neither replayed nor discarded."""
    statement = select(func.count()).select_from(DeadLetter).where(DeadLetter.status == LetterStatus.OPEN)
    return session.scalar(statement) or 0


def _chosen(selection: Selection, *columns: Any) -> Select[Any]:
    names = [name for name in LetterView.model_fields if name not in ("source_id", "task")]
    statement = (
        select(*(getattr(DeadLetter, name) for name in names), Collection.source_id, Task.type.label("task"), *columns)
        .outerjoin(Job, Job.id == DeadLetter.job_id)
        .outerjoin(Collection, Collection.id == Job.collection_id)
        .outerjoin(Task, Task.id == DeadLetter.task_id)
    )
    conditions: list[Any] = []
    if not selection.resolved:
        conditions.append(DeadLetter.status == LetterStatus.OPEN)
    if selection.ids:
        conditions.append(DeadLetter.id.in_(selection.ids))
    if selection.job_id is not None:
        conditions.append(DeadLetter.job_id == selection.job_id)
    if selection.source_id is not None:
        conditions.append(Collection.source_id == selection.source_id)
    if selection.queue is not None:
        conditions.append(DeadLetter.queue == selection.queue)
    if selection.reason:
        conditions.append(DeadLetter.reason.icontains(selection.reason, autoescape=True))
    if selection.since is not None:
        conditions.append(DeadLetter.last_at >= func.now() - selection.since)
    return statement.where(*conditions)


# Replaying and discarding


def take_turn(session: Session) -> None:
    """Wait until nobody else acts on dead letters; the turn ends with the session's transaction.

    RabbitMQ hides the copies that one looks through from all others, who would take them for gone.
    """
    session.execute(select(func.pg_advisory_xact_lock(TURNS_LOCK)))


def replay(
    sessions: sessionmaker[Session], broker: Broker, letters: Iterable[LetterView], *, actor: str
) -> list[Outcome]:
    """Try dead letters again; return what became of each. Repeating it changes nothing.

    A unit is planned anew and its job goes on (:func:`shared.jobs.revive_units`); a message goes back to its queue.
    Letters of one job or of one queue succeed or are refused together; ``detail`` then says why.
    """
    jobs: defaultdict[int, list[int]] = defaultdict(list)
    messages: defaultdict[str, list[int]] = defaultdict(list)
    for letter in letters:
        if letter.kind == LetterKind.UNIT:
            assert letter.job_id is not None
            jobs[letter.job_id].append(letter.id)
        else:
            messages[letter.queue].append(letter.id)
    outcomes: list[Outcome] = []
    for job_id, ids in jobs.items():
        outcomes += _together(ids, functools.partial(_replay_units, sessions, broker, job_id, actor=actor))
    for queue, ids in messages.items():
        outcomes += _together(ids, functools.partial(_replay_messages, sessions, broker, queue, actor=actor))
    fault("dead_letters.replayed")
    _remove_copies(sessions, broker, [outcome.id for outcome in outcomes if outcome.outcome == "replayed"])
    return outcomes


def _together(ids: list[int], action: Callable[[list[int]], list[Outcome]]) -> list[Outcome]:
    try:
        return action(ids)
    except BowerbirdError as error:
        return [Outcome(id_, "refused", str(error)) for id_ in ids]


def _replay_units(
    sessions: sessionmaker[Session], broker: Broker, job_id: int, ids: list[int], *, actor: str
) -> list[Outcome]:
    with sessions.begin() as session:
        session.execute(
            select(Job.id).where(Job.id == job_id).with_for_update(key_share=True)
        )  # first, as a restart does
        units = {letter.id: letter.unit_id for letter in _lock_open(session, ids)}
        revived = revive_units(session, job_id, [unit for unit in units.values() if unit is not None], actor=actor)
        trace = trace_of(session, job_id)
    if revived:
        announce_job(broker, job_id, trace=trace)
    return [Outcome(id_, "replayed" if units.get(id_) in revived else "unchanged") for id_ in ids]


def _replay_messages(
    sessions: sessionmaker[Session], broker: Broker, queue: str, ids: list[int], *, actor: str
) -> list[Outcome]:
    """Move the copies while the letters are locked: one that is refused at once waits, and then opens its letter."""
    outcomes = {id_: Outcome(id_, "unchanged") for id_ in ids}
    with sessions.begin() as session:
        letters = {letter.key: letter.id for letter in _lock_open(session, ids)}
        outcomes |= {id_: Outcome(id_, "refused", GONE) for id_ in letters.values()}

        def where(copy: DeadMessage) -> bool:
            found = [letters[key] for key in _keys(copy) if key in letters]
            outcomes.update((id_, Outcome(id_, "replayed")) for id_ in found)
            return bool(found)

        if letters:
            broker.replay(queue, where=where, limit=MAX_COPIES)
            fault("dead_letters.moved")
        replayed = [id_ for id_, outcome in outcomes.items() if outcome.outcome == "replayed"]
        _settle(session, replayed, LetterStatus.REPLAYED, action="dead replay", actor=actor)
    return list(outcomes.values())


def discard(
    sessions: sessionmaker[Session], broker: Broker, letters: Iterable[LetterView], *, actor: str
) -> list[Outcome]:
    """Settle dead letters without trying them again; return what became of each. Repeating it changes nothing."""
    ids = [letter.id for letter in letters]
    with sessions.begin() as session:
        discarded = [letter.id for letter in _lock_open(session, ids)]
        _settle(session, discarded, LetterStatus.DISCARDED, action="dead discard", actor=actor)
    _remove_copies(sessions, broker, discarded)
    return [Outcome(id_, "discarded" if id_ in discarded else "unchanged") for id_ in ids]


def _lock_open(session: Session, ids: Sequence[int]) -> Sequence[DeadLetter]:
    statement = select(DeadLetter).where(DeadLetter.id.in_(ids), DeadLetter.status == LetterStatus.OPEN)
    return session.scalars(statement.order_by(DeadLetter.id).with_for_update()).all()


def _settle(session: Session, ids: Sequence[int], status: LetterStatus, *, action: str, actor: str) -> None:
    """Mark letters, and note for each job who did it."""
    settled = session.execute(
        update(DeadLetter)
        .where(DeadLetter.id.in_(ids))
        .values(status=status, resolved_at=func.now(), resolved_by=actor)
        .returning(DeadLetter.id, DeadLetter.job_id)
        .execution_options(synchronize_session=False)
    ).all()
    jobs = defaultdict(list)
    for row in settled:
        jobs[row.job_id].append(row.id)
    session.add_all(
        Audit(actor=actor, action=action, job_id=job_id, details={"letters": sorted(letters)})
        for job_id, letters in jobs.items()
    )


# The broker's copies


def _remove_copies(sessions: sessionmaker[Session], broker: Broker, ids: Sequence[int]) -> None:
    """Remove the broker's copies of letters that are settled; while it is away, they stay for ``reconcile``."""
    try:
        _discard_copies(sessions, broker, ids)
    except BrokerUnavailableError as error:
        log.warning("copies of dead letters not removed yet: the broker is away", error=str(error))


def _discard_copies(sessions: sessionmaker[Session], broker: Broker, ids: Sequence[int]) -> None:
    wanted = defaultdict(set)
    with sessions() as session:
        settled = (DeadLetter.id.in_(ids), DeadLetter.status != LetterStatus.OPEN)
        for row in session.execute(select(DeadLetter.queue, DeadLetter.key).where(*settled)):
            wanted[row.queue].add(row.key)
    for queue, keys in wanted.items():
        broker.discard(queue, where=lambda copy, keys=keys: not keys.isdisjoint(_keys(copy)))  # type: ignore[misc]


def forget(sessions: sessionmaker[Session], broker: Broker) -> bool:
    """Delete some letters about no job that were settled long ago; return whether more are left.

    What the broker still has of them goes first: a copy without a letter would be taken for one that nobody has seen.

    :raises BrokerUnavailableError: the broker is away; nothing is deleted.
    """
    old = (
        DeadLetter.job_id.is_(None),
        DeadLetter.status != LetterStatus.OPEN,
        DeadLetter.resolved_at < func.now() - timedelta(days=SETTLED_DAYS),
    )
    with sessions() as session:
        ids = session.scalars(
            select(DeadLetter.id).where(*old).order_by(DeadLetter.resolved_at).limit(FORGET_LIMIT)
        ).all()
    if not ids:
        return False
    _discard_copies(sessions, broker, ids)
    with sessions.begin() as session:  # asks again: it may have died again meanwhile
        session.execute(delete(DeadLetter).where(DeadLetter.id.in_(ids), *old))
    log.info("dead letters settled long ago are deleted", letters=len(ids))
    return len(ids) == FORGET_LIMIT


def reconcile(sessions: sessionmaker[Session], broker: Broker) -> None:
    """Put the list and the broker's dead-letter queues in agreement. Safe at any time.

    :raises BrokerUnavailableError: the broker is away.
    """
    for queue in queues():
        if broker.depth(queue).dead:
            _reconcile(sessions, broker, queue)


def _units_gone(session: Session, keys: Iterable[str]) -> set[str]:
    """Return the keys, of those given, that are of units which are deleted."""
    units = {key: int(key.removeprefix("unit ")) for key in keys if key.startswith("unit ")}
    there = set(session.scalars(select(Unit.id).where(Unit.id.in_(units.values()))))
    return {key for key, unit_id in units.items() if unit_id not in there}


def _reconcile(sessions: sessionmaker[Session], broker: Broker, queue: str) -> None:
    copies = [(copy, _keys(copy)) for copy in broker.dead_letters(queue, limit=MAX_COPIES)]
    settled: set[str] = set()
    with sessions.begin() as session:
        keys = {key for _, names in copies for key in names}
        columns = select(DeadLetter.key, DeadLetter.kind, DeadLetter.status)
        rows = {
            row.key: row for row in session.execute(columns.where(DeadLetter.queue == queue, DeadLetter.key.in_(keys)))
        }
        gone = _units_gone(session, keys - rows.keys())
        for copy, names in copies:
            row = next((rows[key] for key in names if key in rows), None)
            if row is None and names[0] in gone:  # its letter went with its job
                settled.add(names[0])
            elif row is None or (row.kind == LetterKind.MESSAGE and row.status == LetterStatus.REPLAYED):
                _record_message(session, copy, copy.id, reason=copy.reason)
            elif row.status != LetterStatus.OPEN:
                settled.add(row.key)
    if settled:
        broker.discard(queue, where=lambda copy: not settled.isdisjoint(_keys(copy)))
