from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.telemetry.metrics import Metrics
from ridges_proxy.web.dashboard.history import History
from tests.support.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

ROUTE = "/v1/chat/completions"
TURN = 1_800_000_000
"""The start of a minute."""


@pytest.fixture
def clock() -> Clock:
    return Clock(float(TURN))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def history(metrics: Metrics, clock: Clock) -> History:
    return History(metrics, None, clock)


def times_of(history: History) -> list[float]:
    """When the stored samples were taken, after TURN."""
    return [sample.at - TURN for sample in history.samples(86_400)[:-1]]


def test_a_sample_is_taken_at_the_start_and_at_each_turn_of_a_minute(history: History, clock: Clock) -> None:
    clock.advance(37)
    for _ in range(200):
        history.sample()
        clock.advance(1)
    assert times_of(history) == [37, 60, 120, 180]


def test_several_workers_take_one_sample_a_minute_together(
    metrics: Metrics, clock: Clock, tmp_path: Path
) -> None:
    workers = [History(metrics, tmp_path, clock) for _ in range(3)]
    for _ in range(200):
        for worker in workers:
            worker.sample()
        clock.advance(1)
    assert times_of(workers[2]) == [0, 60, 120, 180]


def test_after_the_clock_was_set_back_samples_are_taken_again(history: History, clock: Clock) -> None:
    history.sample()
    clock.advance(-3600)
    history.sample()
    clock.advance(60)
    history.sample()
    assert times_of(history) == [0, -3600, -3540]


def test_a_sample_has_the_counters_of_calls_and_not_those_of_other_requests(
    history: History, metrics: Metrics
) -> None:
    def call(usd: float, code: str, seconds: float) -> None:
        metrics.requests.labels(ROUTE, "m", code).inc()
        metrics.call_seconds.labels(ROUTE, "m").observe(seconds)
        metrics.settled_usd.labels("m").inc(usd)

    call(0.25, "ok", 0.2)
    call(0.5, "upstream_busy", 1000)
    metrics.requests.labels("/v1/models", "none", "ok").inc()
    metrics.requests.labels("/agents/inference", "none", "invalid_api_key").inc(2)
    metrics.requests.labels("/admin/runs", "none", "invalid_api_key").inc()
    metrics.requests.labels("/metrics", "none", "ok").inc()
    (current,) = history.samples(60)
    assert current.calls == {"ok": 1, "upstream_busy": 1, "invalid_api_key": 2}
    assert (current.usd, current.durations[0], current.durations[1], current.durations[-1]) == (0.75, 0, 1, 2)


def test_a_sample_of_one_process_is_marked_as_such(metrics: Metrics, clock: Clock, tmp_path: Path) -> None:
    """Its counters are lower than those of all processes, and must not be compared with them."""
    shared = Metrics(tmp_path)
    assert History(shared, None, clock).samples(60)[-1].process is None
    assert shared._shared
    shared._shared.close()
    assert History(metrics, None, clock).samples(60)[-1].process is not None
