"""The protocol of a unit of work, in every state it can reach: one unit, two workers, every order of events.

A model as a model checker has it: a state is a tuple, a step yields the states it can lead to, and a breadth-first
search visits all of them, within bounds on claims, messages and restarts. The guards retell the statements of
``shared/units.py`` and ``shared/jobs.py``; tests/integration/test_unit_model.py tries those themselves. Each guard is
also left out once, and the search must then find harm: if it found none, it would prove nothing.

What must hold:

1. A unit is claimed, or taken back, only if it is open and nobody holds it, or its holder's lease is over; and not
   before it is due, after an attempt that failed for now.
2. Only the holder of the claim changes the unit. The claim ends with a commit, a failure, being put off or handed back,
   taken back after the lease, claimed by another then, and by a cancellation or a restart at any time.
3. A unit is committed at most once each time it is planned.
4. From every state, leases that end, ticks and deliveries alone lead to the unit's end: a good one if its workers
   live, and one at all if each of them dies.
"""

from collections import deque
from typing import NamedTuple

import pytest

PLANNED, QUEUED, RUNNING, OK, FAILED, CANCELLED = "PLANNED", "QUEUED", "RUNNING", "OK", "FAILED", "CANCELLED"
OVER = {OK, FAILED, CANCELLED}
MAX_CLAIMS = 5
MAX_ATTEMPTS = 3
MAX_MESSAGES = 2
MAX_RESTARTS = 1
CALM_ROUNDS = 5

GUARDS = (
    "claim only what is open",
    "claim only what is free or expired",
    "claim only what is due",
    "claim with a new token",
    "write only where the token matches",
    "write only where the unit is running",
    "cancel ends the unit",
    "restart ends the claim",
    "take back only what is expired",
    "tick takes back",
    "tick publishes again",
    "give up when every worker is lost",
)


class Worker(NamedTuple):
    """What a worker believes: the token it claimed with (0: it has no work), in which attempt."""

    token: int = 0
    attempt: int = 0


class State(NamedTuple):
    """The unit's row, the messages under way, the workers; and what an onlooker knows who sees everything."""

    status: str = PLANNED
    token: int = 0
    expired: bool = False
    waits: bool = False
    attempt: int = 0
    messages: int = 0
    workers: tuple[Worker, ...] = (Worker(), Worker())
    claims: int = 0
    restarts: int = 0
    # The onlooker's
    holder: int | None = None
    committed: bool = False
    harm: str = ""

    def work(self, number, worker):
        """Return the state with another belief of a worker."""
        return self._replace(workers=tuple(worker if i == number else old for i, old in enumerate(self.workers)))

    def message(self):
        """Return the state with one more message."""
        return self._replace(messages=min(self.messages + 1, MAX_MESSAGES))


