"""Alerts: the step that charges a budget, or refuses a call, makes them, once for each crossing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.billing.levels import Level
from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger import Kind, LevelQuery, MemoryLedger, memory_levels
from ridges_proxy.ledger.alert_rules import AlertRules
from tests.contract.stores import EXPIRY_SECONDS, STORES, TTL_SECONDS, LedgerSteps
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.ledger import Alert
    from tests.contract.stores import OpenLedger

RULES = AlertRules((50, 80, 100))
DAY = Level("day", "all", "day 1970-01-01", 1_000, 86_400.0)
MINER = Level("miner", "group:miner:1", "lifetime", 100)
LEASE_SECONDS = 30.0


@pytest.fixture
def steps(open_ledger: OpenLedger) -> Iterator[LedgerSteps]:
    clock = Clock()
    with open_ledger(clock, RULES) as ledger:
        yield LedgerSteps(ledger, clock)


@pytest.fixture
def steps_with_runs(open_ledger: OpenLedger) -> Iterator[LedgerSteps]:
    clock = Clock()
    with open_ledger(clock, AlertRules((50, 80, 100), runs=True)) as ledger:
        yield LedgerSteps(ledger, clock)


def taken(steps: LedgerSteps) -> list[tuple[str, int]]:
    """Take all alerts. Return the budget and the share of each."""
    alerts = steps.ledger.claim_alerts(100, LEASE_SECONDS)
    for alert in alerts:
        steps.ledger.drop_alert(alert.id)
    return [(alert.budget, alert.percent) for alert in alerts]


def spend(steps: LedgerSteps, cost: int, *levels: Level, run: str = "run", budget: int = 10_000) -> None:
    hold = steps.reserve(0, run=run, budget=budget, levels=levels or (DAY,))
    assert steps.ledger.settle(hold, cost)


def refuse(steps: LedgerSteps, minimum: int, *, run: str = "run", budget: int = 10_000) -> None:
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(minimum, run=run, budget=budget, levels=(DAY,))


def test_each_crossing_makes_one_alert(steps: LedgerSteps) -> None:
    spend(steps, 499)
    assert taken(steps) == []
    spend(steps, 1)
    assert taken(steps) == [("day", 50)]
    spend(steps, 100)
    spend(steps, 0)
    assert taken(steps) == []
    spend(steps, 500)
    assert taken(steps) == [("day", 80), ("day", 100)]
    spend(steps, 5, Level("other", "all", "lifetime", 10))
    assert taken(steps) == [("other", 50)]


def test_an_alert_tells_what_was_reached(steps: LedgerSteps) -> None:
    steps.clock.advance(5)
    spend(steps, 60, MINER)
    (alert,) = steps.ledger.claim_alerts(10, LEASE_SECONDS)

    assert (alert.budget, alert.scope, alert.period) == ("miner", "group:miner:1", "lifetime")
    assert (alert.percent, alert.amount_nanousd, alert.spent_nanousd) == (50, 100, 60)
    assert (alert.at, alert.resets_at, alert.attempts) == (steps.clock.now, None, 0)
    spend(steps, 950)
    assert [alert.resets_at for alert in steps.ledger.claim_alerts(10, LEASE_SECONDS)] == [86_400.0] * 2


def test_embeddings_count_towards_the_share_of_an_alert(steps: LedgerSteps) -> None:
    spend(steps, 400)
    assert steps.ledger.settle(steps.reserve(100, kind=Kind.EMBEDDING, levels=(DAY,)), 100)
    (alert,) = steps.ledger.claim_alerts(10, LEASE_SECONDS)
    assert (alert.percent, alert.spent_nanousd) == (50, 500)


def test_a_call_without_a_cost_makes_no_alert(steps: LedgerSteps) -> None:
    """Also if the amount was lowered since the last charge. The next charge makes the alert."""
    spend(steps, 400)
    steps.ledger.set_amount("day", "", 800)
    assert steps.ledger.release(steps.reserve(9, levels=(DAY,)))
    assert steps.ledger.settle(steps.reserve(9, levels=(DAY,)), 0)
    assert taken(steps) == []
    spend(steps, 1)
    assert taken(steps) == [("day", 50)]


def test_a_look_at_a_level_changes_no_alerts(steps: LedgerSteps) -> None:
    """An operator mistypes an amount and corrects it, while the dashboard is open."""
    spend(steps, 850)
    assert taken(steps) == [("day", 50), ("day", 80)]
    steps.ledger.set_amount("day", "", 10_000)
    (usage,) = steps.ledger.levels([DAY])
    assert usage.amount_nanousd == 10_000
    assert [level.amount_nanousd for level in steps.ledger.list_levels(LevelQuery()).levels] == [10_000]
    steps.ledger.set_amount("day", "", 1_000)
    spend(steps, 1)
    assert taken(steps) == []


def test_a_refusal_by_the_run_changes_no_alerts_of_its_levels(
    steps: LedgerSteps, open_ledger: OpenLedger
) -> None:
    spend(steps, 850)
    first = taken(steps)
    steps.ledger.set_amount("day", "", 10_000)
    refuse(steps, 9, run="other", budget=5)
    steps.ledger.set_amount("day", "", 1_000)
    spend(steps, 1)
    # In a Cluster the levels have accepted the call before the run, on another node, refuses it.
    assert taken(steps) == (first if open_ledger is STORES["redis_cluster"] else [])


def test_a_look_at_a_level_does_not_change_the_amount_of_a_call_in_flight(steps: LedgerSteps) -> None:
    spend(steps, 400)
    hold = steps.reserve(100, levels=(DAY,))
    steps.ledger.set_amount("day", "", 500)
    steps.ledger.levels([DAY])
    steps.ledger.settle(hold, 100)
    assert taken(steps) == [("day", 50)]
    spend(steps, 0)
    refuse(steps, 1)
    assert taken(steps) == [("day", 80), ("day", 100)]


def test_a_refusal_takes_the_amount_in_force_as_an_accepted_call_does(steps: LedgerSteps) -> None:
    spend(steps, 950, budget=20_000)
    refuse(steps, 51, budget=20_000)
    assert taken(steps) == [("day", 50), ("day", 80), ("day", 100)]
    steps.ledger.set_amount("day", "", 10_000)
    refuse(steps, 9_500, budget=20_000)
    assert taken(steps) == [], "950 of 10,000 are spent"
    steps.ledger.set_amount("day", "", 1_000)
    for _ in range(2):
        refuse(steps, 51, budget=20_000)
    assert taken(steps) == [("day", 50), ("day", 80), ("day", 100)]


def test_an_expired_hold_and_a_cost_above_its_hold_make_alerts(steps: LedgerSteps) -> None:
    steps.reserve(700, levels=(DAY,))
    steps.clock.advance(EXPIRY_SECONDS)
    steps.sweep()
    assert taken(steps) == [("day", 50)]
    spend(steps, 5_000)
    assert taken(steps) == [("day", 80), ("day", 100)]


def test_a_refusal_means_used_up_if_the_budget_is_nearly_spent(steps: LedgerSteps) -> None:
    refuse(steps, 1_001)
    assert taken(steps) == [], "a call that is larger than the whole budget says nothing about what is spent"

    spend(steps, 850)
    assert taken(steps) == [("day", 50), ("day", 80)]
    for _ in range(2):
        refuse(steps, 151)
    assert taken(steps) == [("day", 100)]
    spend(steps, 150)
    assert taken(steps) == []


@pytest.mark.parametrize(("percents", "nearly_nanousd"), [((60, 90, 100), 900), ((100,), 800)])
def test_nearly_spent_is_the_highest_share_below_all_of_it(
    open_ledger: OpenLedger, percents: tuple[int, ...], nearly_nanousd: int
) -> None:
    with open_ledger(clock := Clock(), AlertRules(percents)) as ledger:
        steps = LedgerSteps(ledger, clock)
        for spent in (nearly_nanousd - 1, 1):
            assert ("day", 100) not in taken(steps)
            spend(steps, spent)
            refuse(steps, 500)
        assert ("day", 100) in taken(steps)


def test_the_alert_of_a_refusal_has_its_time(steps_with_runs: LedgerSteps) -> None:
    steps = steps_with_runs
    spend(steps, 900, budget=1_000)
    taken(steps)
    for name, run, budget, levels in (("run", "run", 1_000, ()), ("day", "other", 10_000, (DAY,))):
        steps.clock.advance(7)
        with pytest.raises(BudgetExhaustedError):
            steps.reserve(101, run=run, budget=budget, levels=levels)
        (alert,) = steps.ledger.claim_alerts(100, LEASE_SECONDS)
        assert (alert.budget, alert.percent, alert.at) == (name, 100, steps.clock.now)
        steps.ledger.drop_alert(alert.id)


def test_memory_drops_the_oldest_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_levels, "MAX_ALERTS", 3)
    steps = LedgerSteps(MemoryLedger(TTL_SECONDS, alert_rules=RULES), Clock())
    for name in ("a", "b", "c", "d"):
        spend(steps, 50, Level(name, "all", "lifetime", 100))
    assert taken(steps) == [("b", 50), ("c", 50), ("d", 50)]


def test_refusals_at_an_amount_of_zero_make_no_alerts(steps_with_runs: LedgerSteps) -> None:
    steps = steps_with_runs
    steps.ledger.set_amount("day", "", 0)
    for _ in range(2):
        refuse(steps, 1)
        with pytest.raises(BudgetExhaustedError):
            steps.reserve(1, run="b", budget=0)
    assert taken(steps) == [], "an agent that calls again and again would push out all other alerts"


def test_refusals_after_a_change_of_the_amount_make_one_alert(steps: LedgerSteps) -> None:
    spend(steps, 950)
    assert taken(steps) == [("day", 50), ("day", 80)]
    for amount in (1_010, 1_020):
        steps.ledger.set_amount("day", "", amount)
        for _ in range(3):
            refuse(steps, 200)
        assert taken(steps) == [("day", 100)]


def test_a_new_period_a_reset_and_a_higher_amount_make_alerts_again(steps: LedgerSteps) -> None:
    spend(steps, 800)
    assert taken(steps) == [("day", 50), ("day", 80)]
    spend(steps, 500, DAY._replace(period="day 1970-01-02"))
    assert taken(steps) == [("day", 50)]

    steps.ledger.reset_level(DAY)
    spend(steps, 500)
    assert taken(steps) == [("day", 50)]

    steps.ledger.set_amount("day", "", 2_000)
    spend(steps, 499)
    assert taken(steps) == []
    spend(steps, 1)
    assert taken(steps) == [("day", 50)]


def test_an_alert_is_hidden_from_others_while_it_is_claimed(steps: LedgerSteps) -> None:
    spend(steps, 800)

    def claimed(limit: int) -> list[Alert]:
        return list(steps.ledger.claim_alerts(limit, LEASE_SECONDS))

    (first,) = claimed(1)
    (second,) = claimed(9)
    assert (first.percent, second.percent) == (50, 80)
    assert claimed(9) == []

    steps.ledger.drop_alert(second.id)
    steps.clock.advance(LEASE_SECONDS)
    (again,) = claimed(9)
    assert (again.id, again.attempts) == (first.id, 1)
    steps.clock.advance(LEASE_SECONDS)
    assert claimed(9) == [], "the second lease is twice as long"
    steps.clock.advance(LEASE_SECONDS)
    assert [alert.attempts for alert in claimed(9)] == [2]
    steps.ledger.drop_alert(first.id)
    steps.ledger.drop_alert(first.id)
    steps.clock.advance(10 * LEASE_SECONDS)
    assert claimed(9) == []


def test_the_budget_of_a_run_has_alerts_if_asked_for(steps_with_runs: LedgerSteps) -> None:
    steps = steps_with_runs
    steps.ledger.settle(steps.reserve(0, run="a", budget=100), 50)
    (alert,) = steps.ledger.claim_alerts(10, LEASE_SECONDS)
    steps.ledger.drop_alert(alert.id)
    assert (alert.budget, alert.scope, alert.period, alert.percent) == ("run", "a", "lifetime", 50)

    steps.ledger.settle(steps.reserve(0, run="a", budget=100), 40)
    assert taken(steps) == [("run", 80)]
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(11, run="a", budget=100)
    assert taken(steps) == [("run", 100)]
    spend(steps, 900, run="b", budget=1_000)
    assert taken(steps) == [("run", 50), ("run", 80), ("day", 50), ("day", 80)]


def test_a_finished_run_that_continues_makes_no_alerts_again(steps_with_runs: LedgerSteps) -> None:
    steps = steps_with_runs
    assert steps.ledger.settle(steps.reserve(100, budget=100), 100)
    assert taken(steps) == [("run", 50), ("run", 80), ("run", 100)]
    steps.clock.advance(TTL_SECONDS)
    assert len(steps.sweep().receipts) == 1
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(1, budget=100)
    assert steps.ledger.settle(steps.reserve(0, budget=100), 1)
    assert taken(steps) == []


def test_no_rules_make_no_alerts(open_ledger: OpenLedger) -> None:
    clock = Clock()
    with open_ledger(clock) as ledger:
        steps = LedgerSteps(ledger, clock)
        spend(steps, 1_000)
        refuse(steps, 1)
        assert taken(steps) == []
