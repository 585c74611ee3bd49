"""The counts of the charts, against a plain count of all calls."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.telemetry.metrics import CALL_SECONDS
from ridges_proxy.web.dashboard.chart_data import OTHER_CODES, chart, total_since
from ridges_proxy.web.dashboard.history import Sample
from ridges_proxy.web.dashboard.intervals import LATE_SECONDS, Bars, Interval, bars_of, intervals_of
from tests.support.table import check_rows

TURN = 1_800_000_000
"""The start of a minute and of an hour."""


def sample(at: float, ok: int, process: int | None = None, **failed: int) -> Sample:
    """Counters at a time after TURN. A call costs a cent, and took 0.2 s."""
    calls = sum(failed.values()) + ok
    return Sample(TURN + at, calls / 100, {"ok": ok, **failed}, [0, *[calls] * len(CALL_SECONDS)], process)


def minutes(samples: list[Sample], span: int = 300) -> Bars:
    return bars_of(intervals_of(samples), samples[-1].at, span, 60)


@dataclass(frozen=True)
class Case:
    about: str
    samples: list[Sample]
    bars: list[int | None]
    """Calls in each of the last five minutes and in the present one."""
    unplaced: int = 0


CASES = [
    Case("no sample yet", [sample(300, 4)], [None, None, None, None, None, None]),
    Case("a sample at each turn", [sample(60 * n, 5 * n) for n in range(6)], [5, 5, 5, 5, 5, None]),
    Case("the present minute so far", [sample(240, 0), sample(300, 3), sample(320, 65)],
         [None, None, None, None, 3, 62]),
    Case("a server that started a moment ago", [sample(337, 0), sample(340, 65)],
         [None, None, None, None, None, 65]),
    Case("a start within a minute", [sample(277, 0), sample(300, 7), sample(301, 7)],
         [None, None, None, None, 7, 0]),
    Case("minutes without calls", [sample(180, 5), sample(240, 5), sample(300, 5)],
         [None, None, None, 0, 0, None]),
    Case("samples that are a little late", [sample(180.3, 1), sample(243, 2), sample(300.2, 4)],
         [None, None, None, 1, 2, None]),
    Case("no samples for some minutes", [sample(60, 0), sample(215, 9), sample(240, 11), sample(300, 12)],
         [None, None, None, 2, 1, None], unplaced=9),
    Case("two samples of a turn", [sample(240, 0), sample(240.02, 1), sample(300, 3), sample(300.1, 3)],
         [None, None, None, None, 3, 0]),
    Case("counters that begin again", [sample(180, 50), sample(240, 2), sample(300, 6)],
         [None, None, None, None, 4, None]),
    Case("counters of one process for a while",
         [sample(120, 50), sample(180, 60, process=7), sample(240, 61, process=7), sample(300, 99)],
         [None, None, None, 1, None, None]),
    Case("a clock that was set back",
         [sample(300, 1), sample(360, 4), sample(180, 5), sample(240, 7), sample(245, 7)],
         [None, None, None, None, 2, 0]),
]  # fmt: skip


def test_each_bar_is_what_was_counted_in_its_minute() -> None:
    def check(case: Case) -> None:
        found = minutes(case.samples)
        last = int(case.samples[-1].at // 60) * 60
        assert found.starts == [last - 300 + 60 * n for n in range(6)]
        shown = [None if bar is None else sum(bar.calls.values()) for bar in found.counted]
        assert shown == case.bars
        assert sum(sum(part.calls.values()) for part in found.unplaced) == case.unplaced

    check_rows(CASES, check)


@dataclass(frozen=True)
class Day:
    """Calls at any time, and the samples that a server took of them."""

    calls_at: list[float]
    samples: list[Sample]


@st.composite
def days(draw: st.DrawFn) -> Day:
    """Up to 40 minutes. Some samples are late, some were not taken. The first one is of the start."""
    started_at = draw(st.integers(0, 59))
    ended_at = started_at + draw(st.integers(1, 2400))
    calls_at = sorted(draw(st.lists(st.integers(4 * started_at, 4 * ended_at - 1), max_size=60)))
    quarters = [at / 4 for at in calls_at]
    turns = range(60, int(ended_at) + 1, 60)
    delays = [draw(st.sampled_from([0.0, 0.25, 1.5, 4.75, 20.0, 55.0, None])) for _ in turns]
    taken = [turn + delay for turn, delay in zip(turns, delays, strict=True) if delay is not None]
    times = [started_at, *sorted(at for at in taken if started_at < at < ended_at), ended_at]
    samples = [sample(at, bisect_left(quarters, at)) for at in times[:-1]]
    return Day(quarters, [*samples, sample(ended_at, len(quarters))])


@given(days(), st.sampled_from([60, 600]))
def test_the_bars_add_up_to_the_counted_calls_and_none_is_above_the_true_count(
    day: Day, seconds: int
) -> None:
    found = bars_of(intervals_of(day.samples), day.samples[-1].at, 3600, seconds)
    shown = [sum(bar.calls.values()) if bar else 0 for bar in found.counted]
    unplaced = sum(sum(part.calls.values()) for part in found.unplaced)
    assert sum(shown) + unplaced == len(day.calls_at)
    for start, count in zip(found.starts, shown, strict=True):
        since = start - TURN
        true_count = sum(since <= at < since + seconds + LATE_SECONDS for at in day.calls_at)
        assert count <= true_count
    assert sum(bar.usd for bar in found.counted if bar) == pytest.approx(sum(shown) / 100)


def test_a_quantile_is_interpolated_between_the_bounds_of_its_bucket() -> None:
    def check(row: tuple[list[int], float, float | None]) -> None:
        durations, share, expected = row
        counted = Interval(0, 60, 0.0, {}, durations)
        assert counted.quantile(share) == (None if expected is None else pytest.approx(expected))

    mixed = [0, *[90] * 5, *[100] * 8]  # 90 calls of 0.1 to 0.25 s, and 10 of 5 to 10 s
    slow = [0] * len(CALL_SECONDS) + [1]
    check_rows(
        [
            (mixed, 0.45, 0.1 + 0.15 / 2),
            (mixed, 0.9, 0.25),
            (mixed, 0.95, 5 + 5 / 2),
            (slow, 1.0, CALL_SECONDS[-1]),
            ([0] * (len(CALL_SECONDS) + 1), 0.5, None),
        ],
        check,
    )


def test_a_chart_has_each_frequent_error_code_and_the_sum_of_the_others() -> None:
    counts = {f"code_{number}": number for number in range(1, 9)}
    samples = [sample(0, 0), sample(60, 7, **counts)]
    figures = chart("hour", intervals_of(samples), samples[-1].at)
    shown = {code: values[-2] for code, values in figures["errors"]}
    assert shown == {**{f"code_{number}": number for number in range(4, 9)}, OTHER_CODES: 1 + 2 + 3}
    calls = [(name, values[-2:]) for name, values in figures["calls"]]
    assert calls == [("succeeded", [7, None]), ("failed", [sum(counts.values()), None])]


def test_each_chart_has_all_its_bars_at_turns_of_the_clock() -> None:
    def check(row: tuple[str, int, int]) -> None:
        span, bar_seconds, bars = row
        figures = chart(span, [], TURN + 3599)
        assert len(figures["times"]) == bars
        assert {time % bar_seconds for time in figures["times"]} == {0}
        assert figures["times"][-1] == TURN + 3600 - bar_seconds
        assert figures["usd"] == [("USD", [None] * bars)]

    check_rows([("hour", 60, 61), ("day", 600, 145)], check)


def test_the_total_of_a_span_includes_what_is_in_no_bar() -> None:
    samples = [sample(0, 0), sample(900, 9), sample(960, 12)]
    intervals = intervals_of(samples)
    assert total_since(intervals, TURN).calls == {"ok": 12}
    assert total_since(intervals, TURN + 60).calls == {"ok": 3}
    assert total_since([], TURN).calls == {}


def test_the_order_in_which_floats_are_added_does_not_look_like_a_restart() -> None:
    earlier = sample(0, 5)
    later = replace(earlier, at=earlier.at + 60, usd=earlier.usd - 1e-15)
    (interval,) = intervals_of([earlier, later])
    assert interval.usd == 0
