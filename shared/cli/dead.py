"""``bowerbird dead``: what was given up, and what to do about it."""

import contextlib
import dataclasses
import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

import typer
from sqlalchemy.orm import Session, sessionmaker

from shared.broker import Broker, open_broker
from shared.cli.collections import actor
from shared.cli.database import command_settings, database, sessions_on
from shared.cli.errors import CommandError, WrongCallError, explain
from shared.cli.output import say, show, show_json, show_table
from shared.cli.steer import duration_of
from shared.dead_letters import (
    FullLetterView,
    LetterView,
    Outcome,
    Selection,
    choose_letters,
    discard,
    get_letters,
    letter_queue,
    list_letters,
    reconcile,
    replay,
    take_turn,
)
from shared.errors import BowerbirdError, BrokerUnavailableError

PREVIEW = 20


def selection(
    ids: Sequence[int] | None,
    *,
    job: int | None,
    collection: str | None,
    queue: str | None,
    reason: str,
    since: str | None,
    every: bool = True,
    resolved: bool = False,
) -> Selection:
    """Return what was chosen. Raise :class:`WrongCallError` if nothing was said, not even ``every``."""
    chosen = Selection(
        ids=tuple(ids or ()),
        job_id=job,
        source_id=collection,
        queue=_queue_of(queue) if queue is not None else None,
        reason=reason,
        since=duration_of(since) if since is not None else None,
        resolved=resolved,
    )
    if chosen.is_everything() and not every:
        raise WrongCallError("Say which: numbers of dead letters, --job, --collection, --queue, --reason, or --all.")
    return chosen


def _queue_of(name: str) -> str:
    try:
        return letter_queue(name)
    except BowerbirdError as error:
        raise WrongCallError(str(error)) from None


def list_dead(chosen: Selection, *, limit: int, as_json: bool) -> None:
    """List dead letters, newest first."""
    with _list() as (sessions, _), sessions() as session:
        letters = list_letters(session, chosen, limit=limit)
    if as_json:
        show_json(letters)
    else:
        _show_letters(letters)


def show_dead(ids: Sequence[int], *, as_json: bool) -> None:
    """Show dead letters in full."""
    with _list() as (sessions, _), sessions() as session:
        letters = get_letters(session, ids)
    missing = sorted(set(ids) - {letter.id for letter in letters})
    if as_json:
        show_json(letters)
    else:
        for letter in letters:
            _show_letter(letter)
    if missing:
        raise CommandError(f"There is no dead letter {', '.join(map(str, missing))}. See: bowerbird dead list")


def act(action: Literal["replay", "discard"], chosen: Selection, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Replay or discard what was chosen. Raise :class:`CommandError` if one is refused, or it is not confirmed."""
    with _list() as (sessions, broker):
        with sessions() as session:
            letters = choose_letters(session, chosen)
        if dry_run:
            _preview(action, letters, as_json=as_json)
            return
        _confirm(action, letters, yes=yes)
        do = replay if action == "replay" else discard
        with sessions.begin() as turn:
            take_turn(turn)
            outcomes = do(sessions, broker, letters, actor=actor())
    _show_outcomes(outcomes, as_json=as_json)


@contextlib.contextmanager
def _list() -> Iterator[tuple[sessionmaker[Session], Broker]]:
    """Yield database and broker, the list in agreement with what the broker has."""
    settings = command_settings()
    with database(settings) as url, sessions_on(url) as sessions:
        broker = open_broker(settings, url)
        try:
            try:
                broker.declare()
                reconcile(sessions, broker)
            except BrokerUnavailableError as error:
                say(f"The broker is away: what it gave up by itself may be missing. ({explain(error)})", style="yellow")
            yield sessions, broker
        finally:
            broker.close()


def _preview(action: str, letters: list[LetterView], *, as_json: bool) -> None:
    if as_json:
        show_json(letters)
        return
    _show_letters(letters[:PREVIEW])
    show(f"Would {action} {_count(len(letters))}.")


def _confirm(action: str, letters: list[LetterView], *, yes: bool) -> None:
    if yes or len(letters) <= 1:
        return
    say(f"This would {action} {_count(len(letters))}:")
    for reason, count in Counter(_line(letter.reason) for letter in letters).most_common(PREVIEW):
        say(f"  {count:>6,}  {reason}")
    with contextlib.suppress(typer.Abort):  # no answer is an answer
        if typer.confirm("Go on?", err=True):
            return
    raise CommandError("Not confirmed: nothing is changed. --yes skips the question, --dry-run only looks.")


def _show_letters(letters: list[LetterView]) -> None:
    show_table(
        ["letter>", "last (UTC)", "state", "queue", "job>", "collection", "task", "attempts>", "reason"],
        [
            (
                str(letter.id),
                letter.last_at,
                letter.status.lower(),
                letter.queue,
                letter.job_id and str(letter.job_id),
                letter.source_id,
                letter.task,
                letter.attempts,
                _line(letter.reason),
            )
            for letter in letters
        ],
        empty="No dead letters.",
    )


def _show_letter(letter: FullLetterView) -> None:
    show(f"Dead letter {letter.id}: {letter.status.lower()}" + _resolution(letter))
    about = [("queue", letter.queue), ("collection", letter.source_id), ("job", letter.job_id), ("task", letter.task)]
    about += [("unit", letter.unit_id), ("message", letter.message_id), ("type", letter.type)]
    show("  " + ", ".join(f"{name} {value}" for name, value in about if value))
    show(f"  attempts: {letter.attempts}; first {_moment(letter.first_at)}, last {_moment(letter.last_at)}")
    show(textwrap.indent(letter.reason, "  "), style="red")
    if letter.traceback:
        show(textwrap.indent(letter.traceback.rstrip(), "  "), style="dim")
    body = letter.body if isinstance(letter.body, str) else json.dumps(letter.body, ensure_ascii=False)
    show(f"  body, {letter.body_bytes:,} bytes: {body}")


def _resolution(letter: LetterView) -> str:
    return f" {_moment(letter.resolved_at)} by {letter.resolved_by}" if letter.resolved_at else ""


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _show_outcomes(outcomes: list[Outcome], *, as_json: bool) -> None:
    counts = Counter(outcome.outcome for outcome in outcomes)
    if as_json:
        show_json([dataclasses.asdict(outcome) for outcome in outcomes])
    else:
        done = [f"{counts[name]:,} {name}" for name in ("replayed", "discarded", "unchanged") if counts[name]]
        show(", ".join(done) or "No dead letters.")
    if counts["refused"]:
        reasons = dict.fromkeys(outcome.detail for outcome in outcomes if outcome.outcome == "refused")
        raise CommandError(f"{_count(counts['refused'])} refused: {' '.join(reasons)}")


def _count(number: int) -> str:
    return f"{number:,} dead letter{'' if number == 1 else 's'}"


def _line(text: str) -> str:
    return text.partition("\n")[0]
