"""Closed runs, and runs that must be remembered for longer than their TTL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import BudgetExhaustedError, RunClosedError
from ridges_proxy.ledger import Kind, Run, RunUsage
from tests.contract.stores import BUDGET_NANOUSD, EXPIRY_SECONDS, TTL_SECONDS

if TYPE_CHECKING:
    from ridges_proxy.ledger import Hold
    from tests.contract.stores import LedgerSteps

WEEK_SECONDS = 7 * 86_400.0
LONG_RUN = Run("run", BUDGET_NANOUSD, WEEK_SECONDS)


def reserve(steps: LedgerSteps, run: Run, amount: int = 1) -> Hold:
    return steps.ledger.reserve(run, Kind.INFERENCE, amount, amount, EXPIRY_SECONDS)


def forgotten(steps: LedgerSteps) -> list[str]:
    """Sweep, and return the runs that were forgotten."""
    return [receipt.run_id for receipt in steps.sweep().receipts]


# --- closed


def test_a_closed_run_gets_no_hold_and_the_refusal_changes_nothing(steps: LedgerSteps) -> None:
    steps.spend(100)
    usage = steps.ledger.close(LONG_RUN)
    assert usage == RunUsage(
        "run", BUDGET_NANOUSD, inference_nanousd=100, calls=1, closed=True, finished=True
    )
    for amount in (0, 1, BUDGET_NANOUSD):
        with pytest.raises(RunClosedError):
            steps.reserve(amount)
    assert steps.usage() == usage


def test_closed_is_checked_before_exhausted(steps: LedgerSteps) -> None:
    steps.spend(BUDGET_NANOUSD)
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(1)
    steps.ledger.close(LONG_RUN)
    with pytest.raises(RunClosedError):
        steps.reserve(1)


def test_the_holds_of_a_closed_run_resolve_as_usual(steps: LedgerSteps) -> None:
    settled, released, expired = steps.reserve(10), steps.reserve(20), steps.reserve(40)
    usage = steps.ledger.close(LONG_RUN)
    assert (usage.held_nanousd, usage.in_flight, usage.closed) == (70, 3, True)
    assert steps.ledger.settle(settled, 7) is not None
    assert steps.ledger.settle(settled, 7) is None, "only once"
    assert steps.ledger.release(released) is not None
    steps.clock.advance(EXPIRY_SECONDS)
    assert steps.sweep().expired == [expired]
    assert steps.usage() == RunUsage(
        "run", BUDGET_NANOUSD, inference_nanousd=47, calls=2, closed=True, finished=True
    )


def test_closing_an_unknown_run_makes_it_known_and_closes_no_other(steps: LedgerSteps) -> None:
    assert steps.ledger.close(LONG_RUN) == RunUsage("run", BUDGET_NANOUSD, closed=True, finished=True)
    with pytest.raises(RunClosedError):
        steps.reserve(1)
    assert steps.reserve(1, run="RUN").amount_nanousd == 1


def test_closing_a_run_tells_what_each_model_has_cost(steps: LedgerSteps) -> None:
    assert steps.ledger.settle(steps.reserve(9, model="m"), 7)
    detail = steps.ledger.close(LONG_RUN).detail
    assert detail == steps.usage().detail
    assert detail
    assert [(each.model, each.cost_nanousd) for each in detail.costs] == [("m", 7)]


def test_a_reset_does_not_open_a_closed_run(steps: LedgerSteps) -> None:
    steps.spend(100)
    steps.ledger.close(LONG_RUN)
    assert steps.ledger.reset("run")
    assert steps.usage() == RunUsage("run", BUDGET_NANOUSD, closed=True, finished=True)
    with pytest.raises(RunClosedError):
        steps.reserve(1)


def test_a_closed_run_is_forgotten_after_its_longest_memory(steps: LedgerSteps) -> None:
    start = steps.clock.now
    steps.ledger.close(LONG_RUN)
    assert steps.ledger.close(Run("run", BUDGET_NANOUSD)).closed, "closing it twice is no error"
    for _ in range(int(WEEK_SECONDS // TTL_SECONDS)):
        steps.clock.advance(TTL_SECONDS)
        if steps.clock.now < start + WEEK_SECONDS:
            assert steps.sweep().receipts == []
            with pytest.raises(RunClosedError):
                steps.reserve(1)
    steps.clock.advance(2 * TTL_SECONDS)
    (receipt,) = steps.sweep().receipts
    assert (receipt.run_id, receipt.closed) == ("run", True)


def test_a_second_close_does_not_shorten_the_memory(steps: LedgerSteps) -> None:
    steps.ledger.close(LONG_RUN)
    steps.ledger.close(Run("run", BUDGET_NANOUSD))
    steps.clock.advance(WEEK_SECONDS - 1)
    assert forgotten(steps) == []


# --- remembered


def test_a_run_is_remembered_for_the_longest_time_that_was_asked_for(steps: LedgerSteps) -> None:
    for seconds in (10.0, 5 * TTL_SECONDS, 20.0):
        steps.ledger.settle(reserve(steps, Run("run", BUDGET_NANOUSD, seconds), 10), 10)
    steps.clock.advance(5 * TTL_SECONDS - 0.25)
    assert forgotten(steps) == []
    steps.clock.advance(TTL_SECONDS)
    assert forgotten(steps) == ["run"]


def test_a_memory_shorter_than_the_ttl_and_that_of_a_refusal_change_nothing(steps: LedgerSteps) -> None:
    steps.ledger.settle(reserve(steps, Run("short", BUDGET_NANOUSD, 10.0)), 1)
    steps.spend(BUDGET_NANOUSD)
    with pytest.raises(BudgetExhaustedError):
        reserve(steps, LONG_RUN)
    steps.clock.advance(TTL_SECONDS - 0.25)
    assert forgotten(steps) == []
    steps.clock.advance(0.25)
    assert sorted(forgotten(steps)) == ["run", "short"]


def test_sweeps_do_not_change_the_idle_time_of_a_remembered_run(steps: LedgerSteps) -> None:
    steps.ledger.settle(reserve(steps, LONG_RUN), 1)
    for sweeps in range(1, 6):
        steps.clock.advance(TTL_SECONDS)
        steps.sweep()
        assert steps.usage().idle_seconds == sweeps * TTL_SECONDS


def test_remembered_runs_do_not_hide_idle_runs_and_count_towards_the_limit(steps: LedgerSteps) -> None:
    for number in range(20):
        steps.ledger.settle(reserve(steps, Run(f"kept-{number}", BUDGET_NANOUSD, WEEK_SECONDS)), 1)
    steps.spend(1, run="idle")
    steps.clock.advance(TTL_SECONDS)
    slices = [steps.ledger.sweep(4)]
    while slices[-1].more:
        slices.append(steps.ledger.sweep(4))
    assert len(slices) >= 5
    assert [receipt.run_id for each in slices for receipt in each.receipts] == ["idle"]
