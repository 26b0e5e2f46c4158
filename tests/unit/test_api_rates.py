"""How many requests a minute: buckets that fill evenly, for each owner, in bounded memory."""

import pytest
from starlette.requests import Request

from services.api.rates import Buckets, Left, address_of, key_of


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def request(host="192.0.2.1", authorization=None):
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    return Request({"type": "http", "client": (host, 1), "headers": headers})


def test_a_minutes_worth_may_come_at_once_and_then_as_many_as_the_bucket_fills(clock):
    buckets = Buckets("reads", 60, clock)
    assert [buckets.take("a") for _ in range(61)] == [True] * 60 + [False]
    assert buckets.left("a") == Left(0, 1, 60)
    clock.now += 2.5
    assert [buckets.take("a") for _ in range(3)] == [True, True, False]
    clock.now += 3600
    assert buckets.left("a") == Left(60, 0, 0)


def test_what_is_refused_costs_nothing(clock):
    buckets = Buckets("reads", 1, clock)
    assert [buckets.take("a") for _ in range(100)] == [True] + [False] * 99
    clock.now += 60
    assert buckets.take("a")


def test_owners_do_not_take_from_each_other(clock):
    buckets = Buckets("reads", 1, clock)
    assert [buckets.take(owner) for owner in ("a", "b", "a", "b")] == [True, True, False, False]


def test_looking_takes_nothing(clock):
    buckets = Buckets("reads", 2, clock)
    assert [buckets.left("a").tokens for _ in range(5)] == [2] * 5


def test_without_a_limit_everything_goes_and_nothing_is_remembered(clock):
    buckets = Buckets("reads", 0, clock)
    assert all(buckets.take("a") for _ in range(5000))
    assert buckets.left("a").tokens
    assert not buckets._levels


def test_memory_is_bounded_and_who_was_here_longest_ago_is_forgotten(clock):
    buckets = Buckets("reads", 2, clock, most=3)
    for owner in ("a", "b", "c", "a", "d"):
        buckets.take(owner)
    assert set(buckets._levels) == {"a", "c", "d"}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_an_owner_is_an_address_or_a_network_of_one_customer(host, expected):
    assert address_of(request(host)) == expected


def test_a_key_is_remembered_by_its_hash_alone():
    name = key_of(request(authorization="Bearer bowerbird_secret"))
    assert "secret" not in name
    assert name != key_of(request(authorization="Bearer bowerbird_other"))
    assert key_of(request()) is key_of(request(authorization="Basic abc")) is None
