"""When is a collection out of date? Every rule, and every frequency on the days around its due date."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from services.scheduler.decisions import DAYS, LatestJob, is_out_of_date
from shared.db.models import RetrievalFrequency

TODAY = date(2026, 3, 15)


def decide(**facts):
    values = {
        "frozen": False,
        "retrieval_frequency": "MONTHLY",
        "latest": None,
        "has_incomplete_job": False,
        "today": TODAY,
    }
    return is_out_of_date(**(values | facts)).due


def started(days_ago, *, failed=False, hour=12):
    return LatestJob(datetime(2026, 3, 15, hour, tzinfo=UTC) - timedelta(days=days_ago), failed)


def test_a_collection_that_was_never_collected_is_due():
    assert decide()


def test_a_frozen_collection_is_never_due():
    assert not decide(frozen=True)
    assert not decide(frozen=True, latest=started(1000))


@pytest.mark.parametrize("frequency", [RetrievalFrequency.NONE, RetrievalFrequency.NEVER])
def test_a_collection_without_a_calendar_is_collected_on_request_only(frequency):
    assert not decide(retrieval_frequency=frequency)
    assert not decide(retrieval_frequency=frequency, latest=started(1000))


@pytest.mark.parametrize(("frequency", "days"), DAYS.items())
@pytest.mark.parametrize("hour", [0, 23])
def test_whole_utc_days_are_counted_from_the_start_of_the_last_job(frequency, days, hour):
    assert not decide(retrieval_frequency=frequency, latest=started(days - 1, hour=hour))
    assert decide(retrieval_frequency=frequency, latest=started(days, hour=hour))
    assert decide(retrieval_frequency=frequency, latest=started(days + 1, hour=hour))


@pytest.mark.parametrize("frequency", DAYS)
def test_after_a_failure_a_week_is_enough(frequency):
    assert not decide(retrieval_frequency=frequency, latest=started(6, failed=True))
    assert decide(retrieval_frequency=frequency, latest=started(7, failed=True))


def test_a_start_is_counted_by_its_utc_day_whatever_its_offset():
    start = datetime(2026, 2, 14, 1, tzinfo=timezone(timedelta(hours=5)))  # 2026-02-13 in UTC
    assert decide(latest=LatestJob(start, failed=False))


def test_a_planned_job_is_enough():
    assert not decide(latest=LatestJob(None, failed=False))


def test_a_collection_with_an_incomplete_job_is_not_due():
    assert not decide(latest=started(31), has_incomplete_job=True)
