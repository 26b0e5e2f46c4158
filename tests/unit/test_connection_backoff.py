"""How long a lost connection stays lost, by a clock of the test's own."""

import pytest

from shared.broker.backoff import CAP_SECONDS, FIRST_SECONDS, Backoff


@pytest.fixture
def clock():
    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    return Clock()


def test_the_first_attempt_is_due_at_once(clock):
    assert Backoff(clock).remaining == 0


def test_waits_double_with_jitter_up_to_the_cap(clock):
    backoff = Backoff(clock)
    whole = FIRST_SECONDS
    for _ in range(2000):  # also so many that a power of two would overflow
        backoff.failed()
        assert whole / 2 <= backoff.remaining <= whole
        whole = min(whole * 2, CAP_SECONDS)


def test_waits_differ_between_clients(clock):
    backoffs = [Backoff(clock) for _ in range(10)]
    for backoff in backoffs:
        backoff.failed()
    assert len({backoff.remaining for backoff in backoffs}) > 1


def test_a_wait_ends(clock):
    backoff = Backoff(clock)
    backoff.failed()
    clock.now += FIRST_SECONDS
    assert backoff.remaining == 0


def test_success_starts_from_the_shortest_wait_again(clock):
    backoff = Backoff(clock)
    for _ in range(5):
        backoff.failed()
    backoff.succeeded()
    assert backoff.remaining == 0
    backoff.failed()
    assert backoff.remaining <= FIRST_SECONDS
