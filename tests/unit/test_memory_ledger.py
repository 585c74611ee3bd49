"""Limits of what a ledger in memory keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from ridges_proxy.billing.levels import Level
from ridges_proxy.ledger import Kind, LevelQuery, MemoryLedger, Run, RunQuery
from ridges_proxy.ledger.models import TICKET_SECONDS, Ticket
from ridges_proxy.ledger.run_queues import RunQueues
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def test_only_the_latest_closed_runs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ridges_proxy.ledger.memory.CLOSED_RUNS_KEPT", 3)
    ledger = MemoryLedger(600.0, Clock())
    start = ledger.closed_runs_since(None)
    for number in range(5):
        ledger.close(Run(f"run-{number}", 10))

    assert ledger.closed_runs_since(start.cursor).run_ids == ["run-2", "run-3", "run-4"]


def test_a_finished_run_is_forgotten_when_its_receipt_would_be() -> None:
    """Without receipts, which is the default, that is after its TTL."""
    for days in (0, 1):
        clock = Clock()
        ledger = MemoryLedger(600.0, clock, days) if days else MemoryLedger(600.0, clock)
        ledger.close(Run("run", 10))
        clock.advance(601.0)
        ledger.sweep(10)
        assert (ledger.usage("run") is not None) is bool(days)
        clock.advance(86_400.0)
        ledger.sweep(10)
        assert ledger.usage("run") is None


def test_a_queue_whose_calls_have_disappeared_is_removed_by_a_sweep_and_by_the_next_call() -> None:
    def check(end: Callable[[RunQueues], object]) -> None:
        queues = RunQueues()
        queues.enter(Ticket("call", "run"), now=0.0)
        end(queues)
        assert queues._queues == {}

    check_rows(
        [
            lambda queues: queues.sweep(TICKET_SECONDS),
            lambda queues: queues.turn("run", None, TICKET_SECONDS),
        ],
        check,
    )


def test_other_greenlets_run_between_the_slices_of_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ridges_proxy.ledger.memory.LIST_SLICE", 2)
    turns = 0
    turns_at_slices: list[int] = []

    def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    def clock() -> float:
        turns_at_slices.append(turns)
        return 0.0

    ledger = MemoryLedger(600.0, clock)
    for number in range(6):
        ledger.close(Run(f"run-{number}", 10))
    turns_at_slices.clear()
    other = gevent.spawn(take_turns)
    assert ledger.list(RunQuery()).total == 6
    other.kill()
    assert len(set(turns_at_slices)) == 3


def test_other_greenlets_run_between_the_slices_of_a_list_of_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ridges_proxy.ledger.memory.LIST_SLICE", 2)
    ledger = MemoryLedger(600.0)
    levels = tuple(Level("miner", f"group:miner:{number}", "lifetime", 10) for number in range(6))
    ledger.reserve(Run("run", 10, levels=levels), Kind.INFERENCE, 1, 1, 60.0)
    turns = 0

    def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    other = gevent.spawn(take_turns)
    assert ledger.list_levels(LevelQuery()).total == 6
    other.kill()
    assert turns >= 3


def test_without_a_clock_the_time_is_the_systems_at_the_start_and_then_steady(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A system clock that is set back later makes no hold live longer."""
    monkeypatch.setattr("ridges_proxy.ledger.memory.time.time", lambda: 1_796_000_000.0)
    monkeypatch.setattr("ridges_proxy.ledger.memory.time.monotonic", lambda: 50.0)
    ledger = MemoryLedger(600.0)
    monkeypatch.setattr("ridges_proxy.ledger.memory.time.time", lambda: 0.0)
    monkeypatch.setattr("ridges_proxy.ledger.memory.time.monotonic", lambda: 57.0)

    hold = ledger.reserve(Run("run", 10), Kind.INFERENCE, 1, 1, 30.0)

    assert hold.expires_at == 1_796_000_000.0 + 7.0 + 30.0
