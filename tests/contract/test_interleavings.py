"""The books against a plain model of them, over interleavings that nobody would write by hand."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

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

from ridges_proxy.errors import BudgetExhaustedError, BudgetHeldError, RunClosedError
from ridges_proxy.ledger import Hold, Kind, Run, RunQuery, RunUsage
from tests.contract.stores import TTL_SECONDS, open_cluster, open_redis, open_tls
from tests.support.clock import Clock

if TYPE_CHECKING:
    from tests.contract.stores import OpenLedger

CAPS = {"a": 1_000, "A": 10, "b": 0}
MODEL_SETTINGS = settings(
    max_examples=40,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

EXAMPLES: dict[OpenLedger, int] = {open_redis: 20, open_tls: 5, open_cluster: 5}
"""Where each step is several questions to a server."""

run_ids = st.sampled_from(sorted(CAPS))
kinds = st.sampled_from(list(Kind))
amounts = st.integers(0, 12) | st.integers(0, 1_100)
# Quarters are exact as floats, so that the model meets each boundary to the last bit.
passing = st.sampled_from([0.0, 0.25, TTL_SECONDS / 2, TTL_SECONDS - 0.25, TTL_SECONDS])
expiries = st.sampled_from([0.0, 0.25, TTL_SECONDS / 2, 3 * TTL_SECONDS])
memories = st.sampled_from([0.0, 0.0, TTL_SECONDS / 2, TTL_SECONDS, 3 * TTL_SECONDS])


@dataclass
class ModelRun:
    """One run's books, as plainly as they can be kept."""

    cap: int
    spent: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    calls: int = 0
    active_at: float = 0.0
    remembered_until: float = 0.0
    closed: bool = False
    holds: dict[str, Hold] = field(default_factory=dict)

    def total_spent(self) -> int:
        return sum(self.spent.values())

    def held(self) -> int:
        return sum(hold.amount_nanousd for hold in self.holds.values())

    def usage(self, run_id: str, now: float) -> RunUsage:
        return RunUsage(
            run_id,
            self.cap,
            inference_nanousd=self.spent[Kind.INFERENCE],
            embedding_nanousd=self.spent[Kind.EMBEDDING],
            held_nanousd=self.held(),
            calls=self.calls,
            in_flight=len(self.holds),
            idle_seconds=now - self.active_at,
            closed=self.closed,
        )

    def remember(self, until: float) -> None:
        self.remembered_until = max(self.remembered_until, until)


