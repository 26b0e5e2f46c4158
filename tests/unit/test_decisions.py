"""When is a collection out of date, and which of its jobs are deleted? Every rule, and the days around every limit."""

import itertools
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from services.scheduler.decisions import DAYS, MISSED_AFTER, LatestJob, delay_in_day, is_out_of_date, keeps_schedule
from shared.db.models import RetrievalFrequency
from shared.retention import PastJob, dispose
from shared.schedules import read_schedule

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


# Schedules

MONDAY = datetime(2026, 3, 9, 3, tzinfo=UTC)


def keep(now, latest=None, **facts):
    values = {
        "frozen": False,
        "catch_up": True,
        "created": MONDAY - timedelta(days=2),
        "has_incomplete_job": False,
    }
    return keeps_schedule(read_schedule("0 3 * * MON"), latest=latest, now=now, **(values | facts))


def test_a_collection_with_a_schedule_is_due_from_each_of_its_times_until_a_job_starts():
    moment = timedelta(microseconds=1)
    assert not keep(MONDAY - moment).due
    assert keep(MONDAY - moment).at == MONDAY
    assert keep(MONDAY).due
    assert keep(MONDAY + timedelta(days=6)).due
    started_then = LatestJob(MONDAY + timedelta(minutes=1), failed=True)  # a failure waits for the next time, too
    assert not keep(MONDAY + timedelta(days=7) - moment, started_then).due
    assert keep(MONDAY + timedelta(days=7), started_then).due


def test_times_before_a_collection_was_added_do_not_count():
    assert not keep(MONDAY + timedelta(hours=2), created=MONDAY + timedelta(hours=1)).due


@pytest.mark.parametrize("catch_up", [True, False])
def test_missed_times_are_made_up_for_once_or_let_go(catch_up):
    long_ago = LatestJob(MONDAY - timedelta(days=70), failed=False)
    assert keep(MONDAY + MISSED_AFTER, long_ago, catch_up=catch_up).due
    verdict = keep(MONDAY + MISSED_AFTER + timedelta(seconds=1), long_ago, catch_up=catch_up)
    assert verdict.due is catch_up
    assert verdict.at == MONDAY if catch_up else MONDAY + timedelta(days=7)
    since = LatestJob(MONDAY + timedelta(hours=5), failed=False)
    assert not keep(MONDAY + timedelta(hours=6), since, catch_up=catch_up).due


def test_a_schedule_waits_while_there_is_a_reason_to():
    assert not keep(MONDAY, frozen=True).due
    assert not keep(MONDAY, LatestJob(None, failed=False)).due
    assert not keep(MONDAY, LatestJob(MONDAY - timedelta(days=1), failed=False), has_incomplete_job=True).due


def test_collections_are_spread_over_the_time_given_each_at_its_own():
    spread = timedelta(hours=6)
    delays = [delay_in_day(f"collection-{number}", spread) for number in range(1000)]
    assert delays == [delay_in_day(f"collection-{number}", spread) for number in range(1000)]
    by_hour = [sum(timedelta(hours=hour) <= delay < timedelta(hours=hour + 1) for delay in delays) for hour in range(6)]
    assert sum(by_hour) == 1000
    assert min(by_hour) > 100
    assert delay_in_day("x", timedelta(0)) == timedelta(0)


# Which jobs are deleted


NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)


def past(job_id, days_ago, processes=1000, *, successful=True, completed=True):
    start = None if days_ago is None else NOW - timedelta(days=days_ago)
    return PastJob(job_id, start, completed, successful, processes)


def deleted(*jobs, active=1):
    return {disposal.job_id for disposal in dispose(jobs, active_job_id=active, now=NOW) if disposal.delete}


def test_of_older_successful_jobs_only_those_with_over_a_tenth_more_records_are_kept():
    jobs = [
        past(1, 0, 1000),
        past(2, 30, 5),
        past(3, 60, 100),
        past(4, 90, 1000),
        past(5, 120, 1100),
        past(6, 150, 1101),
    ]
    assert deleted(*jobs) == {3, 4, 5}
    assert [d.job_id for d in dispose(jobs, active_job_id=1, now=NOW) if d.remarkable] == [6]


def test_the_newest_other_successful_job_is_kept_whatever_its_size():
    assert deleted(past(1, 0), past(2, 400, 0)) == set()
    assert deleted(past(1, 0), past(2, 400, 0), past(3, 399, 0)) == {2}
    assert deleted(past(1, 0), past(3, 400, 0), past(2, 400, 0)) == {2}, "of the same time, the later one is newer"


def test_a_job_newer_than_the_active_one_is_the_newest_other():
    assert deleted(past(1, 50), past(2, 10), past(3, 100)) == {3}


@pytest.mark.parametrize(("days", "gone"), [(0, False), (179, False), (180, False), (180.001, True), (1000, True)])
def test_an_unsuccessful_job_is_deleted_over_180_days_after_its_start(days, gone):
    assert deleted(past(1, 0), past(2, days, successful=False)) == ({2} if gone else set())


def test_an_unsuccessful_job_is_kept_for_nothing_else():
    assert deleted(past(1, 0, 10), past(2, 181, 9999, successful=False)) == {2}
    assert deleted(past(1, 0), past(2, 181, successful=False), past(3, 200), past(4, 300)) == {2, 4}


def test_incomplete_and_active_jobs_are_never_deleted():
    for start in (None, 0, 9999):
        assert deleted(past(1, 0), past(2, start, successful=False, completed=False)) == set()
    assert deleted(past(1, 9999), past(2, 1), past(3, 0), past(4, 2)) == {2, 4}
    assert deleted(past(1, 9999, 0, successful=False)) == set(), "even if a restart of it failed"


def test_a_job_that_never_started_is_not_old():
    assert deleted(past(1, 0), past(2, None, successful=False)) == set()


def test_every_small_history_is_decided_as_the_rules_say():
    """The rules again, in another form, over every collection of up to four jobs of these kinds."""
    kinds = [
        (age, processes, state)
        for age in (10, 190)
        for processes in (100, 110, 111)
        for state in ("successful", "unsuccessful", "incomplete")
    ]
    for size in range(4):
        for others in itertools.combinations_with_replacement(kinds, size):
            jobs = [past(1, 0, 100)] + [
                past(n, age + n, count, successful=state == "successful", completed=state != "incomplete")
                for n, (age, count, state) in enumerate(others, 2)
            ]
            good = sorted((job.start, job.id) for job in jobs[1:] if job.successful)
            expected = {
                job.id
                for job in jobs[1:]
                if job.completed
                and (
                    (not job.successful and (NOW - job.start).days >= 180)
                    or (job.successful and job.id != good[-1][1] and job.processes <= 110)
                )
            }
            assert deleted(*jobs) == expected


def test_each_decision_says_why():
    reasons = {
        d.job_id: d.reason for d in dispose([past(1, 0), past(2, 1), past(3, 2, 1101)], active_job_id=1, now=NOW)
    }
    assert reasons == {
        1: "it is the active job",
        2: "it is the newest successful job beside the active one",
        3: "it has over 10% more: 1,101 records, against 1,000 of the active job",
    }
