"""Dates as publishers write them: their year, their day, their order."""

from datetime import UTC, date, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.processor.dates import day_of, order_of, year_of


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("2019-05-01T00:00:00Z", 2019),
        ("2019-05", 2019),
        ("2012-11-99", 2012),
        ("2020-12-31T23:59:59-05:00", 2020),
        ("0999-01-01", 999),
        ("9999-12", 9999),
        ("2006-1", None),
        ("2006-1-01", None),
        ("2006-00-01", None),
        ("2006-13-01", None),
        ("0000-01-01", None),
        ("2019", None),
        ("20190501", None),
        (" 2019-05-01", None),
        ("２０１９-05-01", None),
        ("not a date", None),
        ("", None),
        (None, None),
    ],
)
def test_a_year_needs_four_digits_and_a_month(text, year):
    assert year_of(text) == year


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2019-05-01", date(2019, 5, 1)),
        ("2019-05-01T23:00:00-05:00", date(2019, 5, 1)),
        ("2019-05-01 whenever", date(2019, 5, 1)),
        ("2019-02-30", None),
        ("2019-W10-1", None),
        ("20190501", None),
        ("20190501T0", None),
        ("2019-W10", None),
        ("2019-05", None),
        ("2012-11-99", None),
        ("", None),
    ],
)
def test_a_day_is_what_the_first_ten_characters_say(text, day):
    assert day_of(text) == day


def test_dates_sort_by_instant_and_the_odd_ones_first():
    texts = [
        None,
        "2019",
        "unknown",
        "2012-11-30T00:00:00Z",
        "2012-11-99",
        "2019-05-01T00:30:00+01:00",
        "2019-05-01",
        "2019-05-01 00:00:01z",
        "2019-05-01T00:00:01.1197059Z",
        "2019-05-01T00:00:01.12Z",
        "2019-05-01T01:00+0030",
        "2019-05-01T00:00:00-05",
    ]
    backwards = texts[::-1]

    assert sorted(backwards, key=order_of) == texts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2019-05-01", "2019-05-01T00:00:00Z"),
        ("2019-05-01T00:00:00", "2019-05-01T00:00:00Z"),
        ("2019-05-01T02:00:00+02:00", "2019-05-01T00:00:00.000Z"),
        ("2019-05-01T00:00:00.5Z", "2019-05-01T00:00:00,50Z"),
        ("2019-05-01T00:00Z", "2019-05-01T00:00:00Z"),
    ],
)
def test_the_same_instant_sorts_equal_however_it_is_written(one, other):
    assert order_of(one) == order_of(other)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "2019-05-01T25:00:00Z", "2019-05-01T00:00:00+99:00"])
def test_what_is_no_instant_sorts_as_text(text):
    assert order_of(text) == (True, text)


offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(timezones=offsets).filter(lambda instant: 1 < instant.year < 9999)


@settings(deadline=None)
@given(instants, instants)
def test_instants_sort_chronologically_whatever_their_offset_and_precision(one, other):
    assert (order_of(one.isoformat()) < order_of(other.isoformat())) == (one < other)
    assert (order_of(one.isoformat()) == order_of(other.isoformat())) == (one.astimezone(UTC) == other.astimezone(UTC))


@settings(deadline=None)
@given(st.one_of(st.none(), st.text(max_size=40), st.from_regex(r"[0-9]{4}-[0-9]{2}.{0,12}", fullmatch=True)))
def test_every_text_has_an_order_and_perhaps_a_year(text):
    dated, _ = order_of(text)
    assert dated == (year_of(text) is not None)
