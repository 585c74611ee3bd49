"""Runs that are closed, and runs that must be remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import BudgetExhaustedError, RunClosedError
from ridges_proxy.ledger import Kind, Run, RunUsage
from tests.contract.stores import CAP_NANOUSD, EXPIRY_SECONDS, TTL_SECONDS

if TYPE_CHECKING:
    from ridges_proxy.ledger import Hold
    from tests.contract.stores import Till
    from tests.support.clock import Clock

WEEK_SECONDS = 7 * 86_400.0
LONG_RUN = Run("run", CAP_NANOUSD, WEEK_SECONDS)


def reserve(till: Till, run: Run, amount: int = 1) -> Hold:
    return till.ledger.reserve(run, Kind.INFERENCE, amount, amount, EXPIRY_SECONDS)


# --- closed


def test_nothing_more_is_held_for_a_closed_run_and_the_try_changes_nothing(till: Till) -> None:
    till.spend(100)
    books = till.ledger.close(LONG_RUN)
    assert books == RunUsage("run", CAP_NANOUSD, inference_nanousd=100, calls=1, closed=True)
    for amount in (0, 1, CAP_NANOUSD):
        with pytest.raises(RunClosedError):
            till.reserve(amount)
    assert till.ledger.usage("run") == books


def test_closed_is_said_before_exhausted(till: Till) -> None:
    till.spend(CAP_NANOUSD)
    with pytest.raises(BudgetExhaustedError):
        till.reserve(1)
    till.ledger.close(LONG_RUN)
    with pytest.raises(RunClosedError):
        till.reserve(1)


def test_the_holds_of_a_closed_run_resolve_as_ever(till: Till, clock: Clock) -> None:
    settled, released, overdue = till.reserve(10), till.reserve(20), till.reserve(40)
    books = till.ledger.close(LONG_RUN)
    assert (books.held_nanousd, books.in_flight, books.closed) == (70, 3, True)
    assert till.ledger.settle(settled, 7) is not None
    assert till.ledger.settle(settled, 7) is None, "once"
    assert till.ledger.release(released) is not None
    clock.advance(EXPIRY_SECONDS)
    assert till.sweep().overdue == [overdue]
    after = till.ledger.usage("run")
    assert after == RunUsage("run", CAP_NANOUSD, inference_nanousd=47, calls=2, closed=True)


def test_a_run_not_seen_is_closed_as_well(till: Till) -> None:
    assert till.ledger.close(LONG_RUN) == RunUsage("run", CAP_NANOUSD, closed=True)
    with pytest.raises(RunClosedError):
        till.reserve(1)


def test_a_run_is_closed_alone(till: Till) -> None:
    till.ledger.close(LONG_RUN)
    assert till.reserve(1, run="RUN").amount_nanousd == 1


def test_to_close_twice_is_no_error_and_the_longer_memory_counts(till: Till, clock: Clock) -> None:
    till.ledger.close(LONG_RUN)
    assert till.ledger.close(Run("run", CAP_NANOUSD)).closed
    clock.advance(WEEK_SECONDS - 1)
    assert till.sweep().receipts == []


def test_a_reset_forgets_what_was_spent_and_not_that_it_is_closed(till: Till) -> None:
    till.spend(100)
    till.ledger.close(LONG_RUN)
    assert till.ledger.reset("run")
    assert till.ledger.usage("run") == RunUsage("run", CAP_NANOUSD, closed=True)
    with pytest.raises(RunClosedError):
        till.reserve(1)


def test_a_closed_run_stays_closed_until_it_is_forgotten_and_that_is_not_before_its_time(
    till: Till, clock: Clock
) -> None:
    till.ledger.close(LONG_RUN)
    for _ in range(int(WEEK_SECONDS // TTL_SECONDS)):
        clock.advance(TTL_SECONDS)
        if clock.now < 1000.0 + WEEK_SECONDS:
            assert till.sweep().receipts == []
            with pytest.raises(RunClosedError):
                till.reserve(1)
    clock.advance(2 * TTL_SECONDS)
    (receipt,) = till.sweep().receipts
    assert (receipt.run_id, receipt.closed) == ("run", True)
    assert till.ledger.usage("run") is None


# --- remembered


def test_a_run_is_remembered_for_as_long_as_its_longest_token_lives(till: Till, clock: Clock) -> None:
    for seconds in (10.0, 5 * TTL_SECONDS, 20.0):
        till.ledger.settle(reserve(till, Run("run", CAP_NANOUSD, seconds), 10), 10)
    clock.advance(5 * TTL_SECONDS - 0.25)
    assert till.sweep().receipts == []
    clock.advance(TTL_SECONDS)
    assert [receipt.run_id for receipt in till.sweep().receipts] == ["run"]


def test_a_memory_shorter_than_the_ttl_changes_nothing(till: Till, clock: Clock) -> None:
    till.ledger.settle(reserve(till, Run("run", CAP_NANOUSD, 10.0)), 1)
    clock.advance(TTL_SECONDS - 0.25)
    assert till.sweep().receipts == []
    clock.advance(0.25)
    assert [receipt.run_id for receipt in till.sweep().receipts] == ["run"]


def test_a_refusal_makes_nothing_remembered(till: Till, clock: Clock) -> None:
    till.spend(CAP_NANOUSD)
    with pytest.raises(BudgetExhaustedError):
        reserve(till, LONG_RUN)
    clock.advance(TTL_SECONDS)
    assert [receipt.run_id for receipt in till.sweep().receipts] == ["run"]


def test_the_idle_time_of_a_remembered_run_is_true_however_often_it_was_swept(
    till: Till, clock: Clock
) -> None:
    till.ledger.settle(reserve(till, LONG_RUN), 1)
    for passed in range(1, 6):
        clock.advance(TTL_SECONDS)
        till.sweep()
        books = till.ledger.usage("run")
        assert books
        assert books.idle_seconds == passed * TTL_SECONDS


def test_remembered_runs_hide_no_forgotten_one_and_a_slice_stays_a_slice(till: Till, clock: Clock) -> None:
    for number in range(20):
        till.ledger.settle(reserve(till, Run(f"kept-{number}", CAP_NANOUSD, WEEK_SECONDS)), 1)
    till.spend(1, run="gone")
    clock.advance(TTL_SECONDS)
    slices = [till.ledger.sweep(4)]
    while slices[-1].more:
        slices.append(till.ledger.sweep(4))
    assert len(slices) >= 5
    assert [receipt.run_id for each in slices for receipt in each.receipts] == ["gone"]
