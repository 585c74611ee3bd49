"""A run that is closed, or whose budget is used up, does not get its budget again when it is forgotten."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from ridges_proxy.errors import BudgetExhaustedError, RunClosedError
from ridges_proxy.ledger import Kind, Run, RunUsage
from ridges_proxy.ledger.account import Account
from ridges_proxy.ledger.finished_runs import FinishedRuns
from ridges_proxy.ledger.redis.ledger import key_of
from tests.contract.stores import (
    BUCKETS,
    BUDGET_NANOUSD,
    EXPIRY_SECONDS,
    RECEIPT_DAYS,
    TTL_SECONDS,
    LedgerSteps,
    open_redis,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ridges_proxy.ledger.redis.ledger import RedisLedger
    from tests.support.clock import Clock

    NewSteps = Callable[[], AbstractContextManager[LedgerSteps]]

DAY_SECONDS = 86_400
RUN = Run("run", BUDGET_NANOUSD)


def forget(steps: LedgerSteps) -> None:
    """Let the sweep forget all runs."""
    steps.clock.advance(TTL_SECONDS)
    steps.sweep()
    assert steps.ledger.count() == 0


def refuse(steps: LedgerSteps, amount: int) -> None:
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(amount)


def spend_all(steps: LedgerSteps) -> None:
    steps.spend(400)
    steps.spend(600, kind=Kind.EMBEDDING)


def spend_until_refused(steps: LedgerSteps) -> None:
    steps.spend(900)
    refuse(steps, 101)


def expire(steps: LedgerSteps) -> None:
    steps.reserve(BUDGET_NANOUSD)
    steps.clock.advance(EXPIRY_SECONDS)
    steps.sweep()


def lower_the_budget(steps: LedgerSteps) -> None:
    """The last reservation names a budget below what is spent."""
    steps.spend(900)
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(1, budget=900)


def cost_more_than_the_hold(steps: LedgerSteps) -> None:
    steps.ledger.settle(steps.reserve(1), 5_000)


def call_again_after_a_refusal(steps: LedgerSteps) -> None:
    """A refusal is final, also if a cheaper call is admitted after it."""
    spend_until_refused(steps)
    steps.spend(1)


USED_UP = [
    spend_all,
    spend_until_refused,
    call_again_after_a_refusal,
    expire,
    lower_the_budget,
    cost_more_than_the_hold,
]


def spend_nearly_all(steps: LedgerSteps) -> None:
    steps.spend(999)


def spend_all_and_reset(steps: LedgerSteps) -> None:
    spend_all(steps)
    steps.ledger.reset("run")


def refuse_and_reset(steps: LedgerSteps) -> None:
    spend_until_refused(steps)
    steps.ledger.reset("run")


def refuse_the_first_call(steps: LedgerSteps) -> None:
    refuse(steps, BUDGET_NANOUSD + 1)


NOT_USED_UP = [
    spend_nearly_all,
    spend_all_and_reset,
    refuse_and_reset,
    refuse_the_first_call,
]


def test_a_run_whose_budget_is_used_up_stays_so_after_it_was_forgotten(new_steps: NewSteps) -> None:
    def check(use_up: Callable[[LedgerSteps], None]) -> None:
        with new_steps() as steps:
            use_up(steps)
            before = steps.usage()
            assert before.finished
            forget(steps)
            for _ in range(4):
                with suppress(BudgetExhaustedError):
                    steps.reserve(101)
                assert steps.ledger.count() == 0, "the refusal does not make the run known"
                steps.clock.advance(TTL_SECONDS)
                steps.sweep()
            idle_seconds = before.idle_seconds + 5 * TTL_SECONDS
            assert steps.usage() == replace(before, idle_seconds=idle_seconds)

    check_rows(USED_UP, check)


def test_a_run_whose_budget_is_not_used_up_has_it_again(new_steps: NewSteps) -> None:
    def check(use: Callable[[LedgerSteps], None]) -> None:
        with new_steps() as steps:
            use(steps)
            usage = steps.ledger.usage("run")
            assert usage is None or not usage.finished
            steps.clock.advance(TTL_SECONDS)
            steps.sweep()
            assert steps.ledger.usage("run") is None
            assert steps.reserve(BUDGET_NANOUSD).amount_nanousd == BUDGET_NANOUSD

    check_rows(NOT_USED_UP, check)


def test_a_finished_run_continues_with_what_it_has_spent(steps: LedgerSteps) -> None:
    """A cheaper call that still fits, and then a higher budget."""
    spend_until_refused(steps)
    forget(steps)
    assert steps.reserve(500, minimum=1).amount_nanousd == 100
    assert steps.usage() == RunUsage(
        "run", BUDGET_NANOUSD, 900, held_nanousd=100, calls=1, in_flight=1, finished=True
    )
    assert steps.ledger.count() == 1
    assert steps.reserve(5_000, minimum=1, budget=2_000).amount_nanousd == 1_000


def test_a_finished_run_that_continues_stays_finished(new_steps: NewSteps) -> None:
    """Also if its budget was only spent, not refused, and is higher by now."""

    def check(use_up: Callable[[LedgerSteps], None]) -> None:
        with new_steps() as steps:
            use_up(steps)
            forget(steps)
            steps.ledger.release(steps.reserve(1, budget=5_001))
            forget(steps)
            with pytest.raises(BudgetExhaustedError):
                steps.reserve(BUDGET_NANOUSD)
            assert steps.usage().finished

    check_rows(USED_UP, check)


def test_a_closed_run_stays_closed_after_it_was_forgotten(steps: LedgerSteps) -> None:
    steps.spend(100)
    steps.ledger.close(RUN)
    forget(steps)
    for _ in range(3):
        with pytest.raises(RunClosedError):
            steps.reserve(0)
        assert (steps.usage().closed, steps.usage().spent_nanousd) == (True, 100)
        steps.clock.advance(TTL_SECONDS)
        steps.sweep()
    assert steps.ledger.close(RUN) == RunUsage(
        "run", BUDGET_NANOUSD, 100, calls=1, closed=True, finished=True
    )
    assert steps.ledger.count() == 1
    forget(steps)
    with pytest.raises(RunClosedError):
        steps.reserve(0)


def test_closing_a_finished_run_keeps_what_it_has_spent(steps: LedgerSteps) -> None:
    spend_all(steps)
    forget(steps)
    assert steps.ledger.close(RUN) == RunUsage(
        "run", BUDGET_NANOUSD, 400, 600, calls=2, closed=True, finished=True
    )


def test_a_reset_gives_a_finished_run_its_budget_again(steps: LedgerSteps) -> None:
    spend_all(steps)
    forget(steps)
    before = RunUsage("run", BUDGET_NANOUSD, 400, 600, calls=2, idle_seconds=TTL_SECONDS, finished=True)
    assert steps.ledger.reset("run") == before
    assert steps.usage() == RunUsage("run", BUDGET_NANOUSD)
    forget(steps)
    assert steps.ledger.usage("run") is None
    assert steps.reserve(BUDGET_NANOUSD)


def test_a_finished_run_is_remembered_for_the_days_of_the_receipts(steps: LedgerSteps) -> None:
    spend_all(steps)
    forget(steps)
    steps.clock.advance(RECEIPT_DAYS * DAY_SECONDS - 1)
    steps.sweep()
    refuse(steps, 1)
    steps.clock.advance(1)
    steps.sweep()
    assert steps.ledger.usage("run") is None
    assert steps.reserve(BUDGET_NANOUSD)


def test_finished_runs_leave_in_slices_until_none_is_left(steps: LedgerSteps) -> None:
    runs = [f"run-{number}" for number in range(5)]
    for run in runs:
        steps.spend(BUDGET_NANOUSD, run=run)
    forget(steps)
    steps.clock.advance(RECEIPT_DAYS * DAY_SECONDS)
    steps.sweep(limit=2)
    assert [steps.ledger.usage(run) for run in runs] == [None] * 5


def call_again(steps: LedgerSteps) -> None:
    steps.ledger.release(steps.reserve(0))


def close_again(steps: LedgerSteps) -> None:
    steps.ledger.close(RUN)


def test_a_finished_run_that_continues_does_not_keep_others_for_longer(new_steps: NewSteps) -> None:
    """It is remembered from its last end on, the others from theirs."""

    def check(continue_run: Callable[[LedgerSteps], None]) -> None:
        with new_steps() as steps:
            for run in ("run", "other"):
                steps.spend(BUDGET_NANOUSD, run=run)
                forget(steps)
            continue_run(steps)
            forget(steps)
            steps.clock.advance(RECEIPT_DAYS * DAY_SECONDS - TTL_SECONDS)
            steps.sweep()
            assert steps.ledger.usage("other") is None
            assert steps.usage().finished

    check_rows([call_again, close_again], check)


def test_one_finished_run_says_nothing_about_another(steps: LedgerSteps) -> None:
    spend_all(steps)
    forget(steps)
    assert steps.reserve(BUDGET_NANOUSD, run="Run")
    assert steps.ledger.usage("ru") is None


# --- the budget of the last reservation


def test_a_usage_says_which_budget_the_last_reservation_had(steps: LedgerSteps) -> None:
    def reserve(budget: int, amount: int, *, own: bool) -> None:
        run = Run("run", budget, own_budget=own)
        with suppress(BudgetExhaustedError):
            steps.ledger.settle(steps.ledger.reserve(run, Kind.INFERENCE, amount, amount, 1.0), amount)

    seen = []
    for budget, amount, own in ((500, 10, True), (300, 10, False), (200, 900, True), (100, 900, False)):
        reserve(budget, amount, own=own)
        seen.append((steps.usage().budget_nanousd, steps.usage().own_budget))
    assert seen == [(500, True), (300, False), (200, True), (100, False)], "a refusal replaces the budget too"
    reserve(20, 1, own=True)
    forget(steps)
    assert (steps.usage().budget_nanousd, steps.usage().own_budget) == (20, True)


# --- in memory


def test_the_finished_runs_in_memory_have_a_limit() -> None:
    finished = FinishedRuns(kept_seconds=60.0, limit=2)
    for number in range(3):
        finished.add(Account(f"run-{number}", 1), now=0.0)
    assert [finished.find(f"run-{number}") is None for number in range(3)] == [True, False, False]


# --- in Redis


def test_a_redis_of_version_0_2_0_keeps_its_runs_and_receipts(clock: Clock) -> None:
    """Its accounts have fewer fields, and no run is in `finished`."""
    with open_redis(clock) as ledger:
        steps = LedgerSteps(ledger, clock)
        spend_all(steps)
        forget(steps)
        steps.spend(77, run="known")
        client = cast("RedisLedger", ledger)._client
        for bucket in range(BUCKETS):
            base = key_of(bucket)
            client.do(lambda redis, base=base: redis.delete(f"{base}:finished"))  # type: ignore[misc] # mypy#12557
            client.do(lambda redis, base=base: redis.hdel(f"{base}:run:known", "exhausted", "own_budget"))  # type: ignore[misc] # mypy#12557
        assert steps.usage("known") == RunUsage("known", BUDGET_NANOUSD, 77, calls=1)
        (receipt,) = ledger.history(0.0, None, 10).receipts
        assert (receipt.run.spent_nanousd, receipt.run.finished) == (BUDGET_NANOUSD, False)
        assert steps.reserve(BUDGET_NANOUSD)
        steps.spend(23, run="known")
        assert steps.usage("known").spent_nanousd == 100
