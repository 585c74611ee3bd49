"""Moves of the budgets above the runs between stores, and audits of their levels."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import pytest

from ridges_proxy.billing.levels import Level
from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger import Hold, Kind, LevelQuery, LevelUsage, SetAmount, SqliteLedger
from ridges_proxy.ledger.alert_rules import AlertRules
from ridges_proxy.ledger.migration import LevelExistsError, Record, move
from tests.contract.stores import STORES, LedgerSteps, Reports, new_ledger
from tests.contract.test_migration import MOVES, PERSISTENT, admin_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.ledger import Ledger
    from ridges_proxy.ledger.level_account import LevelAccount
    from ridges_proxy.ledger.redis.ledger import RedisLedger
    from tests.contract.stores import OpenLedger
    from tests.support.clock import Clock

    Pair = tuple[LedgerSteps, LedgerSteps]

DAY = Level("day", "all", "day 1970-01-01", 10_000, 86_400.0)
MINER = Level("miner", "group:a|b:1 kind:inference", "lifetime", 500)
OTHER = Level("miner", "group:a|b:2 kind:inference", "lifetime", 500)


@pytest.fixture(params=PERSISTENT)
def open_ledger(request: pytest.FixtureRequest) -> OpenLedger:
    return STORES[request.param]


@pytest.fixture(params=MOVES, ids=" to ".join)
def pair(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Pair]:
    with ExitStack() as stack:
        rules = AlertRules((50,))
        source, target = (stack.enter_context(STORES[name](clock, rules)) for name in request.param)
        yield LedgerSteps(source, clock), LedgerSteps(target, clock)


def fill(steps: LedgerSteps) -> tuple[Hold, Hold]:
    """Spend and hold in three levels, make alerts, and set amounts. Returns the open holds."""
    for run, cost, kind, level in (("a", 300, Kind.INFERENCE, MINER), ("b", 20, Kind.EMBEDDING, OTHER)):
        hold = steps.reserve(cost, run=run, kind=kind, levels=(DAY, level))
        assert steps.ledger.settle(hold, cost)
    steps.ledger.set_amount("miner", "", 600)
    steps.ledger.set_amount("miner", MINER.scope, 700)
    steps.ledger.set_amount("gone", "", 1)
    first = steps.reserve(50, run="a", levels=(DAY, MINER), model="m")
    second = steps.reserve(7, run="b", levels=(OTHER,), expiry=900.3)
    steps.reserve(5, run="b")
    return first, second


def levels_in(ledger: Ledger) -> list[LevelUsage]:
    return ledger.list_levels(LevelQuery()).levels


def test_a_move_takes_levels_holds_set_amounts_and_alerts(pair: Pair) -> None:
    source, target = pair
    first, second = fill(source)
    before, amounts = levels_in(source.ledger), source.ledger.set_amounts()
    (claimed,) = source.ledger.claim_alerts(10, 1.0)

    reports = Reports()
    moved = move(admin_of(source.ledger), admin_of(target.ledger), reports)

    assert reports.last == {"runs": (2, 2), "levels": (3, 3), "alerts": (1, 1)}
    assert (moved.runs, moved.levels, moved.set_amounts, moved.alerts) == (2, 3, 3, 1)
    assert (levels_in(target.ledger), target.ledger.set_amounts()) == (before, amounts)
    assert (levels_in(source.ledger), list(source.ledger.set_amounts())) == ([], [])
    for steps, number in ((source, 0), (target, 3)):
        audit = admin_of(steps.ledger).audit()
        assert (audit.levels, audit.problems, audit.missing_nanousd) == (number, [], 0)
    (alert,) = target.ledger.claim_alerts(10, 1.0)
    assert (alert.id, alert.percent, alert.attempts) == (claimed.id, 50, 1)
    source.clock.advance(60)
    assert list(source.ledger.claim_alerts(10, 1.0)) == []
    usage = target.ledger.settle(first, 40)
    assert usage
    assert [level.spent_nanousd for level in usage.levels] == [360, 340]
    assert target.ledger.release(second)
    held = [(level.level.budget, level.held_nanousd, level.in_flight) for level in levels_in(target.ledger)]
    assert held == [("day", 0, 0), ("miner", 0, 0), ("miner", 0, 0)]


def test_moved_levels_refuse_alert_and_end_as_before(pair: Pair) -> None:
    source, target = pair
    fill(source)
    move(admin_of(source.ledger), admin_of(target.ledger))
    for alert in target.ledger.claim_alerts(10, 1.0):
        target.ledger.drop_alert(alert.id)

    with pytest.raises(BudgetExhaustedError):
        target.reserve(401, run="c", levels=(MINER,))
    assert target.ledger.settle(target.reserve(1, run="c", levels=(MINER,)), 1)
    assert list(target.ledger.claim_alerts(10, 1.0)) == [], "its alert was made before the move"
    source.clock.advance(1_000)
    assert len(target.sweep().expired) == 3
    assert {level.held_nanousd for level in levels_in(target.ledger)} == {0}
    source.clock.advance(2 * 86_400)
    target.sweep()
    assert {level.level.budget for level in levels_in(target.ledger)} == {"miner"}


def test_an_interrupted_move_of_levels_can_be_continued(pair: Pair) -> None:
    source, target = pair
    fill(source)
    before = levels_in(source.ledger)
    old, new = admin_of(source.ledger), admin_of(target.ledger)
    records = old.records(10)
    for record in records:
        new.put(record)
        new.put(record)
    assert old.take(records[0])
    (alert,) = old.waiting_alerts(10)
    new.put_alert(alert)
    put = new.put_level

    def put_twice(account: LevelAccount) -> None:
        put(account)
        put(account)

    new.put_level = put_twice  # type: ignore[method-assign] # as after an interruption
    move(old, new)
    assert levels_in(target.ledger) == before
    assert (new.audit().problems, len(new.waiting_alerts(10))) == ([], 1)


def test_a_level_or_a_set_amount_that_is_in_both_stores_is_not_moved(pair: Pair) -> None:
    source, target = pair
    for steps, run, cost in ((source, "a", 9), (target, "b", 5)):
        assert steps.ledger.settle(steps.reserve(cost, run=run, levels=(DAY,)), cost)
    old, new = admin_of(source.ledger), admin_of(target.ledger)
    with pytest.raises(LevelExistsError, match="budget 'day' 'all' 'day 1970-01-01' is in both stores"):
        move(old, new)
    assert [levels_in(steps.ledger)[0].spent_nanousd for steps in pair] == [9, 5]
    assert target.usage("a").spent_nanousd == 9, "runs are moved before levels"

    target.ledger.reset_level(DAY)
    source.ledger.set_amount("day", "", 7)
    target.ledger.set_amount("day", "", 8)
    with pytest.raises(LevelExistsError, match="budget 'day' is in both stores"):
        move(old, new)
    target.ledger.set_amount("day", "", None)
    move(old, new)
    assert (levels_in(target.ledger)[0].spent_nanousd, levels_in(source.ledger)) == (9, [])
    assert list(target.ledger.set_amounts()) == [SetAmount("day", "", 7)]


def test_a_level_that_has_spent_nothing_changes_nothing_in_the_target(pair: Pair) -> None:
    source, target = pair
    assert source.ledger.settle(source.reserve(9, run="a", levels=(DAY,)), 9)
    assert target.ledger.settle(target.reserve(5, run="b", levels=(DAY,)), 5)
    source.ledger.reset_level(DAY)
    source.reserve(3, run="a", levels=(DAY, MINER))

    move(admin_of(source.ledger), admin_of(target.ledger))

    found = [(each.level.budget, each.spent_nanousd, each.held_nanousd) for each in levels_in(target.ledger)]
    assert found == [("day", 5, 3), ("miner", 0, 3)]
    assert admin_of(target.ledger).audit().problems == []


def test_a_level_without_an_open_hold_is_moved(pair: Pair) -> None:
    source, target = pair
    assert source.ledger.settle(source.reserve(9, levels=(DAY,)), 9)
    before = levels_in(source.ledger)

    move(admin_of(source.ledger), admin_of(target.ledger))

    assert (levels_in(target.ledger), levels_in(source.ledger)) == (before, [])


def test_a_level_that_changes_while_it_is_moved_stays_in_the_source(pair: Pair) -> None:
    source, target = pair
    assert source.ledger.settle(source.reserve(9, levels=(DAY,)), 9)
    (account,) = admin_of(source.ledger).level_accounts(10)
    source.reserve(1, levels=(DAY,))
    assert not admin_of(source.ledger).take_level(account)
    (level,) = levels_in(source.ledger)
    assert (level.spent_nanousd, level.held_nanousd) == (9, 1)
    assert levels_in(target.ledger) == []


def test_a_run_that_is_taken_back_leaves_nothing_held_in_its_levels(pair: Pair) -> None:
    source, target = pair
    fill(source)
    old, new = admin_of(source.ledger), admin_of(target.ledger)
    for record in old.records(10):
        new.put(record)
        assert new.take(record)
    assert {(level.held_nanousd, level.in_flight) for level in levels_in(target.ledger)} == {(0, 0)}
    assert new.audit().problems == []


def test_a_record_names_the_levels_of_each_hold(open_ledger: OpenLedger) -> None:
    with new_ledger(open_ledger) as steps:
        first, second = fill(steps)
        records: dict[str, Record] = {
            record.account.run_id: record for record in admin_of(steps.ledger).records(10)
        }
    assert records["a"].levels == {first.id: (DAY, MINER)}
    assert records["b"].levels == {second.id: (OTHER,)}


def corrupt(ledger: Ledger, what: str) -> None:
    """Change the levels behind the ledger's back."""
    if isinstance(ledger, SqliteLedger):
        sql = {
            "held": "UPDATE levels SET held_nanousd = held_nanousd + 1 WHERE budget = 'day'",
            "in_flight": "UPDATE levels SET in_flight = 0 WHERE budget = 'day'",
            "in_force": "UPDATE levels SET in_force_nanousd = -1 WHERE budget = 'day'",
            "negative": "UPDATE levels SET inference_nanousd = -1 WHERE budget = 'day'",
            "level": "DELETE FROM levels WHERE budget = 'day'",
        }
        ledger._connection.execute(sql[what])
        return
    name, field = "ridges:{levels}:accounts", "|".join(DAY[:3])
    client = cast("RedisLedger", ledger)._client
    values = client.do(lambda redis: redis.hget(name, field)).decode().split("|")
    if what == "level":
        client.do(lambda redis: redis.hdel(name, field))
        return
    position, value = {
        "held": (5, "51"),
        "in_flight": (7, "0"),
        "in_force": (2, "-1"),
        "negative": (3, "-1"),
    }[what]
    values[position] = value
    client.do(lambda redis: redis.hset(name, field, "|".join(values)))


def test_the_audit_finds_every_corruption_of_a_level(open_ledger: OpenLedger) -> None:
    def check(row: tuple[str, str]) -> None:
        what, problem = row
        with new_ledger(open_ledger) as steps:
            assert steps.ledger.settle(steps.reserve(3, levels=(DAY, MINER)), 3)
            other, hold = (steps.reserve(amount, levels=(DAY, MINER)) for amount in (20, 50))
            assert admin_of(steps.ledger).audit().problems == []
            assert steps.ledger.release(other)
            corrupt(steps.ledger, what)
            assert admin_of(steps.ledger).audit().problems == [problem.format(hold=hold.id)]

    mismatch = "budget 'day' 'all' 'day 1970-01-01': its amounts do not match its open holds"
    rows = [(what, mismatch) for what in ("held", "in_flight", "in_force", "negative")]
    check_rows([*rows, ("level", "hold {hold}: a level of it does not exist")], check)
