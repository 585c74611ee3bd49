"""Budgets above a run in Redis: steps that are interrupted, repeated or late, and holds without their run.

On a Cluster, a reservation has two steps on two nodes. A failure may come before or after each request.
"""

from __future__ import annotations

import itertools
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ridges_proxy.billing.levels import Level
from ridges_proxy.errors import BudgetExhaustedError, LedgerUnavailableError, RunBusyError
from ridges_proxy.ledger import Kind, Outbox, Run, Ticket
from ridges_proxy.ledger.alert_rules import NO_ALERTS, AlertRules
from ridges_proxy.ledger.redis import scripts
from ridges_proxy.ledger.redis.client import RETRY_SECONDS, AwayError
from ridges_proxy.ledger.redis.levels import LEVELS_KEY
from tests.contract.stores import EXPIRY_SECONDS, STORES, TTL_SECONDS, LedgerSteps
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger import Hold, LevelUsage, RunUsage
    from ridges_proxy.ledger.redis.client import RedisClient
    from ridges_proxy.ledger.redis.ledger import RedisLedger
    from tests.contract.stores import OpenLedger

DAY = Level("day", "all", "day 1970-01-01", 1_000, 86_400.0)
TOTAL = Level("total", "all", "lifetime", 1_500)
LEVELS = (DAY, TOTAL)
ORPHAN_SECONDS = 120.0
"""As in levels.lua."""
KINDS = ["redis", "redis_cluster"]


@pytest.fixture(params=KINDS)
def open_ledger(request: pytest.FixtureRequest) -> OpenLedger:
    return STORES[request.param]


def client_of(steps: LedgerSteps) -> RedisClient:
    return cast("RedisLedger", steps.ledger)._client


def sums_of(steps: LedgerSteps) -> list[tuple[int, int, int]]:
    """The spent and held amounts and the open holds of the run and of each level."""
    run = steps.ledger.usage("run")
    usages: list[RunUsage | LevelUsage] = [*([run] if run else []), *steps.ledger.levels(LEVELS)]
    return [(usage.spent_nanousd, usage.held_nanousd, usage.in_flight) for usage in usages]


