"""Windows of time in which a budget applies: the period at a moment, and its end. Pure.

Days, weeks and months follow the calendar of a time zone. A day begins at the first moment of its date, even
if clocks skip its midnight. Clocks that are put back over a midnight do not begin a day twice: the repeated
minutes belong to the day that has begun. So a day may have 23 or 25 hours, and the periods of a window follow
each other without a gap and without an overlap.

Hours are those of the zone's clocks: where they differ from UTC by half an hour, an hour begins at half past.
If clocks are put forward or back by a part of an hour, that moment begins a new, shorter hour.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Callable

Window = Literal["lifetime", "hour", "day", "week", "month"]
WINDOWS: tuple[Window, ...] = get_args(Window)

UTC_ZONE = "UTC"

HOUR_SECONDS = 3600
DAYS_OF_A_WEEK = 7


class Period(NamedTuple):
    """One period of a window: from `begins_at` on, and before `ends_at`, in seconds since the epoch."""

    text: str
    """The window and its start, as in `Level.period`."""
    begins_at: float = -math.inf
    ends_at: float = math.inf

    @property
    def resets_at(self) -> float | None:
        """Its end; None: it never ends."""
        return None if self.ends_at == math.inf else self.ends_at


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name in the tz database. Raises ValueError if there is none."""
    if name == UTC_ZONE:
        return UTC  # needs no database
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, not a name, or a folder of the database
        raise ValueError(f"no time zone has the name {name!r}") from None


def period_at(window: Window, zone: tzinfo, now: float) -> Period:
    """Return the period of a window at a moment, in seconds since the epoch.

    It takes tens of microseconds, so callers keep the period until it ends.
    """
    if window == "lifetime":
        return Period("lifetime")
    second = math.floor(now)  # periods begin at whole seconds, and `datetime` would round up
    if window == "hour":
        return _hour(zone, second)
    first, following = _CALENDAR[window]
    begin = first(datetime.fromtimestamp(second, zone).date())
    end = following(begin)
    while _begin_of(end, zone) <= second:  # the clocks show an earlier date again
        begin, end = end, following(end)
    text = f"{window} {begin:%Y-%m}" if window == "month" else f"{window} {begin}"
    return Period(text, _begin_of(begin, zone), _begin_of(end, zone))


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _next_month(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)


_CALENDAR: dict[str, tuple[Callable[[date], date], Callable[[date], date]]] = {
    "day": (lambda day: day, lambda day: day + timedelta(days=1)),
    "week": (_monday, lambda monday: monday + timedelta(days=DAYS_OF_A_WEEK)),
    "month": (lambda day: day.replace(day=1), _next_month),
}
"""For each window of whole days: the first day of a date's period, and the first day of the next period."""


def _begin_of(day: date, zone: tzinfo) -> int:
    """Return the first moment at which the clocks of a zone show this date or a later one."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    first, second = (int(midnight.replace(fold=fold).timestamp()) for fold in (0, 1))
    if first <= second:
        return first  # an ordinary midnight, or the first of two
    # The midnight is skipped. It is computed with the offsets before and after: the change is between.
    return _first_moment(second, first, lambda at: datetime.fromtimestamp(at, zone).date() >= day)


def _hour(zone: tzinfo, now: int) -> Period:
    shift = _shift(zone, now)
    begin = (now + shift) // HOUR_SECONDS * HOUR_SECONDS - shift
    end = begin + HOUR_SECONDS
    if _shift(zone, begin) != shift:
        begin = _first_moment(begin, now, lambda at: _shift(zone, at) == shift)
    if _shift(zone, end - 1) != shift:
        end = _first_moment(now, end - 1, lambda at: _shift(zone, at) != shift)
    start = datetime.fromtimestamp(begin, UTC).isoformat(timespec="seconds" if begin % 60 else "minutes")
    return Period(f"hour {start.removesuffix('+00:00')}Z", begin, end)


def _shift(zone: tzinfo, at: int) -> int:
    """Return by how many seconds the hours of a zone begin before those of UTC: 1800 in India."""
    offset = datetime.fromtimestamp(at, zone).utcoffset() or timedelta()
    return int(offset.total_seconds()) % HOUR_SECONDS


def _first_moment(before: int, after: int, has_come: Callable[[int], bool]) -> int:
    """Return the first second at which something has come: not yet at `before`, but at `after`."""
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if has_come(middle) else (middle, after)
    return after
