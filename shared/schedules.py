"""Schedules in cron's form, in a time zone: checking one that a person wrote, and its times around an instant.

The five fields mean what they mean to Debian's cron, which ``cronsim`` follows, also where clocks change: a time that
the jump forward leaves out comes right after it, and one that the jump back repeats comes once.
"""

import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from shared.errors import BowerbirdError

FIELDS = 5


class ScheduleError(BowerbirdError):
    """A cron expression or time zone that cannot be used; the text says what is wrong with it."""


@dataclass(frozen=True)
class Schedule:
    """A cron expression of five fields, in an IANA time zone (``Europe/Madrid``). Its times are returned in UTC."""

    cron: str
    time_zone: str

    def last(self, now: datetime) -> datetime:
        """Return the latest time that is not after ``now``."""
        return self._first(now + timedelta(microseconds=1), reverse=True)

    def next(self, now: datetime) -> datetime:
        """Return the first time after ``now``."""
        return self._first(now, reverse=False)

    def words(self) -> str:
        """Return what it says: ``At 03:00 on Monday (Europe/Madrid)``."""
        return f"{CronSim(self.cron, datetime.now(UTC)).explain()} ({self.time_zone})"

    def _first(self, now: datetime, *, reverse: bool) -> datetime:
        return next(CronSim(self.cron, now.astimezone(ZoneInfo(self.time_zone)), reverse=reverse)).astimezone(UTC)


@functools.lru_cache(maxsize=10_000)
def read_schedule(cron: str, time_zone: str = "") -> Schedule:
    """Return a schedule. Raise :class:`ScheduleError` if it is not valid, which one that never comes is not either.

    :param time_zone: empty: UTC.
    """
    schedule = Schedule(" ".join(cron.upper().split()), time_zone or "UTC")
    if len(schedule.cron.split()) != FIELDS:
        raise ScheduleError(
            f"{cron!r} is no schedule: it takes five fields (minute, hour, day of month, month, day of week), "
            "such as '0 3 * * MON', every Monday at three."
        )
    try:
        ZoneInfo(schedule.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(f"There is no time zone {time_zone!r}. They are called as Europe/Madrid is.") from None
    try:
        schedule.next(datetime.now(UTC))
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        raise ScheduleError(f"{cron!r} is no schedule: its {field} is not valid.") from None
    return schedule