class Faults:
    """Lets requests of the ledger fail, before they are sent or after they have run."""

    def __init__(self, client: RedisClient, choose: Callable[[int], str]) -> None:
        """`choose` names the fault of each request, by its number; "": none."""
        self._choose = choose
        self._numbers = itertools.count()
        self._run, self._send = client.run, client._send
        self.scripts: list[scripts.Script] = []
        self.faults = 0
        client.run = self.run  # type: ignore[method-assign] # faults
        client._send = self.send  # type: ignore[method-assign, assignment] # faults
        self._client = client

    def run(self, script: scripts.Script, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - passed on
        self.scripts.append(script)
        self._fault = self._choose(next(self._numbers))
        self.faults += bool(self._fault)
        if self._fault == "away":
            raise AwayError
        return self._run(script, *arguments, **options)

    def send(self, *arguments: Any) -> Any:  # noqa: ANN401 - passed on
        fault, self._fault = self._fault, ""
        if fault == "before":
            return [RedisTimeoutError()]
        replies = self._send(*arguments)
        if fault == "after":
            return [RedisTimeoutError()]
        if fault == "broken":
            return [RedisConnectionError()]
        return replies

    def stop(self) -> None:
        self._client.run = self._run  # type: ignore[method-assign] # without faults
        self._client._send = self._send  # type: ignore[method-assign] # without faults
        self._client._away = False


def failing_at(number: int, fault: str) -> Callable[[int], str]:
    return lambda request: fault if request == number else ""


FAULTS = ["before", "after", "away"]


def test_what_a_reservation_without_a_reply_holds_is_released(open_ledger: OpenLedger) -> None:
    """The levels have 1,000, the run 100 or 1,000: with 100, they are cut to what the run grants."""

    def check(row: tuple[int, str, int]) -> None:
        number, fault, budget = row
        with open_ledger(clock := Clock()) as ledger:
            steps = LedgerSteps(ledger, clock)
            steps.spend(10)
            faults = Faults(client_of(steps), failing_at(number, fault))
            with suppress(LedgerUnavailableError):
                steps.reserve(500, 1, budget=budget, levels=LEVELS)
            faults.stop()
            if not faults.faults:  # that request was not needed: all of it succeeded
                assert [held for _, held, _ in sums_of(steps)] == [min(500, budget - 10)] * 3
                return
            ledger.maintain()
            assert [(held, calls) for _, held, calls in sums_of(steps)] == [(0, 0)] * 3

    check_rows(list(itertools.product(range(3), FAULTS, [100, 1_000])), check)


def test_what_the_levels_hold_for_a_call_that_its_run_refuses_is_given_back(open_ledger: OpenLedger) -> None:
    """Also if the release fails. The caller sees the refusal of the run."""

    def check(row: tuple[int, str]) -> None:
        with open_ledger(clock := Clock()) as ledger:
            steps = LedgerSteps(ledger, clock)
            held = steps.reserve(600, budget=1_000)
            faults = Faults(client_of(steps), failing_at(*row))
            with pytest.raises((RunBusyError, LedgerUnavailableError)) as refusal:
                steps.reserve(500, budget=1_000, levels=LEVELS)
            faults.stop()
            if row[0] == 2:
                assert isinstance(refusal.value, RunBusyError)
            ledger.maintain()
            assert sums_of(steps) == [(0, 600, 1), (0, 0, 0), (0, 0, 0)]
            ledger.release(held)

    check_rows(list(itertools.product(range(3), FAULTS)), check)


def test_a_settlement_is_complete_when_it_is_repeated(open_ledger: OpenLedger) -> None:
    def check(row: tuple[int, str, int | None]) -> None:
        number, fault, cost = row
        with open_ledger(clock := Clock()) as ledger:
            steps = LedgerSteps(ledger, clock)
            outbox = Outbox(ledger)
            hold = steps.reserve(500, levels=LEVELS)
            faults = Faults(client_of(steps), failing_at(number, fault))
            outbox.resolve(hold, cost)
            faults.stop()
            outbox.deliver()
            assert sums_of(steps) == [(cost or 0, 0, 0)] * 3
            assert outbox.kept() == 0

    check_rows(list(itertools.product(range(2), [*FAULTS, "broken"], [300, None])), check)


def test_a_request_that_runs_twice_has_one_effect(open_ledger: OpenLedger) -> None:
    def check(what: str) -> None:
        rules = AlertRules((50,))
        with open_ledger(clock := Clock(), rules) as ledger:
            steps = LedgerSteps(ledger, clock)
            faults = Faults(client_of(steps), lambda _: "broken")
            hold = steps.reserve(500, 1, budget=700, levels=LEVELS)
            assert sums_of(steps) == [(0, 500, 1)] * 3
            more = steps.reserve(500, 1, budget=700, levels=LEVELS)
            assert [held for _, held, _ in sums_of(steps)] == [700] * 3
            usage = ledger.release(more)
            assert usage
            usage = ledger.settle(hold, 500) if what == "settle" else ledger.release(hold)
            assert usage
            spent = 500 if what == "settle" else 0
            if open_ledger is STORES["redis_cluster"]:
                assert [level.spent_nanousd for level in usage.levels] == [spent] * 2
            assert sums_of(steps) == [(spent, 0, 0)] * 3
            with pytest.raises(BudgetExhaustedError):
                steps.reserve(1_001, budget=5_000, levels=LEVELS)
            faults.stop()
            assert [alert.percent for alert in ledger.claim_alerts(9, 1.0)] == ([50] if spent else [])

    check_rows(["settle", "release"], check)


def test_a_process_that_dies_between_the_steps_leaves_a_hold_that_is_charged_in_full(
    open_ledger: OpenLedger,
) -> None:
    """Rows: the first request that is not sent, then what the run and the levels have spent at the end."""

    def check(row: tuple[str, int, int, int]) -> None:
        what, number, of_run, of_levels = row
        with open_ledger(clock := Clock()) as ledger:
            steps = LedgerSteps(ledger, clock)
            steps.spend(1)
            hold = None if what == "reserve" else steps.reserve(500, levels=LEVELS)
            if what == "sweep":
                clock.advance(EXPIRY_SECONDS)
            faults = Faults(client_of(steps), lambda request: "away" if request >= number else "")
            with suppress(LedgerUnavailableError):
                end(steps, what, hold)
            faults.stop()
            clock.advance(EXPIRY_SECONDS + ORPHAN_SECONDS)
            steps.sweep()
            steps.sweep()
            assert sums_of(steps) == [(1 + of_run, 0, 0), (of_levels, 0, 0), (of_levels, 0, 0)]

    two_steps = open_ledger is STORES["redis_cluster"]
    check_rows(
        [
            ("reserve", 0, 0, 0),
            ("reserve", 1, 0 if two_steps else 500, 500),
            ("settle", 0, 500, 500),
            ("settle", 1, 300, 500 if two_steps else 300),
            ("sweep", 0, 500, 500),
            ("sweep", 4, 500, 500),
        ],
        check,
    )


def end(steps: LedgerSteps, what: str, hold: Hold | None) -> None:
    if what == "sweep":
        steps.sweep()
    elif hold is None:
        steps.reserve(500, levels=LEVELS)
    else:
        steps.ledger.settle(hold, 300)


def test_a_hold_that_lost_its_run_is_charged_to_the_levels_later_than_others(open_ledger: OpenLedger) -> None:
    with open_ledger(clock := Clock()) as ledger:
        steps = LedgerSteps(ledger, clock)
        steps.reserve(400, run="lost", levels=LEVELS)
        base = cast("RedisLedger", ledger)._key_of("lost")
        client_of(steps).do(lambda client: client.delete(f"{base}:run:lost", f"{base}:holds"))
        clock.advance(EXPIRY_SECONDS + ORPHAN_SECONDS - 1)
        assert steps.sweep().expired == []
        assert sums_of(steps) == [(0, 400, 1)] * 2
        clock.advance(1)
        steps.sweep(limit=1)
        assert sums_of(steps) == [(400, 0, 0)] * 2


def test_a_reservation_that_arrives_after_its_release_is_refused_by_the_levels(
    open_ledger: OpenLedger,
) -> None:
    with open_ledger(clock := Clock()) as ledger:
        steps = LedgerSteps(ledger, clock)
        client, requests = client_of(steps), list[Any]()
        run = client.run

        def record(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - passed on
            requests.append((arguments, options))
            return run(*arguments, **options)

        client.run = record  # type: ignore[method-assign] # records the requests
        hold = steps.reserve(400, levels=LEVELS)
        client.do(lambda connection: connection.flushall())  # as if it had not arrived yet
        assert ledger.release(hold) is None
        for arguments, options in requests:
            if arguments[0] in {scripts.RESERVE, scripts.LEVEL_RESERVE}:
                assert run(*arguments, **options) == [b"done"]
        assert sums_of(steps) == [(0, 0, 0)] * 2


def test_lost_requests_and_replies_leave_no_hold_and_charge_every_level_what_its_runs_have_spent(
    open_ledger: OpenLedger,
) -> None:
    def check(seed: int) -> None:
        with open_ledger(clock := Clock()) as ledger:
            steps, chosen = LedgerSteps(ledger, clock), random.Random(seed)
            outbox, holds = Outbox(ledger), cast("list[Hold]", [])
            client = client_of(steps)
            client._clock = clock
            kinds = ["before", "after", "broken", "away"]
            faults = Faults(client, lambda _: chosen.choice(kinds) if chosen.random() < 0.1 else "")
            for _ in range(200):
                clock.advance(RETRY_SECONDS)
                step(steps, outbox, holds, chosen)
            faults.stop()
            assert faults.faults > 5
            for hold in holds:
                outbox.resolve(hold, 1)
            outbox.deliver()
            ledger.maintain()
            runs = [usage for name in NAMES if (usage := ledger.usage(name))]
            assert [(usage.held_nanousd, usage.in_flight) for usage in runs] == [(0, 0)] * len(runs)
            spent = sum(usage.spent_nanousd for usage in runs)
            for level in ledger.levels(LEVELS):
                assert (level.spent_nanousd, level.held_nanousd, level.in_flight) == (spent, 0, 0)
                assert spent <= level.amount_nanousd
                assert level.calls == sum(run.calls for run in runs)

    check_rows(range(6), check)


NAMES = ["a", "b", "c", "d", "e"]


def step(steps: LedgerSteps, outbox: Outbox, holds: list[Hold], chosen: random.Random) -> None:
    """Reserve for a run, or resolve a hold, or do the regular work."""
    what = chosen.random()
    with suppress(LedgerUnavailableError, RunBusyError, BudgetExhaustedError):
        if what < 0.5:
            run, ticket = chosen.choice(NAMES), None
            if chosen.random() < 0.3:
                ticket = Ticket(str(chosen.random()), run)
            asked = Run(run, 400, levels=LEVELS)
            holds.append(steps.ledger.reserve(asked, Kind.INFERENCE, 60, 1, TTL_SECONDS, ticket))
        elif what < 0.8 and holds:
            hold = holds.pop(chosen.randrange(len(holds)))
            cost = None if chosen.random() < 0.2 else chosen.randint(0, min(6, hold.amount_nanousd))
            outbox.resolve(hold, cost)
        elif what < 0.9:
            outbox.deliver()
        else:
            steps.ledger.maintain()


def test_large_amounts_are_exact(open_ledger: OpenLedger) -> None:
    """The limits of alerts, too: 80 % of this amount, times 100, is above 2^53."""
    amount = 9_007_199_254_740_989
    level = Level("large", "all", "lifetime", amount)
    with open_ledger(clock := Clock(), AlertRules((80,))) as ledger:
        steps = LedgerSteps(ledger, clock)
        below = amount * 80 // 100  # rounded down, but as doubles both sides of the comparison are equal
        hold = steps.reserve(below, budget=amount, levels=(level,), model="large")
        ledger.settle(hold, below)
        assert ledger.claim_alerts(9, 1.0) == []
        ledger.settle(steps.reserve(1, budget=amount, levels=(level,)), 1)
        (alert,) = ledger.claim_alerts(9, 1.0)
        assert (alert.spent_nanousd, alert.amount_nanousd) == (below + 1, amount)
        (usage,) = ledger.levels([level])
        assert (usage.spent_nanousd, usage.amount_nanousd) == (below + 1, amount)
        detail = steps.usage().detail
        assert detail
        assert detail.costs[0].cost_nanousd == below
        rest = steps.reserve(amount, 1, budget=amount, levels=(level,))
        assert rest.amount_nanousd == amount - below - 1


def test_the_keys_of_levels_go_with_their_periods(open_ledger: OpenLedger) -> None:
    with open_ledger(clock := Clock(), NO_ALERTS) as ledger:
        steps = LedgerSteps(ledger, clock)
        for number in range(7):
            level = Level("hour", "all", f"hour {number}", 1_000, clock.now)
            ledger.settle(steps.reserve(1, levels=(level,)), 1)
        clock.advance(86_400.0)
        steps.sweep(limit=2)
        names = [f"{LEVELS_KEY}:{name}" for name in ("accounts", "ends", "holds", "due", "alerts")]
        left: Any = client_of(steps).do(lambda client: client.exists(*names))
        assert left == 0
