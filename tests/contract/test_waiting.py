"""Calls that wait for a hold: the order of the queue of a run, and the ends of a wait."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import (
    BudgetExhaustedError,
    RefusedError,
    RunBusyError,
    RunClosedError,
    TooManyInFlightError,
)
from ridges_proxy.ledger import Hold, Kind, Run, Ticket
from ridges_proxy.ledger.models import TICKET_SECONDS
from tests.contract.stores import BUDGET_NANOUSD, EXPIRY_SECONDS
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.contract.stores import LedgerSteps

    NewSteps = Callable[[], AbstractContextManager[LedgerSteps]]

RUN = Run("run", BUDGET_NANOUSD)
POLL_SECONDS = TICKET_SECONDS / 2


def ticket(name: str, run: str = "run") -> Ticket:
    return Ticket(name, run)


def ask(
    steps: LedgerSteps, name: str | None, amount: int, *, minimum: int | None = None, run: Run = RUN
) -> Hold:
    """Ask for a hold with a ticket of this name, or without one."""
    least = amount if minimum is None else minimum
    given = None if name is None else ticket(name, run.id)
    return steps.ledger.reserve(run, Kind.INFERENCE, amount, least, EXPIRY_SECONDS, given)


def place_of(steps: LedgerSteps, name: str | None, amount: int, *, run: Run = RUN) -> int | None:
    """Ask for a hold, and be refused as busy. Return the place in the queue."""
    with pytest.raises(RunBusyError) as raised:
        ask(steps, name, amount, run=run)
    return raised.value.place


@contextmanager
def refused(error: type[RefusedError]) -> Iterator[None]:
    with pytest.raises(RefusedError) as raised:
        yield
    assert type(raised.value) is error


def test_waiting_calls_are_served_in_the_order_in_which_they_came(steps: LedgerSteps) -> None:
    hold = steps.reserve(BUDGET_NANOUSD)
    places = [place_of(steps, name, 100) for name in ("first", "second", "third")]
    assert places == sorted(set(places), key=lambda place: place or 0)
    assert [place_of(steps, name, 100) for name in ("third", "first", "second")] == [
        places[2],
        places[0],
        places[1],
    ]
    steps.ledger.settle(hold, 0)
    for name in ("third", "second"):
        place_of(steps, name, 100)
    assert ask(steps, "first", 100).amount_nanousd == 100
    place_of(steps, "third", 100)
    assert ask(steps, "second", 100).amount_nanousd == 100
    assert ask(steps, "third", 100).amount_nanousd == 100


def test_a_small_call_does_not_overtake_a_large_one_that_waits(steps: LedgerSteps) -> None:
    first, second = steps.reserve(500), steps.reserve(400)
    place_of(steps, "large", 900)
    before = steps.usage()
    place_of(steps, "small", 1)
    assert place_of(steps, None, 1) is None, "a call that does not wait is refused too"
    assert steps.usage() == before
    steps.ledger.settle(first, 0)
    place_of(steps, "small", 1)
    place_of(steps, "large", 900)
    steps.ledger.settle(second, 0)
    place_of(steps, "small", 1)
    assert ask(steps, "large", 900).amount_nanousd == 900
    assert ask(steps, "small", 1).amount_nanousd == 1


def test_a_waiting_call_gets_what_remains_once_that_is_its_minimum(steps: LedgerSteps) -> None:
    first, _ = steps.reserve(600), steps.reserve(400)
    place_of(steps, "waits", 1_000)
    steps.ledger.settle(first, 250)
    assert ask(steps, "waits", 1_000, minimum=350).amount_nanousd == 350


def test_a_settled_or_released_hold_lets_the_next_call_go(new_steps: NewSteps) -> None:
    def check(cost: int | None) -> None:
        with new_steps() as steps:
            hold = steps.reserve(BUDGET_NANOUSD)
            place_of(steps, "waits", 400)
            assert steps.ledger.release(hold) if cost is None else steps.ledger.settle(hold, cost)
            assert ask(steps, "waits", 400).amount_nanousd == 400

    check_rows([None, 0, 600], check)


def test_an_expired_hold_refuses_the_call_that_it_leaves_too_little_and_lets_the_next_go(
    steps: LedgerSteps,
) -> None:
    steps.reserve(600, expiry=POLL_SECONDS)
    place_of(steps, "large", 500)
    place_of(steps, "small", 400)
    steps.clock.advance(POLL_SECONDS)
    assert len(steps.sweep().expired) == 1
    with refused(BudgetExhaustedError):
        ask(steps, "large", 500)
    assert ask(steps, "small", 400).amount_nanousd == 400


def test_a_call_that_leaves_costs_nothing_and_lets_the_next_go(steps: LedgerSteps) -> None:
    hold = steps.reserve(BUDGET_NANOUSD - 100)
    place_of(steps, "large", 101)
    place_of(steps, "small", 100)
    before = steps.usage()
    steps.ledger.leave(ticket("large"))
    steps.ledger.leave(ticket("large"))
    steps.ledger.leave(ticket("never came"))
    assert steps.usage() == before
    assert ask(steps, "small", 100).amount_nanousd == 100
    assert ask_nothing_waits(steps)
    steps.ledger.settle(hold, 0)


def ask_nothing_waits(steps: LedgerSteps) -> bool:
    """Whether a free call without a ticket is granted: it is only if no call waits before it."""
    return steps.ledger.release(ask(steps, None, 0)) is not None


def test_a_call_that_left_comes_back_at_the_end(steps: LedgerSteps) -> None:
    steps.reserve(BUDGET_NANOUSD)
    first, second = place_of(steps, "first", 1), place_of(steps, "second", 1)
    steps.ledger.leave(ticket("first"))
    assert first is not None
    assert second is not None
    assert (place_of(steps, "first", 1) or 0) > second > first


def test_a_call_that_can_never_fit_is_refused_at_once_also_while_it_waits(steps: LedgerSteps) -> None:
    first, second = steps.reserve(500), steps.reserve(500)
    place_of(steps, "large", 501)
    place_of(steps, "small", 500)
    steps.ledger.settle(first, 500)
    with refused(BudgetExhaustedError):
        ask(steps, "another", 501)
    with refused(BudgetExhaustedError):
        ask(steps, "large", 501)
    steps.ledger.release(second)
    assert ask(steps, "small", 500).amount_nanousd == 500, "the refused call left the queue"


def test_a_call_that_can_never_fit_is_refused_behind_others_too(steps: LedgerSteps) -> None:
    first, _ = steps.reserve(500), steps.reserve(500)
    place_of(steps, "first", 100)
    place_of(steps, "second", 501)
    steps.ledger.settle(first, 500)
    with refused(BudgetExhaustedError):
        ask(steps, "second", 501)


def test_closing_the_run_refuses_its_waiting_calls(steps: LedgerSteps) -> None:
    steps.reserve(BUDGET_NANOUSD)
    place_of(steps, "waits", 1)
    steps.ledger.close(RUN)
    with refused(RunClosedError):
        ask(steps, "waits", 1)


def test_a_call_that_is_not_seen_for_a_while_loses_its_place(new_steps: NewSteps) -> None:
    def check(sweeps: bool) -> None:  # noqa: FBT001 - a row
        with new_steps() as steps:
            hold = steps.reserve(BUDGET_NANOUSD)
            place_of(steps, "crashed", 1_000)
            steps.clock.advance(TICKET_SECONDS - 0.25)
            place_of(steps, "waits", 10)
            steps.ledger.settle(hold, 0)
            place_of(steps, "waits", 10)
            steps.clock.advance(0.25)
            if sweeps:
                steps.sweep()
            assert ask(steps, "waits", 10).amount_nanousd == 10
            assert ask_nothing_waits(steps)

    check_rows([False, True], check)


def test_a_call_that_asks_again_in_time_keeps_its_place(steps: LedgerSteps) -> None:
    hold = steps.reserve(BUDGET_NANOUSD)
    first, second = place_of(steps, "first", 10), place_of(steps, "second", 10)
    for _ in range(5):
        steps.clock.advance(TICKET_SECONDS - 0.25)
        assert (place_of(steps, "second", 10), place_of(steps, "first", 10)) == (second, first)
        steps.sweep()
    steps.ledger.settle(hold, 0)
    place_of(steps, "second", 10)
    ask(steps, "first", 10)


def test_the_calls_that_wait_are_counted(steps: LedgerSteps) -> None:
    steps.reserve(BUDGET_NANOUSD)
    assert steps.ledger.waiting("run") == 0
    place_of(steps, "first", 1)
    place_of(steps, "second", 1)
    place_of(steps, None, 1)
    steps.clock.advance(TICKET_SECONDS - 0.25)
    place_of(steps, "second", 1)
    assert (steps.ledger.waiting("run"), steps.ledger.waiting("another")) == (2, 0)
    steps.clock.advance(0.25)
    assert steps.ledger.waiting("run") == 1
    steps.ledger.leave(ticket("second"))
    assert steps.ledger.waiting("run") == 0


def test_runs_do_not_wait_for_each_other(steps: LedgerSteps) -> None:
    steps.reserve(BUDGET_NANOUSD)
    place_of(steps, "waits", 1)
    another = replace(RUN, id="another")
    assert ask(steps, "of another run", 1_000, run=another).amount_nanousd == 1_000
    place_of(steps, "waits too", 1, run=another)
    assert place_of(steps, "second", 1) is not None


def test_waiting_counts_as_activity_and_not_as_an_open_hold(steps: LedgerSteps) -> None:
    steps.reserve(BUDGET_NANOUSD)
    steps.clock.advance(7)
    place_of(steps, "waits", 1)
    usage = steps.usage()
    assert (usage.in_flight, usage.held_nanousd, usage.idle_seconds) == (1, BUDGET_NANOUSD, 0)


TWO = replace(RUN, max_in_flight=2)


def test_too_many_calls_in_flight_refuse_a_new_call_and_not_one_that_waits(steps: LedgerSteps) -> None:
    steps.reserve(100)
    blocking = steps.reserve(900)
    place_of(steps, "waits", 500, run=replace(TWO, max_in_flight=3))
    place_of(steps, "waits", 500, run=TWO)
    with refused(TooManyInFlightError):
        ask(steps, "new", 500, run=TWO)
    steps.ledger.release(blocking)
    assert ask(steps, "waits", 500, run=TWO).amount_nanousd == 500
    assert steps.usage().in_flight == 2


def test_a_free_call_waits_behind_the_others(steps: LedgerSteps) -> None:
    steps.reserve(BUDGET_NANOUSD)
    place_of(steps, "first", 1)
    place_of(steps, "free", 0)


def test_an_unknown_run_has_no_queue(steps: LedgerSteps) -> None:
    with refused(BudgetExhaustedError):
        ask(steps, "waits", BUDGET_NANOUSD + 1)
    steps.ledger.leave(ticket("waits"))
    assert steps.ledger.usage("run") is None
