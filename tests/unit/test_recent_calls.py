from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.web.dashboard.recent_calls import MAX_UNWRITTEN, RecentCalls
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def calls(clock: Clock) -> RecentCalls:
    return RecentCalls(None, clock)


def test_a_runs_calls_come_back_newest_first(calls: RecentCalls, clock: Clock) -> None:
    for number in range(5):
        clock.advance(1)
        calls.record({"run": "run", "number": number})
        calls.record({"run": "another", "number": number})
    assert [call["number"] for call in calls.of_run("run", 3)] == [4, 3, 2]
    assert calls.of_run("run", 1) == [{"at": clock.now, "run": "run", "number": 4}]
    assert calls.of_run("unknown", 3) == []


def test_any_run_id_is_found_and_an_id_that_contains_it_is_not() -> None:
    def check(run: str) -> None:
        calls = RecentCalls(None)
        calls.record({"run": f"{run}x", "model": run})
        calls.record({"run": run})
        assert [call["run"] for call in calls.of_run(run, 9)] == [run]

    check_rows(['"', "\\", "лун", "run\n", "a b", "\u2028", "{}"], check)


def test_another_worker_reads_calls_that_were_flushed(tmp_path: Path) -> None:
    one, other = RecentCalls(tmp_path), RecentCalls(tmp_path)
    one.record({"run": "run"})
    assert other.of_run("run", 9) == []
    one.flush()
    assert len(other.of_run("run", 9)) == 1
    assert len(one.of_run("run", 9)) == 1


def test_calls_of_several_workers_are_sorted_by_the_time_of_their_end(tmp_path: Path) -> None:
    clock = Clock(1_800_000_000.0)
    one, other = RecentCalls(tmp_path, clock), RecentCalls(tmp_path, clock)
    for number, worker in enumerate((one, other, one)):
        worker.record({"run": "run", "number": number})
        clock.advance(0.1)
    one.flush()
    other.flush()
    assert [call["number"] for call in one.of_run("run", 9)] == [2, 1, 0]


def test_the_number_of_unwritten_calls_is_limited(calls: RecentCalls) -> None:
    for _ in range(MAX_UNWRITTEN + 10):
        calls.record({"run": "run"})
    assert len(calls._unwritten) == MAX_UNWRITTEN
