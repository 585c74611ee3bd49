from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.telemetry.metrics import CALL_SECONDS, Metrics
from ridges_proxy.web.dashboard.history import DAY_SECONDS, History, Interval, intervals_of, total_of
from tests.support.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

ROUTE = "/v1/chat/completions"


class Till:
    """Counts calls, as the web layer does."""

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
def till(metrics: Metrics) -> Till:
    return Till(metrics)


@pytest.fixture
def history(metrics: Metrics, clock: Clock) -> History:
    return History(metrics, None, clock)


def intervals(history: History, span_seconds: float, most: int) -> list[Interval]:
    return intervals_of(history.samples(span_seconds), span_seconds, most)


def test_each_minute_tells_what_happened_in_it_and_the_running_one_so_far(
    history: History, till: Till, clock: Clock
) -> None:
    history.sample()
    for cents in (3, 0, 5):
        till.call(cents / 100)
        clock.advance(60)
        history.sample()
    till.call(0.5)
    clock.advance(40)
    found = intervals(history, 3600, 60)
    assert [round(interval.usd, 9) for interval in found] == [0.03, 0.0, 0.05, 0.5]
    assert [interval.seconds for interval in found] == [60, 60, 60, 40]
    assert found[-1].ended_at == clock.now
    assert [interval.calls for interval in found] == [{"ok": 1}] * 4


def test_a_moment_is_no_minute_of_its_own(history: History, till: Till, clock: Clock) -> None:
    history.sample()
    clock.advance(60)
    history.sample()
    clock.advance(5)
    till.call(0.25)
    (interval,) = intervals(history, 3600, 60)
    assert (interval.seconds, interval.usd) == (65, 0.25)


def test_a_sample_is_taken_once_a_minute_by_whoever_comes_first(
    metrics: Metrics, clock: Clock, tmp_path: Path
) -> None:
    workers = [History(metrics, tmp_path, clock) for _ in range(3)]
    for _ in range(300):
        for worker in workers:
            worker.sample()
        clock.advance(1)
    assert [interval.seconds for interval in intervals(workers[2], 3600, 60)] == [60, 60, 60, 60, 60]


def test_codes_are_counted_apart_and_what_is_no_call_is_not(
    history: History, till: Till, metrics: Metrics
) -> None:
    history.sample()
    till.call()
    till.call(code="upstream_busy")
    metrics.requests.labels("/v1/models", "none", "ok").inc()
    metrics.requests.labels("/agents/inference", "none", "invalid_api_key").inc(2)
    metrics.requests.labels("/admin/runs", "none", "invalid_api_key").inc()
    metrics.requests.labels("/metrics", "none", "ok").inc()
    (interval,) = intervals(history, 3600, 60)
    assert interval.calls == {"ok": 1, "upstream_busy": 1, "invalid_api_key": 2}


def test_a_quantile_lies_between_the_bounds_of_its_bucket(history: History, till: Till) -> None:
    history.sample()
    for _ in range(90):
        till.call(seconds=0.2)
    for _ in range(10):
        till.call(seconds=7)
    (interval,) = intervals(history, 3600, 60)
    assert interval.quantile(0.45) == pytest.approx(0.1 + 0.15 / 2)
    assert interval.quantile(0.9) == pytest.approx(0.25)
    assert interval.quantile(0.95) == pytest.approx(5 + 5 / 2)
    till.call(seconds=1000)
    assert intervals(history, 3600, 60)[0].quantile(1) == CALL_SECONDS[-1]


def test_without_calls_there_is_no_quantile(history: History) -> None:
    history.sample()
    (interval,) = intervals(history, 3600, 60)
    assert interval.quantile(0.5) is None


def test_a_day_comes_in_few_pieces_and_nothing_is_lost(history: History, till: Till, clock: Clock) -> None:
    for _ in range(2000):
        history.sample()
        till.call(0.001)
        clock.advance(60)
    found = intervals(history, DAY_SECONDS, 288)
    assert len(found) <= 288
    day = total_of(found)
    assert day.seconds == pytest.approx(DAY_SECONDS, abs=120)
    assert day.calls["ok"] == pytest.approx(1440, abs=2)
    assert day.usd == pytest.approx(1.44, abs=0.003)
    assert day.durations[-1] == day.calls["ok"]


def test_nothing_has_happened_before_the_first_sample(history: History) -> None:
    assert intervals(history, 3600, 60) == []
    assert total_of([]) == Interval(0.0, 0.0, 0.0, {}, [0] * (len(CALL_SECONDS) + 1))