class Books(RuleBasedStateMachine):
    """Does the same to a store and to the model, and compares all that can be seen."""

    holds: Bundle[Hold] = Bundle("holds")

    def __init__(self, open_ledger: OpenLedger) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.clock = Clock()
        self.ledger = self._stack.enter_context(open_ledger(self.clock))
        self.runs: dict[str, ModelRun] = {}
        self.charged_nanousd = 0
        self.written_off_nanousd = 0
        self.granted = 0
        self.resolved = 0

    def teardown(self) -> None:
        self._stack.close()

    @rule(
        target=holds,
        run_id=run_ids,
        kind=kinds,
        floor=amounts,
        more=amounts,
        expiry=expiries,
        memory=memories,
    )
    def reserve(  # noqa: PLR0913, PLR0917 - all that a reservation varies in
        self, run_id: str, kind: Kind, floor: int, more: int, expiry: float, memory: float
    ) -> MultipleResults[Hold] | Hold:
        run = self.runs.get(run_id, ModelRun(CAPS[run_id]))
        unspent = run.cap - run.total_spent()
        remaining = unspent - run.held()
        try:
            hold = self.ledger.reserve(Run(run_id, run.cap, memory), kind, floor + more, floor, expiry)
        except RunClosedError:
            assert run.closed
        except BudgetExhaustedError:
            assert floor > unspent
            assert not run.closed
        except BudgetHeldError:
            assert remaining < floor <= unspent
            assert not run.closed
        else:
            assert floor <= remaining
            assert not run.closed
            now = self.clock.now
            assert hold == Hold(hold.id, run_id, kind, min(floor + more, remaining), now + expiry)
            self.runs[run_id] = run
            run.remember(now + memory)
            run.holds[hold.id] = hold
            run.active_at = now
            assert run.total_spent() + run.held() <= run.cap
            self.granted += 1
            return hold
        run.active_at = self.clock.now
        return multiple()

    @rule(hold=holds, more_or_less=st.integers(-5, 5) | st.integers(-1_000, 200))
    def settle(self, hold: Hold, more_or_less: int) -> None:
        cost = max(0, hold.amount_nanousd + more_or_less)
        is_open = self._resolve(hold, cost)
        books = self.ledger.settle(hold, cost)
        assert books == (self._expected(hold.run_id) if is_open else None)

    @rule(hold=holds)
    def release(self, hold: Hold) -> None:
        is_open = self._resolve(hold, None)
        books = self.ledger.release(hold)
        assert books == (self._expected(hold.run_id) if is_open else None)

    @rule(run_id=run_ids)
    def reset(self, run_id: str) -> None:
        expected = self._expected(run_id)
        before = self.ledger.reset(run_id)
        assert _comparable(before) == _comparable(expected)
        if run := self.runs.get(run_id):
            self.written_off_nanousd += run.total_spent()
            run.spent = dict.fromkeys(Kind, 0)
            run.calls = 0
            run.active_at = self.clock.now

    @rule(run_id=run_ids, memory=memories)
    def close(self, run_id: str, memory: float) -> None:
        run = self.runs.setdefault(run_id, ModelRun(CAPS[run_id]))
        run.closed = True
        run.active_at = self.clock.now
        run.remember(self.clock.now + memory)
        assert self.ledger.close(Run(run_id, run.cap, memory)) == self._expected(run_id)

    @rule(passed=passing)
    def wait(self, passed: float) -> None:
        self.clock.advance(passed)

    @rule(passed=passing, limit=st.integers(1, 4))
    def wait_and_sweep(self, passed: float, limit: int) -> None:
        """As one rule too: the two seldom come together by chance, and runs are forgotten only then."""
        self.clock.advance(passed)
        while self.sweep(limit):
            self.the_books_are_those_of_the_model()

    @rule(limit=st.integers(1, 4))
    def sweep_a_slice(self, limit: int) -> None:
        self.sweep(limit)

    def sweep(self, limit: int) -> bool:
        swept = self.ledger.sweep(limit)
        late = self._late()
        assert len(swept.overdue) == min(limit, len(late))
        for hold in swept.overdue:
            assert hold in late
            assert self._resolve(hold, hold.amount_nanousd)
        assert len(swept.receipts) <= limit
        for receipt in swept.receipts:
            assert receipt.run_id in self._idle()
            assert receipt == self._expected(receipt.run_id)
            self.written_off_nanousd += self.runs.pop(receipt.run_id).total_spent()
        if not swept.more:
            assert not self._late()
            assert not self._overstayed()
        return swept.more

    @invariant()
    def the_books_are_those_of_the_model(self) -> None:
        for run_id in CAPS:
            assert _comparable(self.ledger.usage(run_id)) == _comparable(self._expected(run_id))

    @invariant()
    def the_list_is_the_usage_of_each(self) -> None:
        page = self.ledger.list(RunQuery())
        assert page.total == len(page.runs) == len(self.runs)
        assert {books.run_id: books for books in page.runs} == {
            run_id: self.ledger.usage(run_id) for run_id in self.runs
        }

    @invariant()
    def no_nanodollar_is_made_or_lost_and_every_hold_resolves_once(self) -> None:
        books = self.ledger.list(RunQuery()).runs
        assert sum(each.spent_nanousd for each in books) + self.written_off_nanousd == self.charged_nanousd
        assert sum(each.in_flight for each in books) + self.resolved == self.granted

    def _expected(self, run_id: str) -> RunUsage | None:
        run = self.runs.get(run_id)
        return run.usage(run_id, self.clock.now) if run else None

    def _resolve(self, hold: Hold, cost: int | None) -> bool:
        """Whether the hold was open."""
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

    def _late(self) -> list[Hold]:
        now = self.clock.now
        return [hold for run in self.runs.values() for hold in run.holds.values() if hold.expires_at <= now]

    def _idle(self) -> set[str]:
        """The runs that may be forgotten."""
        now = self.clock.now
        return {
            run_id
            for run_id, run in self.runs.items()
            if not run.holds and run.active_at <= now - TTL_SECONDS and run.remembered_until <= now
        }

    def _overstayed(self) -> set[str]:
        """Those that must have been: one that was remembered may stay for a TTL longer, and no more."""
        now = self.clock.now
        return {
            run_id
            for run_id in self._idle()
            if self.runs[run_id].remembered_until <= max(self.runs[run_id].active_at, now - TTL_SECONDS)
        }


def _comparable(books: RunUsage | None) -> RunUsage | None:
    """The books without the idle time of a call in flight: a sweep may count that as activity or not."""
    return replace(books, idle_seconds=0.0) if books and books.in_flight else books


def test_any_interleaving_keeps_the_books_of_the_model(open_ledger: OpenLedger) -> None:
    class StoreBooks(Books):
        def __init__(self) -> None:
            super().__init__(open_ledger)

    examples = EXAMPLES.get(open_ledger, MODEL_SETTINGS.max_examples)
    run_state_machine_as_test(StoreBooks, settings=settings(MODEL_SETTINGS, max_examples=examples))
