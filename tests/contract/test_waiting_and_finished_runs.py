"""Calls that wait while their run becomes finished, and calls of a finished run that was forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ridges_proxy.errors import BudgetExhaustedError, RefusedError, RunClosedError
from ridges_proxy.ledger import Hold, RunQuery
from ridges_proxy.ledger.models import TICKET_SECONDS
from tests.contract.stores import BUDGET_NANOUSD, EXPIRY_SECONDS, TTL_SECONDS
from tests.contract.test_waiting import RUN, ask, ask_nothing_waits, place_of, refused, ticket
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.contract.stores import LedgerSteps

    NewSteps = Callable[[], AbstractContextManager[LedgerSteps]]
    Finish = Callable[[LedgerSteps, Hold], None]

LOWER = replace(RUN, budget_nanousd=500)
HIGHER = replace(RUN, budget_nanousd=2_000)


# --- the run becomes finished while calls wait


def settle_at_the_hold(steps: LedgerSteps, hold: Hold) -> None:
    steps.ledger.settle(hold, BUDGET_NANOUSD)


def settle_above_the_hold(steps: LedgerSteps, hold: Hold) -> None:
    steps.ledger.settle(hold, 5_000)


def let_it_expire(steps: LedgerSteps, _hold: Hold) -> None:
    for _ in range(int(EXPIRY_SECONDS // 3)):
        steps.clock.advance(3)
        for name in ("first", "second"):
            place_of(steps, name, 1)
    steps.clock.advance(3)
    steps.sweep()


def close(steps: LedgerSteps, _hold: Hold) -> None:
    steps.ledger.close(RUN)


FINISHES: list[tuple[Finish, type[RefusedError]]] = [
    (settle_at_the_hold, BudgetExhaustedError),
    (settle_above_the_hold, BudgetExhaustedError),
    (let_it_expire, BudgetExhaustedError),
    (close, RunClosedError),
]


def test_a_call_that_waits_while_its_run_becomes_finished_is_refused_for_good_at_once(
    new_steps: NewSteps,
) -> None:
    """In any order: the second one need not wait until the first has asked."""

    def check(row: tuple[Finish, type[RefusedError]]) -> None:
        finish, error = row
        for order in (("first", "second"), ("second", "first")):
            with new_steps() as steps:
                hold = steps.reserve(BUDGET_NANOUSD)
                for name in ("first", "second"):
                    place_of(steps, name, 1)
                finish(steps, hold)
                for name in order:
                    with refused(error):
                        ask(steps, name, 1)
                assert steps.usage().finished

    check_rows(FINISHES, check)


def test_a_call_that_still_fits_a_finished_run_goes_on_waiting_in_its_place(steps: LedgerSteps) -> None:
    """Another call's refusal is no refusal of this one."""
    first, second = steps.reserve(500), steps.reserve(500)
    place_of(steps, "large", 600)
    place_of(steps, "small", 400)
    steps.ledger.settle(first, 500)
    with refused(BudgetExhaustedError):
        ask(steps, "large", 600)
    assert steps.usage().finished
    place_of(steps, "small", 400)
    steps.ledger.settle(second, 100)
    assert ask(steps, "small", 400).amount_nanousd == 400


def test_a_waiting_call_is_judged_by_its_own_budget(steps: LedgerSteps) -> None:
    """The budget of another call of its run may be lower: another token, or a worker with other settings."""
    hold = steps.reserve(700)
    place_of(steps, "waits", 400)
    with refused(BudgetExhaustedError):
        ask(steps, "of a lower budget", 501, run=LOWER)
    place_of(steps, "waits", 400)
    steps.ledger.settle(hold, 600)
    assert ask(steps, "waits", 400).amount_nanousd == 400


# --- the run is finished and forgotten


def use_up(steps: LedgerSteps) -> None:
    steps.spend(BUDGET_NANOUSD)
    forget(steps)


def be_refused(steps: LedgerSteps) -> None:
    """900 are spent. The refused call was waiting."""
    steps.spend(800)
    hold = steps.reserve(100)
    place_of(steps, "refused", 101)
    steps.ledger.settle(hold, 100)
    with refused(BudgetExhaustedError):
        ask(steps, "refused", 101)
    forget(steps)


def close_the_run(steps: LedgerSteps) -> None:
    steps.spend(900)
    steps.ledger.close(RUN)
    forget(steps)


def forget(steps: LedgerSteps) -> None:
    steps.clock.advance(TTL_SECONDS)
    steps.sweep()
    assert steps.ledger.count() == 0


FORGOTTEN: list[tuple[Callable[[LedgerSteps], None], type[RefusedError]]] = [
    (use_up, BudgetExhaustedError),
    (be_refused, BudgetExhaustedError),
    (close_the_run, RunClosedError),
]


def test_a_refused_call_of_a_finished_run_that_was_forgotten_makes_no_queue_and_no_budget(
    new_steps: NewSteps,
) -> None:
    def check(row: tuple[Callable[[LedgerSteps], None], type[RefusedError]]) -> None:
        finish, error = row
        with new_steps() as steps:
            finish(steps)
            before = steps.usage()
            for name in ("one", "two", "one", None):
                with refused(error):
                    ask(steps, name, 101)
            assert steps.usage() == before
            assert steps.ledger.list(RunQuery()).total == 0
            if error is BudgetExhaustedError:
                assert ask_nothing_waits(steps)
            else:
                steps.ledger.leave(ticket("one"))
            assert steps.usage().spent_nanousd == before.spent_nanousd

    check_rows(FORGOTTEN, check)


def test_calls_of_a_finished_run_that_was_forgotten_wait_for_what_it_has_left(steps: LedgerSteps) -> None:
    be_refused(steps)
    hold = ask(steps, "fits", 100)
    place_of(steps, "waits", 60)
    with refused(BudgetExhaustedError):
        ask(steps, "never fits", 101)
    steps.ledger.settle(hold, 50)
    with refused(BudgetExhaustedError):
        ask(steps, "waits", 60)
    assert ask(steps, "fits too", 50).amount_nanousd == 50
    assert steps.usage().spent_nanousd + steps.usage().held_nanousd == BUDGET_NANOUSD


def test_a_higher_budget_lets_a_finished_run_continue_with_what_it_has_spent(steps: LedgerSteps) -> None:
    use_up(steps)
    ask(steps, "first", 1_000, run=HIGHER)
    with refused(BudgetExhaustedError):
        ask(steps, "second", 1_001, run=HIGHER)
    place_of(steps, "third", 1, run=HIGHER)
    assert steps.usage().finished


def test_a_call_that_waited_for_a_run_that_was_forgotten_lost_its_place(steps: LedgerSteps) -> None:
    """The process of the first call died while it waited, so the run was idle and its queue was not."""
    hold = steps.reserve(BUDGET_NANOUSD)
    place_of(steps, "died", 1)
    steps.ledger.settle(hold, BUDGET_NANOUSD - 1)
    with refused(BudgetExhaustedError):
        ask(steps, None, 2)
    forget(steps)
    assert TTL_SECONDS > TICKET_SECONDS
    assert ask(steps, "new", 1).amount_nanousd == 1
    with refused(BudgetExhaustedError):
        ask(steps, "died", 2)
