"""Runs that move between stores without losing a nano-dollar, and books that are added up anew."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import pytest

from ridges_proxy.ledger import Kind, Run, RunQuery, SqliteLedger
from ridges_proxy.ledger.migration import Audit, LedgerAdmin, Moved, Record, RunExistsError, move
from ridges_proxy.ledger.redis.admin import RedisAdmin
from ridges_proxy.ledger.sqlite.admin import SqliteAdmin
from tests.contract.stores import BUCKETS, CAP_NANOUSD, STORES, TTL_SECONDS, Till

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.ledger import Ledger
    from ridges_proxy.ledger.redis.ledger import RedisLedger
    from tests.support.clock import Clock

STORED = [name for name in STORES if name != "memory"]
WAYS = [("sqlite", "redis"), ("redis_cluster", "sqlite"), ("redis_tls", "redis"), ("sqlite", "sqlite")]


def store_of(ledger: Ledger) -> LedgerAdmin:
    """The same books, as the command line opens them."""
    if isinstance(ledger, SqliteLedger):
        return SqliteAdmin(ledger._path)
    return RedisAdmin(cast("RedisLedger", ledger)._client, BUCKETS)


@pytest.fixture(params=STORED)
def ledger(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Ledger]:
    with STORES[request.param](clock) as opened:
        yield opened


@pytest.fixture(params=WAYS, ids=" to ".join)
def both(request: pytest.FixtureRequest, clock: Clock) -> Iterator[tuple[Ledger, Ledger]]:
    with ExitStack() as stack:
        source, target = (stack.enter_context(STORES[name](clock)) for name in request.param)
        yield source, target


def fill(ledger: Ledger, clock: Clock) -> None:
    """All that books can have: spend of both kinds, holds, receipts, a reset, a closed and remembered run."""
    till = Till(ledger)
    for index in range(7):
        till.spend(index + 1, run=f"old-{index}")
    clock.advance(TTL_SECONDS)
    till.sweep()
    till.spend(300, run="ä|{}: run")
    till.spend(20, run="ä|{}: run", kind=Kind.EMBEDDING)
    till.reserve(100, run="ä|{}: run", expiry=1.1)
    till.reserve(7, run="ä|{}: run", kind=Kind.EMBEDDING, expiry=900.3)
    till.spend(500, run="reset")
    ledger.reset("reset")
    till.spend(40, run="reset")
    ledger.close(Run("closed", CAP_NANOUSD, 86_400.0))
    clock.advance(0.7)


def seen(ledger: Ledger) -> object:
    receipts = ledger.history(0.0, None, 100).receipts
    return (
        sorted(ledger.list(RunQuery()).runs, key=lambda run: run.run_id),
        sorted(receipts, key=lambda receipt: receipt.run.run_id),
    )


def test_all_that_the_books_have_moves_and_nothing_is_left(both: tuple[Ledger, Ledger], clock: Clock) -> None:
    source, target = both
    fill(source, clock)
    before = seen(source)
    assert move(store_of(source), store_of(target)) == Moved(3, 7, 360, 107)
    assert seen(target) == before
    assert seen(source) == ([], [])
    assert store_of(source).audit() == Audit(charged_nanousd=500, reset_nanousd=500)
    audit = store_of(target).audit()
    assert (audit.problems, audit.missing_nanousd, audit.charged_nanousd) == ([], 0, 360 + 28)


def test_holds_that_moved_resolve_expire_and_keep_their_run(
    both: tuple[Ledger, Ledger], clock: Clock
) -> None:
    source, target = both
    hold = Till(source).reserve(60, expiry=500.0)
    Till(source).reserve(9, expiry=100.0)
    move(store_of(source), store_of(target))
    clock.advance(100)
    (overdue,) = Till(target).sweep().overdue
    assert overdue.amount_nanousd == 9
    books = target.settle(hold, 50)
    assert books
    assert (books.spent_nanousd, books.held_nanousd, books.in_flight, books.calls) == (59, 0, 0, 2)
    clock.advance(TTL_SECONDS)
    assert len(Till(target).sweep().receipts) == 1


def test_a_move_that_broke_off_goes_on(both: tuple[Ledger, Ledger], clock: Clock) -> None:
    source, target = both
    fill(source, clock)
    before = seen(source)
    old, new = store_of(source), store_of(target)
    half_way = old.records(2)
    for record in half_way:
        new.put(record)
    assert old.take(half_way[0])
    (receipt, *_) = old.history(0.0, None, 1).receipts
    new.put_receipt(receipt)
    move(old, new)
    assert seen(target) == before
    assert new.audit().missing_nanousd == 0


def test_a_run_that_is_spent_on_while_it_moves_stays_where_it_is(both: tuple[Ledger, Ledger]) -> None:
    source, target = both
    Till(source).spend(100)
    new = store_of(target)
    put = new.put

    def put_and_spend(record: Record) -> None:
        put(record)
        Till(source).spend(50)  # a server that was not stopped

    new.put = put_and_spend  # type: ignore[method-assign] # to spend in between
    with pytest.raises(RunExistsError):
        move(store_of(source), new)
    books = source.usage("run")
    assert books
    assert (books.spent_nanousd, target.usage("run")) == (150, None)
    assert new.audit() == Audit()


def test_a_run_that_both_have_is_not_put_together(both: tuple[Ledger, Ledger]) -> None:
    source, target = both
    Till(source).spend(100)
    Till(target).spend(30)
    with pytest.raises(RunExistsError, match="'run' is in both stores"):
        move(store_of(source), store_of(target))
    assert [Till(each).ledger.usage("run").spent_nanousd for each in both] == [100, 30]  # type: ignore[union-attr] # it is there


def test_a_run_that_changed_is_not_given_up(ledger: Ledger) -> None:
    till = Till(ledger)
    till.spend(100)
    (record,) = store_of(ledger).records(10)
    till.spend(1)
    assert not store_of(ledger).take(record)
    assert not store_of(ledger).take(record)
    books = ledger.usage("run")
    assert books
    assert books.spent_nanousd == 101


# --- the audit


def test_books_that_are_right_add_up(ledger: Ledger, clock: Clock) -> None:
    fill(ledger, clock)
    audit = store_of(ledger).audit()
    assert audit == Audit(
        runs=3,
        holds=2,
        receipts=7,
        spent_nanousd=360,
        held_nanousd=107,
        receipts_nanousd=28,
        charged_nanousd=888,
        reset_nanousd=500,
    )
    assert audit.missing_nanousd == 0


def test_receipts_that_are_dropped_stay_counted(ledger: Ledger, clock: Clock) -> None:
    fill(ledger, clock)
    clock.advance(40 * 86_400)
    Till(ledger).sweep()
    Till(ledger).sweep()
    audit = store_of(ledger).audit()
    assert (audit.missing_nanousd, audit.dropped_nanousd, audit.problems) == (0, 28, [])


def spoil(ledger: Ledger, what: str) -> None:
    if isinstance(ledger, SqliteLedger):
        sql = {
            "spend": "UPDATE runs SET inference_nanousd = inference_nanousd - 1 WHERE run_id = 'run'",
            "held": "UPDATE runs SET held_nanousd = 0",
            "in_flight": "UPDATE runs SET in_flight = 5",
            "hold": "DELETE FROM holds",
            "run": "DELETE FROM runs",
            "receipt": "DELETE FROM receipts",
        }
        ledger._connection.execute(sql[what])
        return
    link = cast("RedisLedger", ledger)._client
    for bucket in range(BUCKETS):
        base = f"ridges:{{{bucket}}}"
        if not link.do(lambda client, base=base: client.exists(f"{base}:run:run")):  # type: ignore[misc] # mypy#12557
            continue
        commands = {
            "spend": ("HINCRBY", f"{base}:run:run", "inference", -1),
            "held": ("HSET", f"{base}:run:run", "held", 0),
            "in_flight": ("HSET", f"{base}:run:run", "in_flight", 5),
            "hold": ("DEL", f"{base}:holds"),
            "run": ("DEL", f"{base}:run:run"),
            "receipt": ("DEL", f"{base}:receipts"),
        }
        link.do(lambda client, command=commands[what]: client.execute_command(*command))  # type: ignore[misc] # mypy#12557


@pytest.mark.parametrize(
    ("what", "problems", "missing"),
    [
        ("spend", 0, 1),
        ("held", 1, 0),
        ("in_flight", 1, 0),
        ("hold", 1, 0),
        ("run", 1, 100),
        ("receipt", 0, 3),
    ],
)
def test_whatever_is_wrong_with_the_books_is_found(
    ledger: Ledger, clock: Clock, what: str, problems: int, missing: int
) -> None:
    till = Till(ledger)
    till.spend(3)
    clock.advance(TTL_SECONDS)
    till.sweep()
    till.spend(100)
    till.reserve(50)
    assert store_of(ledger).audit().problems == []
    spoil(ledger, what)
    audit = store_of(ledger).audit()
    assert len(audit.problems) >= problems
    assert bool(audit.problems) == bool(problems)
    assert audit.missing_nanousd == missing
