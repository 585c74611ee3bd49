"""Random sequences of operations on a ledger and on a simple model, with a comparison after each step."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from ridges_proxy.errors import BudgetExhaustedError, RunBusyError, RunClosedError
from ridges_proxy.ledger import Hold, Kind, Run, RunQuery, RunUsage, Ticket
from ridges_proxy.ledger.models import TICKET_SECONDS
from ridges_proxy.ledger.redis.ledger import RedisLedger
from tests.contract.stores import RECEIPT_DAYS, STORES, TTL_SECONDS, open_cluster, open_redis, open_tls
from tests.support.clock import Clock

if TYPE_CHECKING:
    from tests.contract.stores import OpenLedger

BUDGETS = {"a": 1_000, "A": 10, "b": 0}
RECEIPT_SECONDS = RECEIPT_DAYS * 86_400.0
MODEL_SETTINGS = settings(
    max_examples=settings().max_examples // 4,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)

PARTS: dict[OpenLedger, int] = {open_redis: 2, open_tls: 12, open_cluster: 12}
"""Divisors of the number of examples where each step takes several requests to a server."""

run_ids = st.sampled_from(sorted(BUDGETS))
kinds = st.sampled_from(list(Kind))
amounts = st.integers(0, 12) | st.integers(0, 1_100)
# Quarters are exact as floats, so ledger and model agree at each boundary.
passing = st.sampled_from([0.0, 0.25, TTL_SECONDS / 2, TTL_SECONDS - 0.25, TTL_SECONDS])
expiries = st.sampled_from([0.0, 0.25, TTL_SECONDS / 2, 3 * TTL_SECONDS])
# None: the budget of the settings. A number: the budget of a run token.
own_budgets = st.none() | st.none() | st.sampled_from([0, 10, 1_000, 2_000])
tickets = st.none() | st.sampled_from(["1", "2", "3"])
memories = st.sampled_from([0.0, 0.0, TTL_SECONDS / 2, TTL_SECONDS, 3 * TTL_SECONDS])


@dataclass
class ModelRun:
    """The account of one run, in the simplest form."""

    budget: int
    spent: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    calls: int = 0
    active_at: float = 0.0
    remembered_until: float = 0.0
    closed: bool = False
    exhausted: bool = False
    own_budget: bool = False
    forgotten_at: float = 0.0
    holds: dict[str, Hold] = field(default_factory=dict)

    def total_spent(self) -> int:
        return sum(self.spent.values())

    def held(self) -> int:
        return sum(hold.amount_nanousd for hold in self.holds.values())

    def usage(self, run_id: str, now: float) -> RunUsage:
        return RunUsage(
            run_id,
            self.budget,
            inference_nanousd=self.spent[Kind.INFERENCE],
            embedding_nanousd=self.spent[Kind.EMBEDDING],
            held_nanousd=self.held(),
            calls=self.calls,
            in_flight=len(self.holds),
            idle_seconds=now - self.active_at,
            closed=self.closed,
            finished=self.is_finished(),
            own_budget=self.own_budget,
        )

    def is_finished(self) -> bool:
        return self.closed or self.exhausted or self.total_spent() >= self.budget

    def remember(self, until: float) -> None:
        self.remembered_until = max(self.remembered_until, until)


class LedgerAndModel(RuleBasedStateMachine):
    """Applies each operation to a ledger and to the model, and compares all results."""

    holds: Bundle[Hold] = Bundle("holds")

    def __init__(self, open_ledger: OpenLedger) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.clock = Clock()
        self.ledger = self._stack.enter_context(open_ledger(self.clock))
        self.runs: dict[str, ModelRun] = {}
        self.finished: dict[str, ModelRun] = {}
        """Finished runs that were forgotten, and whose receipts are kept."""
        self.waiting: dict[str, dict[str, float]] = {run_id: {} for run_id in BUDGETS}
        """The calls of each run that wait for a hold, in their order: ticket and time when it last asked."""
        self.resumes = False
        """Whether the next slice continues a sweep that has left some runs of a Redis behind already."""
        self.charged_nanousd = 0
        self.removed_nanousd = 0
        self.granted = 0
        self.resolved = 0

    def teardown(self) -> None:
        self._stack.close()

    @rule(
        target=holds,
        run_id=run_ids,
        kind=kinds,
        minimum=amounts,
        more=amounts,
        expiry=expiries,
        memory=memories,
        own_budget=own_budgets,
        ticket=tickets,
    )
    def reserve(  # noqa: PLR0913, PLR0917 - all parameters of a reservation
        self,
        run_id: str,
        kind: Kind,
        minimum: int,
        more: int,
        expiry: float,
        memory: float,
        own_budget: int | None,
        ticket: str | None,
    ) -> MultipleResults[Hold] | Hold:
        run = self._run(run_id)
        budget = BUDGETS[run_id] if own_budget is None else own_budget
        named = Run(run_id, budget, memory, own_budget=own_budget is not None)
        waits = None if ticket is None else Ticket(f"{run_id}-{ticket}", run_id)
        unspent = budget - run.total_spent()
        remaining = unspent - run.held()
        is_next = self._is_next(run_id, ticket)
        if run_id in self.runs:
            run.budget, run.own_budget = budget, named.own_budget
        try:
            hold = self.ledger.reserve(named, kind, minimum + more, minimum, expiry, waits)
        except RunClosedError:
            assert run.closed
        except BudgetExhaustedError:
            assert minimum > unspent
            assert not run.closed
            if run_id in self.runs:
                run.exhausted = True
        except RunBusyError:
            assert minimum <= unspent
            assert remaining < minimum or not is_next
            assert not run.closed
            if ticket is not None:
                self.waiting[run_id][ticket] = self.clock.now
                ticket = None  # it stays in its queue
        else:
            assert is_next
            assert minimum <= remaining
            assert not run.closed
            now = self.clock.now
            assert hold == Hold(hold.id, run_id, kind, min(minimum + more, remaining), now + expiry)
            self._make_known(run_id, run)
            run.budget, run.own_budget = budget, named.own_budget
            run.remember(now + memory)
            run.holds[hold.id] = hold
            run.active_at = now
            assert run.total_spent() + run.held() <= run.budget
            self.granted += 1
            self._leave(run_id, ticket)
            return hold
        self._leave(run_id, ticket)
        if run_id in self.runs:
            run.active_at = self.clock.now
        return multiple()

    @rule(run_id=run_ids, ticket=tickets)
    def leave(self, run_id: str, ticket: str | None) -> None:
        if ticket is not None:
            self.ledger.leave(Ticket(f"{run_id}-{ticket}", run_id))
            self._leave(run_id, ticket)

    @rule(hold=holds, more_or_less=st.integers(-5, 5) | st.integers(-1_000, 200))
    def settle(self, hold: Hold, more_or_less: int) -> None:
        cost = max(0, hold.amount_nanousd + more_or_less)
        is_open = self._resolve(hold, cost)
        usage = self.ledger.settle(hold, cost)
        assert usage == (self._expected(hold.run_id) if is_open else None)

    @rule(hold=holds)
    def release(self, hold: Hold) -> None:
        is_open = self._resolve(hold, None)
        usage = self.ledger.release(hold)
        assert usage == (self._expected(hold.run_id) if is_open else None)

    @rule(run_id=run_ids)
    def reset(self, run_id: str) -> None:
        expected = self._expected(run_id)
        before = self.ledger.reset(run_id)
        assert _comparable(before) == _comparable(expected)
        if run := self.runs.get(run_id) or self.finished.get(run_id):
            self._make_known(run_id, run)
            self.removed_nanousd += run.total_spent()
            run.spent = dict.fromkeys(Kind, 0)
            run.calls = 0
            run.exhausted = False
            run.active_at = self.clock.now

    @rule(run_id=run_ids, memory=memories)
    def close(self, run_id: str, memory: float) -> None:
        run = self._run(run_id)
        self._make_known(run_id, run)
        run.closed = True
        run.active_at = self.clock.now
        run.remember(self.clock.now + memory)
        assert self.ledger.close(Run(run_id, run.budget, memory)) == self._expected(run_id)

    @rule(passed=passing)
    def wait(self, passed: float) -> None:
        self._pass(passed)

    @rule(passed=passing, limit=st.integers(1, 4))
    def wait_and_sweep(self, passed: float, limit: int) -> None:
        """Both in one rule, because random steps rarely combine them, and runs are forgotten only then."""
        self._pass(passed)
        while self.sweep(limit):
            self.every_usage_is_that_of_the_model()

    @rule(limit=st.integers(1, 4))
    def wait_until_receipts_are_deleted(self, limit: int) -> None:
        self.wait_and_sweep(RECEIPT_SECONDS, limit)

    @rule(limit=st.integers(1, 4))
    def sweep_a_slice(self, limit: int) -> None:
        self.resumes = self.sweep(limit) and isinstance(self.ledger, RedisLedger)

    def sweep(self, limit: int) -> bool:
        swept = self.ledger.sweep(limit)
        expired = self._expired()
        assert len(swept.expired) == min(limit, len(expired)) or self.resumes
        for hold in swept.expired:
            assert hold in expired
            assert self._resolve(hold, hold.amount_nanousd)
        assert len(swept.receipts) <= limit
        for receipt in swept.receipts:
            assert receipt.run_id in self._idle()
            assert receipt == self._expected(receipt.run_id)
            self._forget(receipt.run_id)
        old = [
            run_id
            for run_id, run in self.finished.items()
            if run.forgotten_at <= self.clock.now - RECEIPT_SECONDS
        ]
        for run_id in old:
            if self.ledger.usage(run_id) is None:
                del self.finished[run_id]
            else:
                assert swept.more or self.resumes
        if not swept.more:
            assert self.resumes or not self._expired()
            assert self.resumes or not self._must_be_forgotten()
            self.resumes = False
        return swept.more

    @invariant()
    def every_usage_is_that_of_the_model(self) -> None:
        for run_id in BUDGETS:
            assert _comparable(self.ledger.usage(run_id)) == _comparable(self._expected(run_id))

    @invariant()
    def the_list_is_the_usage_of_each(self) -> None:
        page = self.ledger.list(RunQuery())
        assert page.total == len(page.runs) == len(self.runs)
        assert {usage.run_id: usage for usage in page.runs} == {
            run_id: self.ledger.usage(run_id) for run_id in self.runs
        }

    @invariant()
    def every_nanodollar_is_accounted_for_and_every_hold_resolves_once(self) -> None:
        usages = self.ledger.list(RunQuery()).runs
        assert sum(each.spent_nanousd for each in usages) + self.removed_nanousd == self.charged_nanousd
        assert sum(each.in_flight for each in usages) + self.resolved == self.granted

    def _expected(self, run_id: str) -> RunUsage | None:
        run = self.runs.get(run_id) or self.finished.get(run_id)
        return run.usage(run_id, self.clock.now) if run else None

    def _run(self, run_id: str) -> ModelRun:
        return self.runs.get(run_id) or self.finished.get(run_id) or ModelRun(BUDGETS[run_id])

    def _make_known(self, run_id: str, run: ModelRun) -> None:
        self.runs[run_id] = run
        if self.finished.pop(run_id, None):
            self.removed_nanousd -= run.total_spent()
            run.remembered_until = 0.0
            run.exhausted = True

    def _forget(self, run_id: str) -> None:
        run = self.runs.pop(run_id)
        self.removed_nanousd += run.total_spent()
        if run.is_finished():
            run.exhausted = True
            run.forgotten_at = self.clock.now
            self.finished[run_id] = run

    def _pass(self, seconds: float) -> None:
        """Advance the clock, and so far that either all waiting calls keep their places or all lose them."""
        seen_at = [at for waiting in self.waiting.values() for at in waiting.values()]
        if seen_at and min(seen_at) <= self.clock.now + seconds - TICKET_SECONDS:
            seconds = max(seconds, TICKET_SECONDS)
            for waiting in self.waiting.values():
                waiting.clear()
        self.clock.advance(seconds)

    def _is_next(self, run_id: str, ticket: str | None) -> bool:
        """Return whether no other call of the run waits before this one."""
        return next(iter(self.waiting[run_id]), ticket) == ticket

    def _leave(self, run_id: str, ticket: str | None) -> None:
        if ticket is not None:
            self.waiting[run_id].pop(ticket, None)

    def _resolve(self, hold: Hold, cost: int | None) -> bool:
        """Apply the resolution to the model. Return whether the hold was open."""
        run = self.runs.get(hold.run_id)
        if run is None or run.holds.pop(hold.id, None) is None:
            return False
        if cost is not None:
            run.spent[hold.kind] += cost
            run.calls += 1
            self.charged_nanousd += cost
        run.active_at = self.clock.now
        self.resolved += 1
        return True

    def _expired(self) -> list[Hold]:
        now = self.clock.now
        return [hold for run in self.runs.values() for hold in run.holds.values() if hold.expires_at <= now]

    def _idle(self) -> set[str]:
        """Return the runs that may be forgotten."""
        now = self.clock.now
        return {
            run_id
            for run_id, run in self.runs.items()
            if not run.holds and run.active_at <= now - TTL_SECONDS and run.remembered_until <= now
        }

    def _must_be_forgotten(self) -> set[str]:
        """Return the runs that must be forgotten by now. A remembered run may stay for one TTL longer."""
        now = self.clock.now
        return {
            run_id
            for run_id in self._idle()
            if self.runs[run_id].remembered_until <= max(self.runs[run_id].active_at, now - TTL_SECONDS)
        }


def _comparable(usage: RunUsage | None) -> RunUsage | None:
    """Return the usage without the idle time of a run in flight, which a sweep may have reset or not."""
    return replace(usage, idle_seconds=0.0) if usage and usage.in_flight else usage


@pytest.mark.parametrize("open_ledger", STORES.values(), ids=STORES)
def test_any_sequence_of_operations_gives_the_results_of_the_model(open_ledger: OpenLedger) -> None:
    class Machine(LedgerAndModel):
        def __init__(self) -> None:
            super().__init__(open_ledger)

    examples = MODEL_SETTINGS.max_examples // PARTS.get(open_ledger, 1)
    run_state_machine_as_test(Machine, settings=settings(MODEL_SETTINGS, max_examples=examples))
