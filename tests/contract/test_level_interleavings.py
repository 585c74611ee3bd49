"""Random sequences of calls in nested budgets, on a ledger and on a simple model."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
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

from ridges_proxy.billing.levels import Level
from ridges_proxy.errors import BudgetExhaustedError, RunBusyError
from ridges_proxy.ledger import Hold, Kind, LevelQuery, LevelUsage, Run
from ridges_proxy.ledger.level_account import ENDED_LEVEL_SECONDS
from tests.contract.stores import STORES, open_cluster, open_redis, open_tls
from tests.support.clock import Clock

if TYPE_CHECKING:
    from tests.contract.stores import OpenLedger

RUN_NANOUSD = 1_000
WINDOW_SECONDS = 400.0
"""The length of a period here. Periods end while calls are in flight."""

AMOUNTS = {"all": 1_500, "team": 700, "model": 300}
MODEL_SETTINGS = settings(
    max_examples=settings().max_examples // 5,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)
PARTS: dict[OpenLedger, int] = {open_redis: 2, open_tls: 20, open_cluster: 10}

run_ids = st.sampled_from(["a", "b", "c"])
chosen = st.sets(st.sampled_from(sorted(AMOUNTS)), max_size=3).map(sorted)
amounts = st.integers(0, 12) | st.integers(0, 1_100)
passing = st.sampled_from([0.25, WINDOW_SECONDS / 2, WINDOW_SECONDS])
kinds = st.sampled_from(list(Kind))
expiries = st.sampled_from([0.25, WINDOW_SECONDS / 2, 2 * WINDOW_SECONDS])

Key = tuple[str, str, str]


@dataclass
class ModelHold:
    """A hold and the keys of its levels."""

    run_id: str
    amount: int
    kind: Kind
    keys: list[Key]
    expires_at: float


@dataclass
class ModelLevel:
    """Amounts spent in a level, by kind."""

    level: Level
    spent: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    calls: int = 0


class NestsAndModel(RuleBasedStateMachine):
    """Applies each operation to a ledger and to the model, and compares every level after it."""

    holds: Bundle[Hold] = Bundle("holds")

    def __init__(self, open_ledger: OpenLedger) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.clock = Clock(10 * ENDED_LEVEL_SECONDS)
        self.ledger = self._stack.enter_context(open_ledger(self.clock))
        self.levels: dict[Key, ModelLevel] = {}
        self.open: dict[str, ModelHold] = {}
        self.run_spent: dict[str, int] = {}
        self.amounts = dict(AMOUNTS)
        self.set_amounts: dict[str, int] = {}

    def teardown(self) -> None:
        self._stack.close()

    @rule(
        target=holds, run_id=run_ids, names=chosen, minimum=amounts, more=amounts, expiry=expiries, kind=kinds
    )
    def reserve(  # noqa: PLR0913, PLR0917 - all parameters of a reservation
        self, run_id: str, names: list[str], minimum: int, more: int, expiry: float, kind: Kind
    ) -> MultipleResults[Hold] | Hold:
        levels = tuple(self._level(name) for name in names)
        keys = [level[:3] for level in levels]
        unspent = [RUN_NANOUSD - self.run_spent.get(run_id, 0)]
        remaining = [unspent[0] - sum(hold.amount for hold in self.open.values() if hold.run_id == run_id)]
        for level in levels:
            unspent.append(self._in_force(level) - self._spent(level[:3]))
            remaining.append(unspent[-1] - self._held(level[:3]))
        named = Run(run_id, RUN_NANOUSD, remember_seconds=1e9, levels=levels)
        try:
            hold = self.ledger.reserve(named, kind, minimum + more, minimum, expiry)
        except BudgetExhaustedError as refusal:
            refusing = 0 if refusal.is_of_run else 1 + names.index(refusal.budget.budget)
            assert minimum > unspent[refusing]
            assert refusing == 0 or minimum <= unspent[0], "the run's own budget comes first"
            return multiple()
        except RunBusyError:
            assert min(unspent) >= minimum > min(remaining)
            return multiple()
        assert min(remaining) >= minimum
        assert hold.amount_nanousd == max(0, min(minimum + more, *remaining))
        for level in levels:
            self.levels.setdefault(level[:3], ModelLevel(level)).level = level
        self.run_spent.setdefault(run_id, 0)
        self.open[hold.id] = ModelHold(run_id, hold.amount_nanousd, kind, keys, hold.expires_at)
        return hold

    @rule(hold=holds, cost=st.integers(0, 1_100))
    def settle(self, hold: Hold, cost: int) -> None:
        cost = min(cost, hold.amount_nanousd)
        expected = self._resolve(hold.id, cost)
        usage = self.ledger.settle(hold, cost)
        assert (usage is not None) is (expected is not None)
        if usage is not None and expected is not None:
            assert [each.level[:3] for each in usage.levels] == expected
            shown = [each._replace(level=self._usage(each.level[:3]).level) for each in usage.levels]
            assert shown == [self._usage(key) for key in expected], "but for the amount of an earlier moment"

    @rule(hold=holds)
    def release(self, hold: Hold) -> None:
        expected = self._resolve(hold.id, None)
        usage = self.ledger.release(hold)
        assert (usage is not None) is (expected is not None)

    @rule(passed=passing)
    def wait_and_sweep(self, passed: float) -> None:
        self.clock.advance(passed)
        more = True
        while more:
            swept = self.ledger.sweep(10)
            for hold in swept.expired:
                assert self.open[hold.id].expires_at <= self.clock.now
                assert self._resolve(hold.id, hold.amount_nanousd) is not None
            more = swept.more
        assert not [hold for hold in self.open.values() if hold.expires_at <= self.clock.now]

    @rule(name=st.sampled_from(sorted(AMOUNTS)), amount=amounts)
    def change_amount_in_the_settings(self, name: str, amount: int) -> None:
        self.amounts[name] = amount

    @rule(name=st.sampled_from(sorted(AMOUNTS)), amount=st.none() | amounts)
    def set_amount(self, name: str, amount: int | None) -> None:
        self.ledger.set_amount(name, "", amount)
        self.set_amounts.pop(name, None)
        if amount is not None:
            self.set_amounts[name] = amount

    @rule(name=st.sampled_from(sorted(AMOUNTS)))
    def reset_level(self, name: str) -> None:
        level = self._level(name)
        known = self.levels.get(level[:3])
        before = self.ledger.reset_level(level)
        assert (before is not None) is (known is not None)
        if known is not None:
            known.spent = dict.fromkeys(Kind, 0)
            known.calls = 0

    @invariant()
    def every_level_is_that_of_the_model(self) -> None:
        asked = [self._asked(model.level) for model in self.levels.values()]
        found = self.ledger.levels(asked)
        assert list(found) == [self._usage(level[:3]) for level in asked]
        assert self.ledger.list_levels(LevelQuery()).total == len(self.levels)

    @invariant()
    def every_run_holds_what_the_model_holds(self) -> None:
        for run_id, spent in self.run_spent.items():
            usage = self.ledger.usage(run_id)
            assert usage
            held = sum(hold.amount for hold in self.open.values() if hold.run_id == run_id)
            assert (usage.spent_nanousd, usage.held_nanousd) == (spent, held)

    def _level(self, name: str) -> Level:
        start = self.clock.now // WINDOW_SECONDS * WINDOW_SECONDS
        if name == "all":
            return Level(name, "all", "lifetime", self.amounts[name])
        return Level(name, "all", f"hour {start}", self.amounts[name], start + WINDOW_SECONDS)

    def _asked(self, level: Level) -> Level:
        return level._replace(amount_nanousd=self.amounts[level.budget])

    def _in_force(self, level: Level) -> int:
        return self.set_amounts.get(level.budget, self.amounts[level.budget])

    def _usage(self, key: Key) -> LevelUsage:
        model = self.levels[key]
        open_holds = [hold for hold in self.open.values() if key in hold.keys]
        return LevelUsage(
            model.level._replace(amount_nanousd=self._in_force(model.level)),
            model.spent[Kind.INFERENCE],
            model.spent[Kind.EMBEDDING],
            sum(hold.amount for hold in open_holds),
            model.calls,
            len(open_holds),
        )

    def _spent(self, key: Key) -> int:
        return sum(self.levels[key].spent.values()) if key in self.levels else 0

    def _held(self, key: Key) -> int:
        return sum(hold.amount for hold in self.open.values() if key in hold.keys)

    def _resolve(self, hold_id: str, cost: int | None) -> list[Key] | None:
        """Apply the resolution to the model. Return the keys of the levels; None if it was not open."""
        hold = self.open.pop(hold_id, None)
        if hold is None:
            return None
        if cost is not None:
            self.run_spent[hold.run_id] += cost
            for key in hold.keys:
                self.levels[key].spent[hold.kind] += cost
                self.levels[key].calls += 1
        return hold.keys


@pytest.mark.parametrize("open_ledger", STORES.values(), ids=STORES)
def test_no_sequence_of_calls_takes_a_level_above_its_amount(open_ledger: OpenLedger) -> None:
    class Machine(NestsAndModel):
        def __init__(self) -> None:
            super().__init__(open_ledger)

    examples = max(1, MODEL_SETTINGS.max_examples // PARTS.get(open_ledger, 1))
    run_state_machine_as_test(Machine, settings=settings(MODEL_SETTINGS, max_examples=examples))
