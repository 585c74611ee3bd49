"""Moves between stores that lose no nano-dollar, and audits of a store."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import pytest

from ridges_proxy.errors import BudgetExhaustedError, RunClosedError
from ridges_proxy.ledger import Kind, Run, RunQuery, SqliteLedger
from ridges_proxy.ledger.migration import Audit, Counts, LedgerAdmin, Moved, Record, RunExistsError, move
from ridges_proxy.ledger.redis.admin import RedisAdmin
from ridges_proxy.ledger.sqlite.admin import SqliteAdmin
from tests.contract.stores import (
    BUCKETS,
    BUDGET_NANOUSD,
    STORES,
    TTL_SECONDS,
    LedgerSteps,
    Reports,
    new_ledger,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ridges_proxy.ledger import Ledger
    from ridges_proxy.ledger.redis.ledger import RedisLedger
    from tests.contract.stores import OpenLedger
    from tests.support.clock import Clock

PERSISTENT = [name for name in STORES if name != "memory"]
MOVES = [("sqlite", "redis"), ("redis_cluster", "sqlite"), ("redis_tls", "redis"), ("sqlite", "sqlite")]


def admin_of(ledger: Ledger) -> LedgerAdmin:
    """Open the store of the ledger as the command line does."""
    if isinstance(ledger, SqliteLedger):
        return SqliteAdmin(ledger._path)
    return RedisAdmin(cast("RedisLedger", ledger)._client, BUCKETS)


@pytest.fixture(params=PERSISTENT)
def open_ledger(request: pytest.FixtureRequest) -> OpenLedger:
    return STORES[request.param]


@pytest.fixture(params=MOVES, ids=" to ".join)
def source_and_target(
    request: pytest.FixtureRequest, clock: Clock
) -> Iterator[tuple[LedgerSteps, LedgerSteps]]:
    with ExitStack() as stack:
        source, target = (stack.enter_context(STORES[name](clock)) for name in request.param)
        yield LedgerSteps(source, clock), LedgerSteps(target, clock)


def fill(steps: LedgerSteps) -> None:
    """Fill the ledger with everything that a store can have.

    These are costs of both kinds, holds, receipts, a reset run, and a run that is closed and remembered.
    """
    for index in range(7):
        kind = Kind.EMBEDDING if index % 2 else Kind.INFERENCE
        steps.spend(index + 1, run=f"old-{index}", kind=kind)
    steps.clock.advance(TTL_SECONDS)
    steps.sweep()
    steps.spend(300, run="ä|{}: run")
    steps.spend(20, run="ä|{}: run", kind=Kind.EMBEDDING)
    steps.reserve(100, run="ä|{}: run", expiry=1.1)
    steps.reserve(7, run="ä|{}: run", kind=Kind.EMBEDDING, expiry=900.3)
    steps.spend(400, run="reset")
    steps.spend(100, run="reset", kind=Kind.EMBEDDING)
    steps.ledger.reset("reset")
    steps.spend(40, run="reset")
    steps.reserve(3, run="reset", expiry=900.3)
    steps.ledger.close(Run("closed", BUDGET_NANOUSD, 86_400.0))
    steps.clock.advance(0.7)


def contents_of(ledger: Ledger) -> object:
    """The runs and receipts of the ledger, by run id."""
    receipts = ledger.history(0.0, None, 100).receipts
    return (
        sorted(ledger.list(RunQuery()).runs, key=lambda run: run.run_id),
        sorted(receipts, key=lambda receipt: receipt.run.run_id),
    )


# --- moves


def test_a_move_takes_everything_and_leaves_nothing(
    source_and_target: tuple[LedgerSteps, LedgerSteps],
) -> None:
    source, target = source_and_target
    fill(source)
    before = contents_of(source.ledger)
    assert move(admin_of(source.ledger), admin_of(target.ledger)) == Moved(3, 7, 360, 110)
    assert contents_of(target.ledger) == before
    assert contents_of(source.ledger) == ([], [])
    assert admin_of(source.ledger).audit() == Audit(charged_nanousd=500, reset_nanousd=500)
    audit = admin_of(target.ledger).audit()
    assert (audit.problems, audit.missing_nanousd, audit.charged_nanousd) == ([], 0, 360 + 28)


def test_a_move_reports_true_totals_and_ends_with_all(
    source_and_target: tuple[LedgerSteps, LedgerSteps],
) -> None:
    source, target = source_and_target
    fill(source)
    reports = Reports()
    assert admin_of(source.ledger).counts() == Counts(3, 0, 7, 0, 0, 0)
    move(admin_of(source.ledger), admin_of(target.ledger), reports)
    assert reports.last == {"runs": (3, 3), "receipts": (7, 7)}
    assert admin_of(target.ledger).counts() == Counts(3, 0, 7, 0, 0, 0)


def test_an_audit_reports_each_of_its_checks(open_ledger: OpenLedger, clock: Clock) -> None:
    reports: list[tuple[str, int, int | None]] = []
    with open_ledger(clock) as ledger:
        admin_of(ledger).audit(lambda *report: reports.append(report))
    steps = len(reports)
    assert reports == [("checks", done, steps) for done in range(1, steps + 1)]
    assert steps > 1


def test_moved_holds_resolve_and_expire_and_keep_their_run(
    source_and_target: tuple[LedgerSteps, LedgerSteps],
) -> None:
    source, target = source_and_target
    hold = source.reserve(60, expiry=500.0)
    source.reserve(9, expiry=100.0)
    move(admin_of(source.ledger), admin_of(target.ledger))
    target.clock.advance(100)
    (expired,) = target.sweep().expired
    assert expired.amount_nanousd == 9
    usage = target.ledger.settle(hold, 50)
    assert usage
    assert (usage.spent_nanousd, usage.held_nanousd, usage.in_flight, usage.calls) == (59, 0, 0, 2)
    target.clock.advance(TTL_SECONDS)
    assert len(target.sweep().receipts) == 1


def test_a_move_keeps_finished_runs(source_and_target: tuple[LedgerSteps, LedgerSteps]) -> None:
    """Both those with a receipt and one that is only about to be forgotten."""
    source, target = source_and_target
    with_token = Run("of a token", 500, own_budget=True, has_token=True)
    for run in ("used up", "closed"):
        source.spend(BUDGET_NANOUSD, run=run)
    source.ledger.close(Run("closed", BUDGET_NANOUSD))
    source.ledger.settle(source.ledger.reserve(with_token, Kind.INFERENCE, 500, 500, 1.0), 500)
    source.spend(3, run="other")
    source.clock.advance(TTL_SECONDS)
    source.sweep()
    source.spend(900, run="refused")
    with pytest.raises(BudgetExhaustedError):
        source.reserve(101, run="refused")
    before = contents_of(source.ledger)
    move(admin_of(source.ledger), admin_of(target.ledger))
    assert contents_of(target.ledger) == before
    source.clock.advance(TTL_SECONDS)
    target.sweep()
    for run in ("used up", "refused", "of a token"):
        with pytest.raises(BudgetExhaustedError):
            target.reserve(501, run=run)
    with pytest.raises(RunClosedError):
        target.reserve(0, run="closed")
    usage = target.usage("of a token")
    assert usage.own_budget
    assert usage.detail
    assert usage.detail.had_token
    for run in ("used up", "other"):
        assert source.reserve(BUDGET_NANOUSD, run=run), "the source does not know it any more"
    assert target.reserve(BUDGET_NANOUSD, run="other")


def test_an_interrupted_move_can_be_continued(source_and_target: tuple[LedgerSteps, LedgerSteps]) -> None:
    source, target = source_and_target
    fill(source)
    before = contents_of(source.ledger)
    old, new = admin_of(source.ledger), admin_of(target.ledger)
    records = old.records(2)
    for record in records:
        new.put(record)
    assert old.take(records[0])
    (receipt, *_) = old.history(0.0, None, 1).receipts
    new.put_receipt(receipt)
    move(old, new)
    assert contents_of(target.ledger) == before
    assert new.audit().missing_nanousd == 0


def test_a_run_that_changes_while_it_is_moved_stays_in_the_source(
    source_and_target: tuple[LedgerSteps, LedgerSteps],
) -> None:
    source, target = source_and_target
    source.spend(100)
    new = admin_of(target.ledger)
    put = new.put

    def put_and_spend(record: Record) -> None:
        put(record)
        source.spend(50)  # as by a server that still runs

    new.put = put_and_spend  # type: ignore[method-assign] # spends between put and take
    with pytest.raises(RunExistsError, match=r"^'run' "):
        move(admin_of(source.ledger), new)
    assert (source.usage().spent_nanousd, target.ledger.usage("run")) == (150, None)
    assert new.audit() == Audit()


def test_a_run_that_is_in_both_stores_is_not_moved(
    source_and_target: tuple[LedgerSteps, LedgerSteps],
) -> None:
    source, target = source_and_target
    source.spend(100)
    target.spend(30)
    with pytest.raises(RunExistsError, match="'run' is in both stores"):
        move(admin_of(source.ledger), admin_of(target.ledger))
    assert [steps.usage().spent_nanousd for steps in source_and_target] == [100, 30]


def test_a_run_that_has_changed_is_not_removed(steps: LedgerSteps) -> None:
    steps.spend(100)
    (record,) = admin_of(steps.ledger).records(10)
    steps.spend(1)
    assert not admin_of(steps.ledger).take(record)
    assert not admin_of(steps.ledger).take(record)
    assert steps.usage().spent_nanousd == 101


# --- audits


def test_the_audit_of_a_consistent_ledger_finds_no_problem(steps: LedgerSteps) -> None:
    fill(steps)
    audit = admin_of(steps.ledger).audit()
    assert audit == Audit(
        runs=3,
        holds=3,
        receipts=7,
        spent_nanousd=360,
        held_nanousd=110,
        receipts_nanousd=28,
        charged_nanousd=888,
        reset_nanousd=500,
    )
    assert audit.missing_nanousd == 0


def test_the_audit_counts_receipts_that_were_deleted(steps: LedgerSteps) -> None:
    fill(steps)
    steps.clock.advance(40 * 86_400)
    steps.sweep()
    steps.sweep()
    audit = admin_of(steps.ledger).audit()
    assert (audit.missing_nanousd, audit.dropped_nanousd, audit.problems) == (0, 28, [])


def test_the_audit_counts_a_finished_run_that_continues_once(steps: LedgerSteps) -> None:
    def forget_and_continue(step: Callable[[], object]) -> Audit:
        steps.clock.advance(TTL_SECONDS)
        steps.sweep()
        step()
        audit = admin_of(steps.ledger).audit()
        assert (audit.runs, audit.receipts, audit.missing_nanousd, audit.problems) == (1, 0, 0, [])
        return audit

    steps.spend(900)
    with pytest.raises(BudgetExhaustedError):
        steps.reserve(101)
    forget_and_continue(lambda: steps.spend(100))
    assert steps.usage().spent_nanousd == BUDGET_NANOUSD
    forget_and_continue(lambda: steps.ledger.close(Run("run", BUDGET_NANOUSD)))
    assert steps.usage().spent_nanousd == BUDGET_NANOUSD
    audit = forget_and_continue(lambda: steps.ledger.reset("run"))
    assert (audit.spent_nanousd, audit.reset_nanousd) == (0, BUDGET_NANOUSD)


def corrupt(ledger: Ledger, what: str) -> None:
    """Change the store behind the ledger's back."""
    if isinstance(ledger, SqliteLedger):
        sql = {
            "spend": "UPDATE runs SET inference_nanousd = inference_nanousd - 1 WHERE run_id = 'run'",
            "held": "UPDATE runs SET held_nanousd = 0",
            "in_flight": "UPDATE runs SET in_flight = 5",
            "hold": "DELETE FROM open_holds",
            "run": "DELETE FROM runs",
            "receipt": "DELETE FROM receipts",
        }
        ledger._connection.execute(sql[what])
        return
    client = cast("RedisLedger", ledger)._client
    for bucket in range(BUCKETS):
        base = f"ridges:{{{bucket}}}"
        if not client.do(lambda redis, base=base: redis.exists(f"{base}:run:run")):  # type: ignore[misc] # mypy#12557
            continue
        commands = {
            "spend": ("HINCRBY", f"{base}:run:run", "inference", -1),
            "held": ("HSET", f"{base}:run:run", "held", 0),
            "in_flight": ("HSET", f"{base}:run:run", "in_flight", 5),
            "hold": ("DEL", f"{base}:holds"),
            "run": ("DEL", f"{base}:run:run"),
            "receipt": ("DEL", f"{base}:receipts"),
        }
        client.do(lambda redis, command=commands[what]: redis.execute_command(*command))  # type: ignore[misc] # mypy#12557


CORRUPTIONS = [
    # what, whether the audit names a problem, missing nano-USD
    ("spend", False, 1),
    ("held", True, 0),
    ("in_flight", True, 0),
    ("hold", True, 0),
    ("run", True, 100),
    ("receipt", False, 3),
]


def test_the_audit_finds_every_corruption(open_ledger: OpenLedger) -> None:
    def check(row: tuple[str, bool, int]) -> None:
        what, names_a_problem, missing = row
        with new_ledger(open_ledger) as steps:
            steps.spend(3)
            steps.clock.advance(TTL_SECONDS)
            steps.sweep()
            steps.spend(100)
            steps.reserve(50)
            assert admin_of(steps.ledger).audit().problems == []
            corrupt(steps.ledger, what)
            audit = admin_of(steps.ledger).audit()
            assert bool(audit.problems) == names_a_problem
            assert audit.missing_nanousd == missing

    check_rows(CORRUPTIONS, check)