class Protocol:
    """The steps; ``without`` is the guard to leave out."""

    def __init__(self, without=""):
        assert without in ("", *GUARDS)
        self.without = without

    def has(self, guard):
        assert guard in GUARDS
        return guard != self.without

    # Scheduler

    def take_back(self, state):
        expired = state.expired or not self.has("take back only what is expired")
        if self.has("tick takes back") and state.status == RUNNING and expired:
            harm = "" if state.expired else "taken back from a holder whose lease runs"
            yield state._replace(status=PLANNED, token=0, expired=False, holder=None, harm=harm)

    def publish(self, state):
        again = state.status == QUEUED and self.has("tick publishes again")
        if state.status == PLANNED or (again and not state.waits):
            yield state.message()._replace(status=QUEUED)

    # Worker

    def claim(self, state):
        if not state.messages:
            return
        over = state.status in OVER
        waits = state.status == QUEUED and state.waits
        if waits and self.has("claim only what is due"):
            return  # the message is put off for the rest of the time, and stays
        free = (state.status in {PLANNED, QUEUED} and not waits) or (state.status == RUNNING and state.expired)
        if over and self.has("claim only what is open"):
            yield state._replace(messages=state.messages - 1)  # nothing to do: the message is dropped
            return
        can_be_had = over or free or waits or not self.has("claim only what is free or expired")
        if can_be_had and state.claims < MAX_CLAIMS:
            yield from self.claimed(state, "" if free else "claimed, and not due" if waits else "claimed, and not free")
        # else its holder is alive: the message is put off, and stays

    def claimed(self, state, harm):
        claims = state.claims + 1
        token = claims if self.has("claim with a new token") else 1
        attempt = state.attempt + 1
        for number, worker in enumerate(state.workers):
            if worker.token:
                continue  # busy, or frozen
            after = state._replace(
                status=RUNNING,
                token=token,
                expired=False,
                waits=False,
                attempt=attempt,
                messages=state.messages - 1,
                claims=claims,
                holder=number,
                harm=harm,
            )
            if attempt > MAX_ATTEMPTS and self.has("give up when every worker is lost"):
                yield after._replace(status=FAILED, holder=None)
            else:
                yield after.work(number, Worker(token, attempt))

    def write(self, state, number, **changes):
        """One guarded statement of a worker. Yield what follows, also that it is not told, and writes once more."""
        worker = state.workers[number]
        token_matches = state.token == worker.token or not self.has("write only where the token matches")
        running = state.status == RUNNING or not self.has("write only where the unit is running")
        if not (token_matches and running):
            yield state.work(number, Worker())
            return
        harm = "" if state.holder == number else "written by one who does not hold the unit"
        if state.committed and "committed" in changes:
            harm = "committed twice"
        after = state._replace(expired=False, holder=None, harm=harm)._replace(**changes)
        yield after.work(number, Worker())
        yield after

    def each_worker(self, state):
        return [number for number, worker in enumerate(state.workers) if worker.token]

    def commit(self, state):
        for number in self.each_worker(state):
            yield from self.write(state, number, status=OK, committed=True)

    def fail(self, state):
        """A temporary failure: put off, or given up in the last attempt."""
        for number in self.each_worker(state):
            if state.workers[number].attempt >= MAX_ATTEMPTS:
                yield from self.write(state, number, status=FAILED)
            else:
                yield from (after.message() for after in self.write(state, number, status=QUEUED, waits=True))

    def hand_back(self, state):
        for number in self.each_worker(state):
            for after in self.write(state, number, status=QUEUED, token=0, attempt=state.attempt - 1):
                yield after.message()

    def renew(self, state):
        for number in self.each_worker(state):
            if state.workers[number].token == state.token and state.status == RUNNING:
                yield state._replace(expired=False)

    # Accidents, and people

    def crash(self, state):
        """A worker is gone; the broker gives its message to another, or has lost that too."""
        for number in self.each_worker(state):
            after = state.work(number, Worker())
            yield from (after, after.message())

    def lease_ends(self, state):
        if state.status == RUNNING:
            yield state._replace(expired=True)

    def back_off_ends(self, state):
        if state.waits:
            yield state._replace(waits=False)

    def lose_message(self, state):
        if state.messages:
            yield state._replace(messages=state.messages - 1)

    def duplicate_message(self, state):
        if state.messages:
            yield state.message()

    def cancel(self, state):
        if state.status not in OVER:
            row = {"status": CANCELLED, "token": 0} if self.has("cancel ends the unit") else {}
            yield state._replace(expired=False, holder=None)._replace(**row)

    def restart(self, state):
        """The unit is planned anew, from whatever state."""
        if state.restarts < MAX_RESTARTS:
            fenced = self.has("restart ends the claim") or state.status != RUNNING
            row = {"status": PLANNED, "token": 0, "expired": False, "waits": False} if fenced else {}
            after = state._replace(attempt=0, restarts=state.restarts + 1, holder=None, committed=False)
            yield after._replace(**row)

    STEPS = (
        take_back,
        publish,
        claim,
        commit,
        fail,
        hand_back,
        renew,
        crash,
        lease_ends,
        back_off_ends,
        lose_message,
        duplicate_message,
        cancel,
        restart,
    )

    # Looking at all of it

    def explore(self):
        """Return every state that can be reached; stop where harm was done."""
        first = State()
        seen, ahead = {first: ()}, deque([first])
        while ahead:
            state = ahead.popleft()
            for step in self.STEPS:
                for after in step(self, state):
                    if after not in seen:
                        seen[after] = (step.__name__, state)
                        if not after.harm:
                            ahead.append(after)
        return seen

    def ends(self, state, then):
        """Return whether the unit ends once the accidents do. Those who hold it now stay silent for ever.

        :param then: what becomes of those who claim it from now on: ``commit``, or ``crash``.
        """
        state = state._replace(workers=(Worker(), Worker()), claims=0)
        for _ in range(CALM_ROUNDS):
            if state.status in OVER:
                return True
            for step in (self.lease_ends, self.back_off_ends, self.take_back, self.publish, self.claim, then):
                state = next(iter(step(state)), state)
        return state.status in OVER


def story(seen, state):
    """Return the steps that lead to a state."""
    steps = []
    while seen[state]:
        step, state = seen[state]
        steps.append(step)
    return " → ".join(reversed(steps))


def faults(protocol):
    """Yield what is wrong in the protocol, with the steps that show it."""
    seen = protocol.explore()
    for state in seen:
        if state.harm:
            yield f"{state.harm}: {story(seen, state)}"
        elif not protocol.ends(state, protocol.commit):
            yield f"never ends: {story(seen, state)}"
        elif not protocol.ends(state, protocol.crash):
            yield f"kills one worker after the other: {story(seen, state)}"


def test_no_order_of_events_does_harm_and_every_unit_ends():
    assert next(faults(Protocol()), None) is None


def test_the_search_goes_deep_enough_to_see_every_outcome():
    seen = Protocol().explore()
    assert len(seen) > 10_000
    assert {state.status for state in seen} == {PLANNED, QUEUED, RUNNING, OK, FAILED, CANCELLED}
    zombies = [state for state in seen if all(worker.token for worker in state.workers)]
    assert any(state.status == OK and state.restarts for state in zombies), "committed past two who still work"


@pytest.mark.parametrize("guard", GUARDS)
def test_without_this_guard_harm_is_done(guard):
    assert next(faults(Protocol(without=guard)), None) is not None
