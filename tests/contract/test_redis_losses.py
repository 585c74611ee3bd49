"""A Redis that has lost single keys, as one that evicts them does: everything else goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ridges_proxy.config.ledger_url import redis_url
from ridges_proxy.ledger import RunQuery
from ridges_proxy.ledger.migration import move
from ridges_proxy.ledger.redis.admin import RedisAdmin
from ridges_proxy.ledger.redis.client import RedisClient, client_of
from ridges_proxy.ledger.redis.ledger import RedisLedger, key_of
from ridges_proxy.ledger.sqlite.admin import SqliteAdmin
from tests.contract.stores import (
    BUDGET_NANOUSD,
    EXPIRY_SECONDS,
    RECEIPT_DAYS,
    TTL_SECONDS,
    LedgerSteps,
)
from tests.support.clock import Clock
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ["a", "b", "c", "d", "e"]
BASE = key_of(0)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.fixture
def client(server: RedisServer) -> Iterator[RedisClient]:
    server.ask("FLUSHALL")
    client = RedisClient(lambda: client_of(redis_url(server.url), 20.0), 20.0)
    yield client
    client.close()


@pytest.fixture
def steps(client: RedisClient) -> LedgerSteps:
    """A ledger with one bucket, so that a lost run is in the way of all others."""
    clock = Clock()
    return LedgerSteps(RedisLedger(client, TTL_SECONDS, RECEIPT_DAYS, clock, buckets=1), clock)


def lose(client: RedisClient, *keys: str) -> None:
    removed: Any = client.do(lambda connection: connection.delete(*(f"{BASE}:{key}" for key in keys)))
    assert removed == len(keys)


def test_a_lost_run_stops_no_sweep_and_is_reported(steps: LedgerSteps, client: RedisClient) -> None:
    for name in NAMES:
        steps.spend(10, name)
        steps.clock.advance(1)
    lose(client, "run:a", "run:c")
    steps.clock.advance(TTL_SECONDS)
    swept = steps.ledger.sweep(100)
    assert [usage.run_id for usage in swept.receipts] == ["b", "d", "e"]
    assert (swept.lost, swept.more) == (["a", "c"], False)
    assert steps.ledger.count() == 0
    again = steps.ledger.sweep(100)
    assert (again.lost, again.receipts) == ([], [])


def test_a_slice_with_only_lost_runs_is_followed_by_the_next(steps: LedgerSteps, client: RedisClient) -> None:
    for name in NAMES:
        steps.spend(10, name)
        steps.clock.advance(1)
    lose(client, *(f"run:{name}" for name in NAMES[:4]))
    steps.clock.advance(TTL_SECONDS)
    first = steps.ledger.sweep(2)
    assert (first.lost, first.more) == (["a", "b"], True)
    assert [usage.run_id for usage in steps.sweep(2).receipts] == ["e"]


def test_an_expired_hold_of_a_lost_run_or_a_lost_hold_stops_no_sweep(
    steps: LedgerSteps, client: RedisClient
) -> None:
    for name in NAMES[:2]:
        steps.reserve(10, run=name)
    lose(client, "run:a")
    steps.clock.advance(EXPIRY_SECONDS)
    assert sorted(hold.run_id for hold in steps.sweep().expired) == ["a", "b"]
    assert steps.usage("b").spent_nanousd == 10
    steps.reserve(10, run="c")
    lose(client, "holds")
    steps.clock.advance(EXPIRY_SECONDS)
    assert steps.sweep().expired == []
    due: Any = client.do(lambda connection: connection.zcard(f"{BASE}:due"))
    assert due == 0


def test_a_lost_run_is_unknown_and_may_start_again(steps: LedgerSteps, client: RedisClient) -> None:
    old = steps.reserve(400, run="a")
    steps.spend(10, "b")
    lose(client, "run:a")
    assert steps.ledger.usage("a") is None
    assert steps.ledger.reset("a") is None
    assert [run.run_id for run in steps.ledger.list(RunQuery()).runs] == ["b"]
    assert steps.ledger.settle(old, 7) is None
    steps.spend(20, "a")
    assert steps.usage("a").spent_nanousd == 20


def test_a_hold_from_before_the_loss_adds_nothing_to_the_budget(
    steps: LedgerSteps, client: RedisClient
) -> None:
    old = steps.reserve(400, run="a")
    lose(client, "run:a")
    steps.spend(1, "a")
    assert steps.ledger.release(old)
    usage = steps.usage("a")
    assert (usage.held_nanousd, usage.in_flight) == (0, 0)
    assert usage.remaining_nanousd == BUDGET_NANOUSD - 1


def test_a_migration_moves_the_runs_behind_a_lost_one(
    steps: LedgerSteps, client: RedisClient, tmp_path: Path
) -> None:
    for name in NAMES:
        steps.spend(10, name)
        steps.clock.advance(1)
    lose(client, "run:a", "run:b", "run:d")
    source, target = RedisAdmin(client, buckets=1), SqliteAdmin(tmp_path / "ledger.db")
    assert [record.account.run_id for record in source.records(2)] == ["c", "e"]
    assert [record.account.run_id for record in source.records(1)] == ["c"]
    assert move(source, target).runs == 2
    assert {record.account.run_id for record in target.records(10)} == {"c", "e"}
    target.disconnect()


def test_holds_of_version_0_2_0_are_settled_and_expire(steps: LedgerSteps, client: RedisClient) -> None:
    """Their values have one line: neither a model, nor whether budgets above the run hold the amount."""
    settled, expired = steps.reserve(300, run="a|b"), steps.reserve(200, run="a|b")
    at = expired.expires_at
    old = {hold.id: f"{at:.17g}|inference|{hold.amount_nanousd}|a|b" for hold in (settled, expired)}
    client.do(lambda connection: connection.hset(f"{BASE}:holds", mapping=old))
    usage = steps.ledger.settle(settled, 100)
    assert usage
    assert (usage.run_id, usage.spent_nanousd, usage.held_nanousd) == ("a|b", 100, 200)
    steps.clock.advance(EXPIRY_SECONDS)
    (hold,) = steps.sweep().expired
    assert (hold.run_id, hold.model, hold.nested) == ("a|b", "", False)
    assert steps.usage("a|b").spent_nanousd == 300
