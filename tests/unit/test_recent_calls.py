from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.web.dashboard import recent_calls
from ridges_proxy.web.dashboard.recent_calls import (
    ERRORS,
    MAX_UNWRITTEN,
    OK,
    UPSTREAM,
    CallQuery,
    RecentCalls,
)
from ridges_proxy.web.dashboard.shared_lines import BLOCK_BYTES
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


CALLS: list[dict[str, object]] = [
    {"request_id": "ab1", "code": None, "run": "run", "model": "one"},
    {"request_id": "ab2", "code": "run_busy", "run": "run", "model": "two"},
    {"request_id": "xab", "code": "run_busy", "run": "other", "model": None},
    {"request_id": '"ab1', "code": "run_busy_", "run": '"run":"run"', "model": '"code":"run_busy"'},
    {"request_id": "\\", "code": None, "run": "лун", "model": "a\n"},
    {"request_id": "c1", "code": "upstream_busy", "run": "failing", "model": "one"},
    {"request_id": "c2", "code": "upstream_rejected", "run": "failing", "model": '"code":"upstream_busy"'},
]

SEARCHES: list[tuple[CallQuery, list[int]]] = [
    (CallQuery(), [6, 5, 4, 3, 2, 1, 0]),
    (CallQuery(request="ab"), [1, 0]),
    (CallQuery(request="ab1"), [0]),
    (CallQuery(request='"ab1'), [3]),
    (CallQuery(request="\\"), [4]),
    (CallQuery(code="run_busy"), [2, 1]),
    (CallQuery(code=ERRORS), [6, 5, 3, 2, 1]),
    (CallQuery(code=OK), [4, 0]),
    (CallQuery(code=UPSTREAM), [5]),
    (CallQuery(code="upstream_rejected"), [6]),
    (CallQuery(code='"'), []),
    (CallQuery(run="run"), [1, 0]),
    (CallQuery(run='"run":"run"'), [3]),
    (CallQuery(run="лун"), [4]),
    (CallQuery(model="one"), [5, 0]),
    (CallQuery(model='"code":"run_busy"'), [3]),
    (CallQuery(run="run", code=ERRORS, model="two", request="a"), [1]),
    (CallQuery(run="run", model="three"), []),
]


def test_a_search_finds_the_calls_that_match_all_of_its_fields(calls: RecentCalls, clock: Clock) -> None:
    for number, fields in enumerate(CALLS):
        clock.advance(1)
        calls.record({**fields, "number": number})

    def check(row: tuple[CallQuery, list[int]]) -> None:
        query, expected = row
        assert [call["number"] for call in calls.search(query).calls] == expected

    check_rows(SEARCHES, check)


def test_pages_of_a_search_follow_each_other_without_gaps_over_workers_and_files(tmp_path: Path) -> None:
    clock = Clock(1_800_000_000.0)
    workers = [RecentCalls(tmp_path, clock) for _ in range(3)]
    for number in range(5_000):
        clock.advance(0.001)
        workers[number % 3].record({"run": "run", "number": number, "text": "x" * 3_000})
        if number % 500 == 499:
            for worker in workers:
                worker.flush()
    found: list[int] = []
    query = CallQuery(limit=700)
    while True:
        page = workers[0].search(query)
        found += [call["number"] for call in page.calls]
        if not page.has_older:
            break
        query = CallQuery(limit=700, before=page.calls[-1]["at"])
    assert (tmp_path / "calls.older").exists()
    assert found == list(range(4_999, 4_999 - len(found), -1))
    assert len(found) > 2_500


def test_other_greenlets_run_after_each_block_of_a_search(
    calls: RecentCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[None] = []
    monkeypatch.setattr(recent_calls, "pause", lambda: pauses.append(None))
    for number in range(40):
        calls.record({"run": "run", "number": number, "text": "x" * (BLOCK_BYTES // 4)})
    assert len(calls.search(CallQuery()).calls) == 40
    assert len(pauses) >= 10
