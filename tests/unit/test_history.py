from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.telemetry.metrics import CALL_SECONDS, Metrics
from ridges_proxy.web.dashboard.history import DAY_SECONDS, History, Interval, intervals_of, total_of
from tests.support.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

ROUTE = "/v1/chat/completions"


class CallCounter:
    """Counts calls in the metrics, as the web layer does."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def call(self, usd: float = 0.0, code: str = "ok", seconds: float = 0.2, model: str = "m") -> None:
        self.metrics.requests.labels(ROUTE, model, code).inc()
        self.metrics.call_seconds.labels(ROUTE, model).observe(seconds)
        self.metrics.settled_usd.labels(model).inc(usd)


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def counter(metrics: Metrics) -> CallCounter:
    return CallCounter(metrics)


@pytest.fixture
def history(metrics: Metrics, clock: Clock) -> History:
    return History(metrics, None, clock)


def intervals(history: History, span_seconds: float, max_intervals: int) -> list[Interval]:
    return intervals_of(history.samples(span_seconds), span_seconds, max_intervals)


def test_each_minute_is_an_interval_and_the_current_minute_is_a_shorter_one(
    history: History, counter: CallCounter, clock: Clock
) -> None:
    history.sample()
    for cents in (3, 0, 5):
        counter.call(cents / 100)
        clock.advance(60)
        history.sample()
    counter.call(0.5)
    clock.advance(40)
    found = intervals(history, 3600, 60)
    assert [round(interval.usd, 9) for interval in found] == [0.03, 0.0, 0.05, 0.5]
    assert [interval.seconds for interval in found] == [60, 60, 60, 40]
    assert found[-1].ended_at == clock.now
    assert [interval.calls for interval in found] == [{"ok": 1}] * 4


def test_a_few_seconds_are_merged_with_the_minute_before(
    history: History, counter: CallCounter, clock: Clock
) -> None:
    history.sample()
    clock.advance(60)
    history.sample()
    clock.advance(5)
    counter.call(0.25)
    (interval,) = intervals(history, 3600, 60)
    assert (interval.seconds, interval.usd) == (65, 0.25)


def test_several_workers_take_one_sample_a_minute_together(
    metrics: Metrics, clock: Clock, tmp_path: Path
) -> None:
    workers = [History(metrics, tmp_path, clock) for _ in range(3)]
    for _ in range(300):
        for worker in workers:
            worker.sample()
        clock.advance(1)
    assert [interval.seconds for interval in intervals(workers[2], 3600, 60)] == [60, 60, 60, 60, 60]


def test_calls_are_counted_by_code_and_other_requests_are_not_counted(
    history: History, counter: CallCounter, metrics: Metrics
) -> None:
    history.sample()
    counter.call()
    counter.call(code="upstream_busy")
    metrics.requests.labels("/v1/models", "none", "ok").inc()
    metrics.requests.labels("/agents/inference", "none", "invalid_api_key").inc(2)
    metrics.requests.labels("/admin/runs", "none", "invalid_api_key").inc()
    metrics.requests.labels("/metrics", "none", "ok").inc()
    (interval,) = intervals(history, 3600, 60)
    assert interval.calls == {"ok": 1, "upstream_busy": 1, "invalid_api_key": 2}


def test_a_quantile_is_interpolated_between_the_bounds_of_its_bucket(
    history: History, counter: CallCounter
) -> None:
    history.sample()
    for _ in range(90):
        counter.call(seconds=0.2)
    for _ in range(10):
        counter.call(seconds=7)
    (interval,) = intervals(history, 3600, 60)
    assert interval.quantile(0.45) == pytest.approx(0.1 + 0.15 / 2)
    assert interval.quantile(0.9) == pytest.approx(0.25)
    assert interval.quantile(0.95) == pytest.approx(5 + 5 / 2)
    counter.call(seconds=1000)
    assert intervals(history, 3600, 60)[0].quantile(1) == CALL_SECONDS[-1]


def test_without_calls_there_is_no_quantile(history: History) -> None:
    history.sample()
    (interval,) = intervals(history, 3600, 60)
    assert interval.quantile(0.5) is None


def test_a_day_is_divided_into_few_intervals_and_their_sum_is_complete(
    history: History, counter: CallCounter, clock: Clock
) -> None:
    for _ in range(2000):
        history.sample()
        counter.call(0.001)
        clock.advance(60)
    found = intervals(history, DAY_SECONDS, 288)
    assert len(found) <= 288
    day = total_of(found)
    assert day.seconds == pytest.approx(DAY_SECONDS, abs=120)
    assert day.calls["ok"] == pytest.approx(1440, abs=2)
    assert day.usd == pytest.approx(1.44, abs=0.003)
    assert day.durations[-1] == day.calls["ok"]


def test_before_the_first_sample_there_are_no_intervals_and_their_sum_is_zero(history: History) -> None:
    assert intervals(history, 3600, 60) == []
    assert total_of([]) == Interval(0.0, 0.0, 0.0, {}, [0] * (len(CALL_SECONDS) + 1))
