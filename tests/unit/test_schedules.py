"""Cron expressions: which are taken, and when they come, also where clocks change."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.schedules import ScheduleError, read_schedule


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "zone", "fault"),
    [
        ("", "", "takes five fields"),
        ("0 3 * *", "", "takes five fields"),
        ("0 0 3 * * *", "", "takes five fields"),  # with seconds
        ("@daily", "", "takes five fields"),
        ("61 3 * * *", "", "minute is not valid"),
        ("0 3 * * FUNDAY", "", "day-of-week is not valid"),
        ("0 3 31 2 *", "", "day-of-month is not valid"),
        ("0 3 * * *", "Europe/Atlantis", "no time zone 'Europe/Atlantis'"),
        ("0 3 * * *", "../etc/passwd", "no time zone"),
        ("0 3 * * *", "/etc/localtime", "no time zone"),
        ("0 3 * * *", "\0", "no time zone"),
    ],
)
def test_what_is_no_schedule_is_refused_in_words(cron, zone, fault):
    with pytest.raises(ScheduleError, match=fault):
        read_schedule(cron, zone)


def test_times_are_those_of_the_zone_returned_in_utc():
    schedule = read_schedule("0 3 * * mon", "Europe/Madrid")
    assert schedule.last(utc("2026-03-02T02:00")) == utc("2026-03-02T02:00")
    assert schedule.last(utc("2026-03-02T01:59:59.999999")) == utc("2026-02-23T02:00")
    assert schedule.last(utc("2026-03-02T02:00:30.5")) == utc("2026-03-02T02:00")
    assert schedule.next(utc("2026-03-02T02:00")) == utc("2026-03-09T02:00")
    assert schedule.next(utc("2026-03-29T12:00")) == utc("2026-03-30T01:00")  # summer
    assert schedule.words() == "At 03:00 on Monday (Europe/Madrid)"


def test_a_time_that_clocks_leave_out_comes_right_after_and_a_repeated_one_comes_once():
    schedule = read_schedule("30 2 * * *", "Europe/Madrid")
    assert schedule.next(utc("2026-03-28T12:00")) == utc("2026-03-29T01:00")  # 03:00, as there is no 02:30
    assert schedule.next(utc("2026-10-24T12:00")) == utc("2026-10-25T00:30")
    assert schedule.next(utc("2026-10-25T00:30")) == utc("2026-10-26T01:30")


@given(
    now=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  naive bounds
    schedule=st.builds(
        read_schedule,
        st.sampled_from(["0 3 * * *", "*/15 * * * *", "30 2 * * SUN", "0 0 1 * *", "5 4 29 2 *", "59 23 L * *"]),
        st.sampled_from(["UTC", "Europe/Madrid", "America/Asuncion", "Asia/Kathmandu", "Pacific/Apia"]),
    ),
)
def test_no_time_lies_between_the_last_and_the_next(now, schedule):
    last, coming = schedule.last(now), schedule.next(now)
    assert last <= now < coming
    assert schedule.last(coming) == coming
    assert schedule.last(coming - timedelta(microseconds=1)) == last
