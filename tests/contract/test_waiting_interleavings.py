"""Random sequences of calls that wait for holds, on a ledger and on a simple model of its queues."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ridges_proxy.errors import BudgetExhaustedError, RefusedError, RunBusyError, TooManyInFlightError
from ridges_proxy.ledger import Hold, Kind, Run, RunUsage, Ticket
from ridges_proxy.ledger.models import TICKET_SECONDS
from tests.contract.stores import BUDGET_NANOUSD, STORES, open_cluster, open_redis, open_tls
from tests.support.clock import Clock

if TYPE_CHECKING:
    from tests.contract.stores import OpenLedger

LIMITS = {"unlimited": None, "two at a time": 2}
MODEL_SETTINGS = settings(
    max_examples=settings().max_examples // 2,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)
PARTS: dict[OpenLedger, int] = {open_redis: 4, open_tls: 24, open_cluster: 24}
"""Divisors of the number of examples where each step takes several requests to a server."""

run_ids = st.sampled_from(sorted(LIMITS))
amounts = st.sampled_from([1, 5, 5, 300, 600, BUDGET_NANOUSD]) | st.integers(1, BUDGET_NANOUSD)
extras = st.sampled_from([0, 0, 0, 5, BUDGET_NANOUSD])
"""What a call asks for above its minimum."""

positions = st.integers(0, 7)
# Quarters are exact as floats, so ledger and model agree at each boundary.
short_times = st.sampled_from([0.25, TICKET_SECONDS / 2, TICKET_SECONDS - 0.25])
long_times = st.sampled_from([TICKET_SECONDS, 2 * TICKET_SECONDS])
expiries = st.sampled_from([TICKET_SECONDS / 2, 1_000.0])


@dataclass
class Waiter:
    """A call in the queue of its run, as the ledger last saw it."""

    ticket: Ticket
    requested: int
    minimum: int
    place: int
    seen_at: float
    alive: bool = True
    """Whether its process may ask again."""


@dataclass
class ModelRun:
    """The account and the queue of one run, in the simplest form."""

    spent: int = 0
    calls: int = 0
    holds: dict[str, Hold] = field(default_factory=dict)
    queue: list[Waiter] = field(default_factory=list)
    was_refused: bool = False
    """As exhausted. Such a run is finished."""

    def held(self) -> int:
        return sum(hold.amount_nanousd for hold in self.holds.values())


class LedgerAndQueues(RuleBasedStateMachine):
    """Applies each step to a ledger and to the model, and compares all results."""

    def __init__(self, open_ledger: OpenLedger) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.clock = Clock()
        self.ledger = self._stack.enter_context(open_ledger(self.clock))
        self.runs = {run_id: ModelRun() for run_id in LIMITS}
        self.tickets = 0

    def teardown(self) -> None:
        self._stack.close()

    # --- calls

    @initialize()
    def hold_what_the_calls_need(self) -> None:
        """Begin with a hold of the whole budget: the next calls have to wait."""
        for run_id in LIMITS:
            self._ask(run_id, None, BUDGET_NANOUSD, BUDGET_NANOUSD, 1_000.0)

    @rule(run_id=run_ids, minimum=amounts, more=extras, expiry=expiries)
    def call_without_a_ticket(self, run_id: str, minimum: int, more: int, expiry: float) -> None:
        self._ask(run_id, None, minimum + more, minimum, expiry)

    @rule(
        run_id=run_ids, quotes=st.lists(st.tuples(amounts, extras), min_size=2, max_size=5), expiry=expiries
    )
    def new_calls(self, run_id: str, quotes: list[tuple[int, int]], expiry: float) -> None:
        for minimum, more in quotes:
            self.tickets += 1
            waiter = Waiter(Ticket(str(self.tickets), run_id), minimum + more, minimum, place=0, seen_at=0.0)
            self._ask(run_id, waiter, minimum + more, minimum, expiry)

    @precondition(lambda self: self._alive())
    @rule(position=positions, expiry=expiries)
    def ask_again(self, position: int, expiry: float) -> None:
        """Also of a call that asks too late, and may have lost its place."""
        waiter = self._alive()[position % len(self._alive())]
        self._ask_again(waiter, expiry)

    @precondition(lambda self: self._alive())
    @rule(position=positions)
    def leave(self, position: int) -> None:
        waiter = self._alive()[position % len(self._alive())]
        self.ledger.leave(waiter.ticket)
        self.runs[waiter.ticket.run_id].queue.remove(waiter)

    @rule()
    def all_ask_in_order(self) -> None:
        for waiter in self._alive():
            self._ask_again(waiter)

    @precondition(lambda self: self._alive())
    @rule(position=positions)
    def die(self, position: int) -> None:
        """The other calls keep asking until just before the place is lost, and once more."""
        self._alive()[position % len(self._alive())].alive = False
        self.wait_and_keep_asking(TICKET_SECONDS - 0.25)
        self.clock.advance(0.25)
        self.all_ask_in_order()

    @precondition(lambda self: self._open())
    @rule(position=positions, cost=st.sampled_from([None, 0, 0, 5]))
    def resolve(self, position: int, cost: int | None) -> None:
        hold = self._open()[position % len(self._open())]
        self._resolve(hold, None if cost is None else min(cost, hold.amount_nanousd))

    # --- time

    @rule(passed=short_times)
    def wait_and_keep_asking(self, passed: float) -> None:
        """The last ones ask first: the order of the polls gives no advantage."""
        self.clock.advance(passed)
        for waiter in reversed(self._alive()):
            self._ask_again(waiter)

    @rule(passed=short_times | long_times)
    def wait(self, passed: float) -> None:
        self.clock.advance(passed)

    @rule()
    def sweep(self) -> None:
        expired: list[Hold] = []
        while (swept := self.ledger.sweep(100)).more:
            expired += swept.expired
        expired += swept.expired
        overdue = [hold for hold in self._open() if hold.expires_at <= self.clock.now]
        assert sorted(hold.id for hold in expired) == sorted(hold.id for hold in overdue)
        for hold in overdue:
            self._apply(hold, hold.amount_nanousd)

    @rule(run_id=run_ids)
    def serve_all(self, run_id: str) -> None:
        """Every waiting call is served once the calls before it have ended, however large it is."""
        run = self.runs[run_id]
        self.clock.advance(TICKET_SECONDS - 0.25)
        for waiter in self._alive():
            self._ask_again(waiter)
        self.clock.advance(0.25)  # those that have died are gone now
        while waiting := [waiter for waiter in run.queue if waiter.alive]:
            for hold in list(run.holds.values()):
                self._resolve(hold, 0)
            first = min(waiting, key=lambda waiter: waiter.place)
            self._ask_again(first)
            assert first not in run.queue
        run.queue.clear()
        assert self.ledger.waiting(run_id) == 0

    # --- what is always true

    @invariant()
    def every_usage_is_that_of_the_model_and_within_the_budget(self) -> None:
        for run_id, run in self.runs.items():
            usage = self.ledger.usage(run_id)
            if usage is None:
                assert not run.calls
                continue
            assert usage == RunUsage(
                run_id,
                BUDGET_NANOUSD,
                inference_nanousd=run.spent,
                held_nanousd=run.held(),
                calls=run.calls,
                in_flight=len(run.holds),
                finished=run.was_refused or run.spent >= BUDGET_NANOUSD,
                idle_seconds=usage.idle_seconds,
            )
            assert usage.spent_nanousd + usage.held_nanousd <= BUDGET_NANOUSD

    @invariant()
    def the_calls_that_wait_are_those_of_the_model(self) -> None:
        for run_id, run in self.runs.items():
            assert self.ledger.waiting(run_id) == len(self._seen(run))

    # --- the model

    def _ask_again(self, waiter: Waiter, expiry: float = 1_000.0) -> None:
        self._ask(waiter.ticket.run_id, waiter, waiter.requested, waiter.minimum, expiry)

    def _ask(self, run_id: str, waiter: Waiter | None, requested: int, minimum: int, expiry: float) -> None:
        """Ask for a hold, check the result, and apply it to the model."""
        run = self.runs[run_id]
        limit = LIMITS[run_id]
        others = [other for other in self._seen(run) if other is not waiter]
        waits = waiter is not None and waiter in self._seen(run)
        is_late = waiter is not None and waiter in run.queue and not waits
        is_next = not any(other.place < waiter.place for other in others) if waiter and waits else not others
        unspent = BUDGET_NANOUSD - run.spent
        is_full = limit is not None and len(run.holds) >= limit
        fits = minimum <= unspent - run.held()
        ticket = waiter.ticket if waiter else None
        given = Run(run_id, BUDGET_NANOUSD, max_in_flight=limit)
        try:
            hold = self.ledger.reserve(given, Kind.INFERENCE, requested, minimum, expiry, ticket)
        except RunBusyError as busy:
            assert minimum <= unspent
            assert is_full or not is_next or not fits
            assert waits or is_late or not is_full
            if waiter is not None:
                self._enter(run, waiter, busy.place, others, may_move=not waits)
            return
        except RefusedError as refusal:
            self._check_refusal(refusal, is_full=is_full and not waits, is_final=minimum > unspent)
            run.was_refused |= isinstance(refusal, BudgetExhaustedError)
        else:
            assert is_next
            assert fits
            assert not is_full
            amount = min(requested, unspent - run.held())
            expires_at = self.clock.now + expiry
            assert hold == Hold(hold.id, run_id, Kind.INFERENCE, amount, expires_at)
            run.holds[hold.id] = hold
        if waiter is not None and waiter in run.queue:
            run.queue.remove(waiter)

    @staticmethod
    def _check_refusal(refusal: RefusedError, *, is_full: bool, is_final: bool) -> None:
        """A call that is refused for good was no longer waiting, or can never fit."""
        assert type(refusal) in {TooManyInFlightError, BudgetExhaustedError}
        assert is_full if isinstance(refusal, TooManyInFlightError) else is_final

    def _enter(
        self, run: ModelRun, waiter: Waiter, place: int | None, others: list[Waiter], *, may_move: bool
    ) -> None:
        """Record that the call waits. It keeps its place, or is behind all others if it had none."""
        assert place is not None
        is_last = all(place > other.place for other in others)
        if waiter in run.queue:
            assert place == waiter.place or (may_move and is_last)
        else:
            assert is_last
            run.queue.append(waiter)
        waiter.place, waiter.seen_at = place, self.clock.now

    def _resolve(self, hold: Hold, cost: int | None) -> None:
        usage = self.ledger.release(hold) if cost is None else self.ledger.settle(hold, cost)
        assert usage is not None
        self._apply(hold, cost)

    def _apply(self, hold: Hold, cost: int | None) -> None:
        run = self.runs[hold.run_id]
        del run.holds[hold.id]
        run.spent += cost or 0
        run.calls += cost is not None

    def _seen(self, run: ModelRun) -> list[Waiter]:
        """Return the calls that have asked in time, dead or not."""
        return [waiter for waiter in run.queue if waiter.seen_at > self.clock.now - TICKET_SECONDS]

    def _alive(self) -> list[Waiter]:
        return [waiter for run in self.runs.values() for waiter in run.queue if waiter.alive]

    def _open(self) -> list[Hold]:
        return [hold for run in self.runs.values() for hold in run.holds.values()]


@pytest.mark.parametrize("open_ledger", STORES.values(), ids=STORES)
def test_any_sequence_of_waiting_calls_gives_the_results_of_the_model(open_ledger: OpenLedger) -> None:
    class Machine(LedgerAndQueues):
        def __init__(self) -> None:
            super().__init__(open_ledger)

    examples = MODEL_SETTINGS.max_examples // PARTS.get(open_ledger, 1)
    run_state_machine_as_test(Machine, settings=settings(MODEL_SETTINGS, max_examples=examples))
