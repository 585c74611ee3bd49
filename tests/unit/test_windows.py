"""Periods of budgets: they follow each other through every change of the clocks."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TypeAlias
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.windows import WINDOWS, Period, Window, period_at, zone_of
from tests.support.table import check_rows

ZONES = sorted(available_timezones())
FROM, UNTIL = -1_500_000_000, 4_000_000_000
"""From 1922 to 2096: odd changes of clocks are old, and later years follow rules."""

RESETTING: tuple[Window, ...] = ("hour", "day", "week", "month")


def epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def shown(period: Period) -> list[str]:
    """The text, the start and the end of a period: day of the month and time, in UTC."""
    times = (datetime.fromtimestamp(at, UTC) for at in (period.begins_at, period.ends_at))
    return [period.text, *(f"{time:%d %H:%M}" for time in times)]


def test_a_period_has_its_start_and_end_in_the_calendar_of_its_zone() -> None:
    Row: TypeAlias = tuple[Window, str, str, str, str, str]
    rows: list[Row] = [
        ("hour", "UTC", "2026-11-30T14:59:59.999Z", "hour 2026-11-30T14:00Z", "30 14:00", "30 15:00"),
        ("hour", "Europe/Berlin", "2026-11-30T14:00Z", "hour 2026-11-30T14:00Z", "30 14:00", "30 15:00"),
        ("hour", "Asia/Kolkata", "2026-11-30T14:00Z", "hour 2026-11-30T13:30Z", "30 13:30", "30 14:30"),
        ("hour", "Asia/Kathmandu", "2026-11-30T14:00Z", "hour 2026-11-30T13:15Z", "30 13:15", "30 14:15"),
        ("hour", "Africa/Monrovia", "1971-06-01T00:00Z", "hour 1971-05-31T23:44:30Z", "31 23:44", "01 00:44"),
        ("day", "UTC", "2026-11-30T00:00Z", "day 2026-11-30", "30 00:00", "01 00:00"),
        ("day", "UTC", "2026-11-29T23:59:59.999Z", "day 2026-11-29", "29 00:00", "30 00:00"),
        ("day", "Asia/Kolkata", "2026-11-30T18:30Z", "day 2026-12-01", "30 18:30", "01 18:30"),
        ("day", "Asia/Kathmandu", "2026-11-30T18:14Z", "day 2026-11-30", "29 18:15", "30 18:15"),
        ("day", "America/New_York", "2026-11-30T03:00Z", "day 2026-11-29", "29 05:00", "30 05:00"),
        ("day", "America/St_Johns", "2010-11-07T02:45Z", "day 2010-11-07", "07 02:30", "08 03:30"),
        ("week", "UTC", "2026-12-06T23:59Z", "week 2026-11-30", "30 00:00", "07 00:00"),
        ("week", "UTC", "2026-12-07T00:00Z", "week 2026-12-07", "07 00:00", "14 00:00"),
        ("week", "UTC", "2027-01-01T12:00Z", "week 2026-12-28", "28 00:00", "04 00:00"),
        ("week", "Pacific/Auckland", "2026-12-06T11:00Z", "week 2026-12-07", "06 11:00", "13 11:00"),
        ("month", "UTC", "2028-02-29T23:59Z", "month 2028-02", "01 00:00", "01 00:00"),
        ("month", "UTC", "2100-02-28T23:59Z", "month 2100-02", "01 00:00", "01 00:00"),
        ("month", "UTC", "2026-12-31T23:59Z", "month 2026-12", "01 00:00", "01 00:00"),
        ("month", "America/New_York", "2027-01-01T04:59Z", "month 2026-12", "01 05:00", "01 05:00"),
    ]

    def check(row: Row) -> None:
        window, zone, now, *expected = row
        assert shown(period_at(window, zone_of(zone), epoch(now))) == expected

    check_rows(rows, check)


def test_changed_clocks_make_days_and_hours_longer_or_shorter() -> None:
    """The changes are those of the tz database (IANA)."""
    rows: list[tuple[str, Window, str, str, float]] = [
        ("23 hours", "day", "Europe/Berlin", "2026-03-29T12:00Z", 23),
        ("25 hours", "day", "Europe/Berlin", "2026-10-25T12:00Z", 25),
        ("a week with a day of 25 hours", "week", "Europe/Berlin", "2026-10-25T12:00Z", 169),
        ("half an hour, forward", "day", "Australia/Lord_Howe", "2026-10-04T00:00Z", 23.5),
        ("no midnight: 01:00 is first", "day", "America/Sao_Paulo", "2018-11-04T12:00Z", 23),
        ("no midnight: 01:00 is first", "day", "Africa/Cairo", "2024-04-26T12:00Z", 23),
        ("23:00 twice", "day", "America/Sao_Paulo", "2018-02-18T02:30Z", 25),
        ("23:00 twice", "day", "Africa/Cairo", "2024-10-31T21:30Z", 25),
        ("23:01 again after midnight", "day", "America/St_Johns", "2010-11-07T12:00Z", 25),
        ("the minutes before midnight skipped, too", "day", "America/Toronto", "1919-03-31T12:00Z", 23.5),
        ("the whole next date skipped", "day", "Pacific/Apia", "2011-12-30T09:59Z", 24),
        ("a week without a Friday", "week", "Pacific/Apia", "2011-12-30T12:00Z", 144),
        ("an hour that clocks repeat", "hour", "Europe/Berlin", "2026-10-25T01:30Z", 1),
        ("changed exactly at its end", "hour", "Australia/Lord_Howe", "2026-10-03T15:15Z", 1),
        ("cut in its middle", "hour", "Asia/Pyongyang", "2018-05-04T14:31:07Z", 0.5),
        ("cut in its middle", "hour", "Asia/Pyongyang", "2018-05-04T14:59:59.500Z", 0.5),
        ("cut by half an hour back", "hour", "Australia/Lord_Howe", "2026-04-04T15:00Z", 0.5),
        ("cut by half an hour forward", "hour", "Australia/Lord_Howe", "2026-10-03T15:45Z", 0.5),
    ]

    def check(row: tuple[str, Window, str, str, float]) -> None:
        _, window, zone, now, hours = row
        period = period_at(window, zone_of(zone), epoch(now))
        assert (period.ends_at - period.begins_at) / 3600 == hours, shown(period)

    check_rows(rows, check)


@given(
    st.sampled_from(RESETTING),
    st.sampled_from(ZONES),
    st.floats(FROM, UNTIL) | st.integers(FROM, UNTIL).map(float),
)
def test_periods_follow_each_other_without_gap_and_overlap(window: Window, name: str, now: float) -> None:
    zone = zone_of(name)
    periods: list[Period] = []
    for _ in range(5):
        period = period_at(window, zone, now)
        assert period.begins_at <= now < period.ends_at
        for moment in (
            period.begins_at,
            (period.begins_at + now) / 2,
            math.nextafter(period.ends_at, -math.inf),
        ):
            assert period_at(window, zone, moment) == period
        periods.append(period)
        now = period.ends_at
    assert [later.begins_at for later in periods[1:]] == [earlier.ends_at for earlier in periods[:-1]]
    assert len({period.text for period in periods}) == len(periods)


def test_no_zone_has_a_day_twice() -> None:
    """In 2010 a zone put its clocks back a minute after midnight; in 2011 two zones skipped a date."""
    broken = []
    for name in ZONES:
        zone, now, days = zone_of(name), epoch("2010-10-01T12:00Z"), set()
        for number in range(460):
            period = period_at("day", zone, now)
            days.add(period.text)
            now = period.ends_at
            if len(days) != number + 1:
                broken.append((name, period.text))
                break
    assert broken == []


def test_a_lifetime_never_ends() -> None:
    period = period_at("lifetime", zone_of("UTC"), 0)
    assert period == Period("lifetime", -math.inf, math.inf)
    assert period.resets_at is None
    assert period_at("day", zone_of("UTC"), 0).resets_at == 86_400
    assert set(WINDOWS) == {"lifetime", *RESETTING}


def test_a_name_that_is_no_zone_is_refused() -> None:
    def check(name: str) -> None:
        with pytest.raises(ValueError, match="no time zone has the name"):
            zone_of(name)

    check_rows(
        ["", "Mars/Olympus", "America", "../UTC", "/etc/passwd", "a\0b", "x" * 5000, "é", "+01:00"], check
    )
