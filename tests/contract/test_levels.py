"""Budgets above a run: one reservation holds in all of them or in none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.billing.levels import Level
from ridges_proxy.errors import (
    BudgetExhaustedError,
    RefusedError,
    RefusingBudget,
    RunBusyError,
    RunClosedError,
    TooManyInFlightError,
)
from ridges_proxy.ledger import (
    CallRecord,
    Hold,
    Kind,
    LevelQuery,
    LevelUsage,
    ModelCost,
    Run,
    SetAmount,
    Ticket,
)
from ridges_proxy.ledger.level_account import ENDED_LEVEL_SECONDS
from ridges_proxy.ledger.run_record import MAX_REFUSAL_CODES
from tests.contract.stores import EXPIRY_SECONDS, TTL_SECONDS
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.contract.stores import LedgerSteps

    NewSteps = Callable[[], AbstractContextManager[LedgerSteps]]

HOUR = Level("hour", "all", "hour 1970-01-01T00:00Z", 600, 3_600.0)
DAY = Level("day", "all", "day 1970-01-01", 800, 86_400.0)
TOTAL = Level("total", "all", "lifetime", 900)
MINER = Level("miner", "group:miner:1", "lifetime", 500)
LEVELS = (HOUR, DAY, TOTAL)


def level_of(steps: LedgerSteps, level: Level) -> LevelUsage:
    return steps.ledger.levels([level])[0]


def sums_of(steps: LedgerSteps, level: Level) -> tuple[int, int, int, int]:
    """Amounts spent and held in the level, its calls and its open holds."""
    usage = level_of(steps, level)
    return usage.spent_nanousd, usage.held_nanousd, usage.calls, usage.in_flight


# --- granted and refused


@dataclass(frozen=True)
class Case:
    """Amounts that other runs have spent and hold in LEVELS, and a reservation of a run."""

    name: str
    requested: int
    minimum: int
    spent: int = 0
    held: int = 0
    budget: int = 1_000
    reserved: int = 0
    levels: tuple[Level, ...] = LEVELS

    def reserve(self, steps: LedgerSteps) -> Hold:
        if self.spent:
            steps.ledger.settle(steps.reserve(0, run="other", levels=self.levels), self.spent)
        if self.held:
            steps.reserve(self.held, run="other", levels=self.levels)
        return steps.reserve(
            self.requested, self.minimum, budget=self.budget, levels=self.levels, reserved=self.reserved
        )


GRANTED: list[tuple[Case, int]] = [
    (Case("all that is requested", 100, 1), 100),
    (Case("what remains of the smallest level", 1_000, 1), 600),
    (Case("what the calls of others leave", 1_000, 1, spent=200, held=100), 300),
    (Case("exactly the minimum", 1_000, 300, spent=200, held=100), 300),
    (Case("what remains of the run, if that is less", 1_000, 1, budget=50), 50),
    (Case("a free call in a level that is spent", 0, 0, spent=600), 0),
    (Case("one level", 1_000, 1, spent=1, levels=(TOTAL,)), 899),
    (Case("all but what is kept for the final call", 1_000, 1, budget=500, reserved=100), 400),
]


def test_a_hold_is_at_most_what_remains_of_the_run_and_of_each_level(new_steps: NewSteps) -> None:
    def check(row: tuple[Case, int]) -> None:
        case, amount = row
        with new_steps() as steps:
            hold = case.reserve(steps)
            assert (hold.amount_nanousd, hold.nested) == (amount, True)
            for level in case.levels:
                calls = int(bool(case.spent))
                holds = 1 + int(bool(case.held))
                assert sums_of(steps, level) == (case.spent, case.held + amount, calls, holds)
            assert steps.usage().held_nanousd == amount

    check_rows(GRANTED, check)


REFUSED: list[tuple[Case, type[RefusedError], RefusingBudget | None]] = [
    (
        Case("more than a level has left", 300, 300, spent=301),
        BudgetExhaustedError,
        RefusingBudget("hour", "all", "hour", 3_600.0),
    ),
    (
        Case("two levels: the one that resets later", 300, 300, spent=501),
        BudgetExhaustedError,
        RefusingBudget("day", "all", "day", 86_400.0),
    ),
    (
        Case("three levels: the one that never resets", 1, 1, spent=900),
        BudgetExhaustedError,
        RefusingBudget("total", "all", "lifetime", None),
    ),
    (
        Case("a level of a group", 501, 501, levels=(DAY, MINER)),
        BudgetExhaustedError,
        RefusingBudget("miner", "group:miner:1", "lifetime", None),
    ),
    (
        Case("the run's own budget before a level", 700, 700, budget=699),
        BudgetExhaustedError,
        RefusingBudget(),
    ),
    (
        Case("what is kept for the final call", 401, 401, budget=500, reserved=100),
        BudgetExhaustedError,
        RefusingBudget(),
    ),
    (Case("what others hold", 300, 300, spent=200, held=101), RunBusyError, None),
    (Case("what others hold in one of them", 500, 500, held=101), RunBusyError, None),
]


def test_a_refusal_names_the_budget_and_changes_no_level(new_steps: NewSteps) -> None:
    def check(row: tuple[Case, type[RefusedError], RefusingBudget | None]) -> None:
        case, error, budget = row
        with new_steps() as steps:
            with pytest.raises(error) as refusal:
                case.reserve(steps)
            assert getattr(refusal.value, "budget", None) == budget
            for level in case.levels:
                calls, holds = int(bool(case.spent)), int(bool(case.held))
                assert sums_of(steps, level) == (case.spent, case.held, calls, holds)
            assert steps.ledger.usage("run") is None

    check_rows(REFUSED, check)


def test_a_level_refuses_without_finishing_the_run(steps: LedgerSteps) -> None:
    """The run may go on when the period has ended, or in other levels."""
    steps.ledger.settle(steps.reserve(600, levels=(HOUR,)), 600)
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(1, levels=(HOUR,))

    assert steps.usage().finished is False
    assert steps.reserve(1, levels=(DAY,)).amount_nanousd == 1


def test_a_run_that_its_own_budget_has_finished_stays_so_when_a_level_refuses(steps: LedgerSteps) -> None:
    steps.ledger.settle(steps.reserve(600, levels=(HOUR,)), 600)
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(401)
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(1, levels=(HOUR,))
    assert steps.usage().finished is True


def test_closed_and_full_runs_are_refused_before_their_levels(steps: LedgerSteps) -> None:
    full = Run("full", 1_000, max_in_flight=1, levels=(replace_amount(HOUR, 0),))
    steps.reserve(0, run="full")
    with pytest.raises(TooManyInFlightError):
        steps.ledger.reserve(full, Kind.INFERENCE, 1, 1, EXPIRY_SECONDS)

    steps.ledger.close(Run("closed", 1_000))
    with pytest.raises(RunClosedError):
        steps.reserve(1, run="closed", levels=(replace_amount(HOUR, 0),))


def replace_amount(level: Level, amount: int) -> Level:
    return level._replace(amount_nanousd=amount)


# --- resolved


def test_a_hold_is_resolved_in_all_its_levels_once(new_steps: NewSteps) -> None:
    """Rows: the end of a hold of 300, then what the run and its levels have spent."""

    def expire(steps: LedgerSteps, _: Hold) -> None:
        steps.clock.advance(EXPIRY_SECONDS)
        assert len(steps.sweep().expired) == 1

    def check(row: tuple[str, Callable[[LedgerSteps, Hold], object], int, int]) -> None:
        _, end, spent, calls = row
        with new_steps() as steps:
            hold = steps.reserve(300, levels=LEVELS)
            end(steps, hold)
            for _ in range(2):
                assert (steps.usage().spent_nanousd, steps.usage().held_nanousd) == (spent, 0)
                for level in LEVELS:
                    assert sums_of(steps, level) == (spent, 0, calls, 0)
                assert steps.ledger.settle(hold, 7) is None
                assert steps.ledger.release(hold) is None
                steps.clock.advance(EXPIRY_SECONDS)
                steps.sweep()

    check_rows(
        [
            ("settled below the hold", lambda steps, hold: steps.ledger.settle(hold, 100), 100, 1),
            ("settled at the hold", lambda steps, hold: steps.ledger.settle(hold, 300), 300, 1),
            ("settled above the hold", lambda steps, hold: steps.ledger.settle(hold, 950), 950, 1),
            ("settled at nothing", lambda steps, hold: steps.ledger.settle(hold, 0), 0, 1),
            ("released", lambda steps, hold: steps.ledger.release(hold), 0, 0),
            ("expired", expire, 300, 1),
        ],
        check,
    )


def test_settle_and_release_return_the_levels_of_the_hold(steps: LedgerSteps) -> None:
    first = steps.reserve(300, levels=(MINER, DAY), kind=Kind.EMBEDDING)
    second = steps.reserve(100, levels=(DAY,))

    settled = steps.ledger.settle(first, 250)
    released = steps.ledger.release(second)

    assert settled
    assert settled.levels == (
        LevelUsage(MINER, embedding_nanousd=250, calls=1),
        LevelUsage(DAY, embedding_nanousd=250, held_nanousd=100, calls=1, in_flight=1),
    )
    assert released
    assert released.levels == (LevelUsage(DAY, embedding_nanousd=250, calls=1),)
    assert [usage.remaining_nanousd for usage in settled.levels] == [250, 450]


def test_a_hold_is_resolved_in_the_period_in_which_it_was_held(steps: LedgerSteps) -> None:
    next_day = DAY._replace(period="day 1970-01-02", resets_at=2 * 86_400.0)
    hold = steps.reserve(800, levels=(DAY,))

    assert steps.reserve(800, run="next", levels=(next_day,)).amount_nanousd == 800
    steps.ledger.settle(hold, 700)

    assert sums_of(steps, DAY) == (700, 0, 1, 0)
    assert sums_of(steps, next_day) == (0, 800, 0, 1)


def test_a_reset_of_the_run_leaves_its_levels_and_a_reset_of_a_level_leaves_runs(steps: LedgerSteps) -> None:
    steps.ledger.settle(steps.reserve(300, levels=(DAY,)), 300)
    held = steps.reserve(100, levels=(DAY,))

    steps.ledger.reset("run")
    assert sums_of(steps, DAY) == (300, 100, 1, 1)

    steps.ledger.settle(steps.reserve(50), 50)
    before = steps.ledger.reset_level(DAY)
    assert before == LevelUsage(DAY, inference_nanousd=300, held_nanousd=100, calls=1, in_flight=1)
    assert sums_of(steps, DAY) == (0, 100, 0, 1)
    assert steps.usage().spent_nanousd == 50

    steps.ledger.settle(held, 100)
    assert sums_of(steps, DAY) == (100, 0, 1, 0)
    assert steps.ledger.reset_level(MINER) is None


# --- amounts


def test_the_usage_before_a_reset_has_the_amount_in_force(steps: LedgerSteps) -> None:
    steps.ledger.settle(steps.reserve(300, levels=(DAY,)), 300)
    steps.ledger.set_amount("day", "", 700)
    before = steps.ledger.reset_level(DAY)
    assert before is not None
    assert (before.amount_nanousd, before.spent_nanousd) == (700, 300)


def test_a_changed_amount_is_in_force_at_once(steps: LedgerSteps) -> None:
    """That of the reservation, and before it the one that an operator has set."""
    steps.ledger.settle(steps.reserve(500, levels=(DAY,)), 500)
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(1, levels=(replace_amount(DAY, 500),))
    assert steps.reserve(500, levels=(replace_amount(DAY, 1_000),)).amount_nanousd == 500

    steps.ledger.set_amount("day", "", 1_002)
    assert steps.reserve(9, 1, run="2", levels=(DAY,)).amount_nanousd == 2
    steps.ledger.set_amount("day", "all", 1_003)
    assert steps.reserve(9, 1, run="3", levels=(DAY,)).amount_nanousd == 1
    assert level_of(steps, DAY).amount_nanousd == 1_003
    assert steps.ledger.set_amounts() == [SetAmount("day", "", 1_002), SetAmount("day", "all", 1_003)]

    steps.ledger.set_amount("day", "all", None)
    assert level_of(steps, DAY).amount_nanousd == 1_002
    steps.ledger.set_amount("day", "", None)
    assert level_of(steps, DAY).amount_nanousd == 800
    assert steps.ledger.list_levels(LevelQuery()).levels[0].amount_nanousd == 800
    assert steps.ledger.set_amounts() == []
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(301, run="4", levels=(DAY,))


def test_a_set_amount_of_0_refuses_every_paid_call(steps: LedgerSteps) -> None:
    steps.ledger.set_amount("day", "", 0)
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(1, levels=(DAY,))
    assert steps.reserve(0, levels=(DAY,)).amount_nanousd == 0


# --- lists, and what is forgotten


def test_levels_are_listed_by_spent_and_pages_and_filters_agree(steps: LedgerSteps) -> None:
    groups = [MINER._replace(scope=f"group:miner:{number}") for number in range(5)]
    for number, level in enumerate(groups):
        steps.ledger.settle(steps.reserve(10, run=f"{number}", levels=(level, DAY)), number)

    page = steps.ledger.list_levels(LevelQuery(budget="miner", offset=1, limit=2))
    assert [usage.level for usage in page.levels] == [groups[3], groups[2]]
    assert page.total == 5
    everything = steps.ledger.list_levels(LevelQuery())
    assert (everything.total, everything.levels[0]) == (6, LevelUsage(DAY, inference_nanousd=10, calls=5))
    current = steps.ledger.list_levels(LevelQuery(current_at=86_400.0))
    assert {usage.level.budget for usage in current.levels} == {"miner"}
    found = steps.ledger.list_levels(LevelQuery(search="miner:3"))
    assert ([usage.level for usage in found.levels], found.total) == ([groups[3]], 1)
    for part in ("MINER", "miner_3", "%", "*"):
        assert steps.ledger.list_levels(LevelQuery(search=part)).total == 0, "no wildcards"


def test_a_level_is_dropped_long_after_its_period_but_never_with_an_open_hold(steps: LedgerSteps) -> None:
    def known() -> set[str]:
        return {usage.level.budget for usage in steps.ledger.list_levels(LevelQuery()).levels}

    hour, total = HOUR._replace(resets_at=steps.clock.now), TOTAL
    steps.ledger.settle(steps.reserve(5, levels=(hour, total)), 5)
    open_for_long = steps.reserve(1, levels=(hour,), expiry=10 * ENDED_LEVEL_SECONDS)

    steps.clock.advance(ENDED_LEVEL_SECONDS)
    steps.sweep()
    assert known() == {"hour", "total"}
    steps.ledger.settle(open_for_long, 1)
    assert sums_of(steps, hour) == (6, 0, 2, 0)

    steps.clock.advance(ENDED_LEVEL_SECONDS + TTL_SECONDS)
    steps.sweep()
    assert known() == {"total"}
    assert sums_of(steps, hour) == (0, 0, 0, 0)


def test_a_period_may_end_at_another_time_since_its_budget_has_another_zone(steps: LedgerSteps) -> None:
    steps.ledger.settle(steps.reserve(5, levels=(DAY,)), 5)
    later = DAY._replace(resets_at=steps.clock.now + 3 * ENDED_LEVEL_SECONDS)
    steps.ledger.settle(steps.reserve(6, levels=(later,)), 6)
    query = LevelQuery(current_at=steps.clock.now + 2 * ENDED_LEVEL_SECONDS)
    assert [usage.level for usage in steps.ledger.list_levels(query).levels] == [later]

    steps.clock.advance(3 * ENDED_LEVEL_SECONDS)
    steps.sweep()
    assert sums_of(steps, later) == (11, 0, 2, 0)
    steps.clock.advance(ENDED_LEVEL_SECONDS)
    steps.sweep()
    assert steps.ledger.list_levels(LevelQuery()).total == 0


def test_any_number_of_levels_is_read(steps: LedgerSteps) -> None:
    last = MINER._replace(scope="group:miner:last")
    steps.ledger.settle(steps.reserve(5, levels=(last,)), 5)
    # A page of 1,000 runs in several groups has some thousands. SQLite and Lua limit those of one step.
    levels = [*(MINER._replace(scope=f"group:miner:{number}") for number in range(65_000)), last]
    spent = [usage.spent_nanousd for usage in steps.ledger.levels(levels)]
    assert spent == [0] * 65_000 + [5]


# --- waiting


def test_a_call_waits_for_a_level_in_the_queue_of_its_own_run(steps: LedgerSteps) -> None:
    first = steps.reserve(500, run="other", levels=(DAY,))
    run, ticket = Run("run", 1_000, levels=(DAY,)), Ticket("1", "run")
    with pytest.raises(RunBusyError) as busy:
        steps.ledger.reserve(run, Kind.INFERENCE, 400, 400, EXPIRY_SECONDS, ticket)
    assert busy.value.place is not None
    assert steps.ledger.waiting("run") == 1

    assert steps.reserve(300, run="third", levels=(DAY,)).amount_nanousd == 300, "other runs do not wait"
    steps.ledger.release(first)
    assert steps.ledger.reserve(run, Kind.INFERENCE, 400, 400, EXPIRY_SECONDS, ticket).amount_nanousd == 400
    assert steps.ledger.waiting("run") == 0


# --- what a run has done


def test_a_run_keeps_its_calls_costs_refusals_and_groups_until_its_receipt(steps: LedgerSteps) -> None:
    run = Run("run", 1_000, groups=("team", "miner:1"), levels=(DAY,), has_token=True)
    begun_at = steps.clock.now
    first = steps.ledger.reserve(run, Kind.INFERENCE, 100, 1, EXPIRY_SECONDS, model="large")
    steps.ledger.settle(first, 90, CallRecord(7, 5))
    steps.clock.advance(1)
    second = steps.ledger.reserve(run, Kind.INFERENCE, 100, 1, EXPIRY_SECONDS, model="large")
    steps.ledger.settle(second, 10, CallRecord(2, 1))
    third = steps.ledger.reserve(run, Kind.EMBEDDING, 50, 1, EXPIRY_SECONDS, model="small")
    again = replace(run, has_token=False)
    steps.ledger.reserve(again, Kind.INFERENCE, 30, 1, EXPIRY_SECONDS, model="lost")
    steps.ledger.settle(third, 40)
    steps.ledger.count_refusals({"run": {"rate_limited": 2}, "unknown": {"rate_limited": 1}})
    steps.ledger.count_refusals({"run": {"rate_limited": 1, "run_busy": 1}})
    steps.clock.advance(EXPIRY_SECONDS)
    steps.sweep()
    usage = steps.usage()
    steps.clock.advance(TTL_SECONDS)
    receipts = steps.sweep().receipts

    for found in (usage, *receipts):
        assert found.groups == ("team", "miner:1")
        assert found.detail
        assert (found.detail.first_call_at, found.detail.last_call_at) == (begun_at, begun_at + 1)
        assert found.detail.had_token
        assert found.detail.refused == {"rate_limited": 3, "run_busy": 1}
        assert found.detail.costs == (
            ModelCost("large", Kind.INFERENCE, 2, 9, 6, 100),
            ModelCost("small", Kind.EMBEDDING, 1, 0, 0, 40),
            ModelCost("lost", Kind.INFERENCE, 1, 0, 0, 30),
        )
    assert len(receipts) == 1
    assert steps.ledger.usage("unknown") is None
    kept = steps.ledger.history(0.0, None, 10).receipts
    assert [replace(receipt.run, idle_seconds=0.0) for receipt in kept] in (
        [],
        [replace(receipts[0], idle_seconds=0.0)],
    )
    assert [receipt.run.detail for receipt in kept] in ([], [usage.detail])


def test_a_reset_forgets_costs_and_refusals(steps: LedgerSteps) -> None:
    steps.ledger.settle(steps.reserve(10, model="large"), 9)
    steps.ledger.count_refusals({"run": {"run_busy": 1}})
    before = steps.ledger.reset("run")
    assert before

    detail = steps.usage().detail
    assert detail
    assert (detail.costs, detail.refused, detail.had_token) == ((), {}, False)


def test_refusals_of_known_codes_are_counted_also_if_no_other_code_is_kept(steps: LedgerSteps) -> None:
    steps.ledger.settle(steps.reserve(10), 9)
    for number in range(MAX_REFUSAL_CODES):
        steps.ledger.count_refusals({"run": {f"code_{number}": 1}})
    steps.ledger.count_refusals({"run": {"code_0": 2, "one_more": 1}})

    detail = steps.usage().detail
    assert detail
    assert (len(detail.refused), detail.refused["code_0"]) == (MAX_REFUSAL_CODES, 3)


def test_refusals_of_a_forgotten_run_are_not_counted(steps: LedgerSteps) -> None:
    steps.ledger.close(Run("run", 1_000))
    steps.ledger.count_refusals({"run": {"run_closed": 1}})
    steps.clock.advance(TTL_SECONDS)
    assert steps.sweep().receipts
    steps.ledger.count_refusals({"run": {"run_closed": 1}})

    detail = steps.usage().detail
    assert detail
    assert detail.refused == {"run_closed": 1}
