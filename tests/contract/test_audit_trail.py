"""The audit trail, on every store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.auth.token_claims import MAX_LIFETIME_SECONDS
from ridges_proxy.ledger import Action, AuditEntry, AuditQuery, Kind, Run, SqliteLedger, audit_trail
from ridges_proxy.ledger.audit_trail import MAX_ENTRIES, MemoryAuditTrail, kept_seconds_of
from ridges_proxy.ledger.interface import DAY_SECONDS
from ridges_proxy.ledger.migration import move
from ridges_proxy.ledger.redis import audit_trail as redis_audit_trail
from ridges_proxy.ledger.sqlite import schema
from ridges_proxy.ledger.sqlite.database import open_file
from tests.contract.stores import EXPIRY_SECONDS, RECEIPT_DAYS, STORES, Reports
from tests.contract.test_migration import MOVES, admin_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    from pathlib import Path

    from ridges_proxy.ledger import Ledger
    from tests.contract.stores import LedgerSteps
    from tests.support.clock import Clock


def entry_of(number: int, at: float, **changes: object) -> AuditEntry:
    entry = AuditEntry(f"{number:032x}", at, "admin key", "203.0.113.9", Action.RUN_RESET, f"run-{number}")
    return replace(entry, **changes)  # type: ignore[arg-type] # any field


def record(ledger: Ledger, *entries: AuditEntry) -> None:
    for entry in entries:
        ledger.record_action(entry)


def trail_of(ledger: Ledger, query: AuditQuery | None = None) -> list[AuditEntry]:
    """All entries, page by page."""
    query = query or AuditQuery()
    found: list[AuditEntry] = []
    while True:
        page = ledger.audit_trail(query)
        assert len(page.entries) <= query.limit
        found += page.entries
        if page.next_cursor is None:
            return found
        assert len(page.entries) == query.limit
        query = replace(query, cursor=page.next_cursor)


def numbers_of(entries: list[AuditEntry]) -> list[int]:
    return [int(entry.id, 16) for entry in entries]


def test_an_entry_comes_back_with_all_fields(steps: LedgerSteps) -> None:
    issued = entry_of(
        1,
        steps.clock.now + 0.123456,
        actor="session 0f",
        address="2001:db8::1",
        action=Action.TOKEN_ISSUED,
        subject='ä|{}: "run"\\',
        request_id="r-1",
        detail={"models": ["a/b|ö", "\U0001f600"], "budget_usd": 0.000000001, "groups": [], "rate": None},
        valid_until=steps.clock.now + 60.5,
    )
    record(steps.ledger, issued)
    assert trail_of(steps.ledger) == [issued]


def test_the_newest_entry_comes_first_and_pages_of_any_size_have_each_once(
    steps: LedgerSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_trail, "SLICE", 4)
    monkeypatch.setattr(redis_audit_trail, "BATCH", 4)
    times = [steps.clock.now + 0.25 * (number // 3 if number < 20 else 6) for number in range(40)]
    entries = [entry_of(number, at) for number, at in enumerate(times)]  # many are of the same moment
    record(steps.ledger, *entries)
    expected = sorted(range(40), key=lambda number: (times[number], number), reverse=True)

    def check(limit: int) -> None:
        assert numbers_of(trail_of(steps.ledger, AuditQuery(limit=limit))) == expected

    check_rows([1, 7, 40, 100], check)


def test_a_page_does_not_shift_when_newer_entries_arrive(steps: LedgerSteps) -> None:
    record(steps.ledger, *(entry_of(number, steps.clock.now) for number in range(4)))
    first = steps.ledger.audit_trail(AuditQuery(limit=2))
    record(steps.ledger, entry_of(9, steps.clock.now + 1))
    rest = steps.ledger.audit_trail(AuditQuery(cursor=first.next_cursor, limit=2))
    assert numbers_of([*first.entries, *rest.entries]) == [3, 2, 1, 0]
    assert rest.next_cursor is None


def test_filters_keep_the_entries_that_match_all_of_them(steps: LedgerSteps) -> None:
    now = steps.clock.now
    issued = {"action": Action.TOKEN_ISSUED, "subject": "run-a"}
    record(
        steps.ledger,
        entry_of(1, now, valid_until=now + 60, **issued),
        entry_of(2, now + 1, valid_until=now + 30, **issued),
        entry_of(3, now + 2, subject="run-a"),
        entry_of(4, now + 3, subject="run-B"),
        entry_of(5, now + 4, action="of a later version", subject=""),
    )

    def check(row: tuple[AuditQuery, list[int]]) -> None:
        query, expected = row
        assert numbers_of(trail_of(steps.ledger, query)) == expected
        assert numbers_of(trail_of(steps.ledger, replace(query, limit=1))) == expected

    check_rows(
        [
            (AuditQuery(), [5, 4, 3, 2, 1]),
            (AuditQuery(action=Action.TOKEN_ISSUED), [2, 1]),
            (AuditQuery(action=Action.SWEEP), []),
            (AuditQuery(search="run-"), [4, 3, 2, 1]),
            (AuditQuery(search="n-a"), [3, 2, 1]),
            (AuditQuery(search="run-b"), []),
            (AuditQuery(search="%"), []),
            (AuditQuery(action=Action.RUN_RESET, search="a"), [3]),
            (AuditQuery(since=now + 2), [5, 4, 3]),
            (AuditQuery(valid_at=now + 29), [2, 1]),
            (AuditQuery(valid_at=now + 30), [1]),
            (AuditQuery(valid_at=now + 60), []),
        ],
        check,
    )


def test_an_entry_that_is_recorded_twice_is_kept_once(steps: LedgerSteps) -> None:
    """A write to Redis whose reply is lost may be sent again."""
    entry = entry_of(1, steps.clock.now, detail={"b": 1, "a": [1.5]})
    record(steps.ledger, entry, replace(entry, detail={"a": [1.5], "b": 1}))
    assert numbers_of(trail_of(steps.ledger)) == [1]


def test_a_cursor_that_is_none_is_an_error(steps: LedgerSteps) -> None:
    record(steps.ledger, entry_of(1, steps.clock.now))

    def check(cursor: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - of `float`, or with a text of its own
            steps.ledger.audit_trail(AuditQuery(cursor=cursor))

    check_rows(["", "x", "x:1", "5"], check)


def test_entries_are_kept_as_long_as_receipts(steps: LedgerSteps) -> None:
    record(steps.ledger, *(entry_of(number, steps.clock.now) for number in range(20)))
    steps.clock.advance(RECEIPT_DAYS * DAY_SECONDS - 1)
    record(steps.ledger, entry_of(20, steps.clock.now))
    steps.sweep(limit=7)
    assert len(trail_of(steps.ledger)) == 21
    steps.clock.advance(1)
    steps.sweep(limit=7)
    assert numbers_of(trail_of(steps.ledger)) == [20]


def test_entries_are_kept_at_least_for_the_life_of_a_token() -> None:
    assert kept_seconds_of(0) == kept_seconds_of(6) == MAX_LIFETIME_SECONDS == 7 * DAY_SECONDS
    assert kept_seconds_of(8) == 8 * DAY_SECONDS


def test_memory_keeps_the_latest_entries() -> None:
    trail = MemoryAuditTrail(1, limit=2)
    for number in range(3):
        trail.add(entry_of(number, 1.0))
    assert numbers_of(trail.page(AuditQuery()).entries) == [2, 1]
    assert MAX_ENTRIES == 10_000  # docs/operating/ledgers.md


@pytest.mark.parametrize("names", MOVES, ids=" to ".join)
def test_a_move_takes_the_entries_and_continues_after_an_interruption(
    names: tuple[str, str], clock: Clock
) -> None:
    with STORES[names[0]](clock) as source, STORES[names[1]](clock) as target:
        record(source, *(entry_of(number, clock.now, detail={"b": 0.1, "a": []}) for number in range(120)))
        before = trail_of(source)
        admin_of(target).put_entries(before[:1])  # and then it was interrupted
        reports = Reports()
        assert move(admin_of(source), admin_of(target), reports).audit_entries == 120
        assert reports.last == {"audit entries": (120, 120)}
        assert (trail_of(source), trail_of(target)) == ([], before)
        audit = admin_of(target).audit()
        assert (audit.problems, audit.missing_nanousd) == ([], 0)


def test_a_worker_of_the_version_before_goes_on_in_a_migrated_file(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    with monkeypatch.context() as patch:
        patch.setattr(schema, "LEDGER", replace(schema.LEDGER, migrations=schema.LEDGER.migrations[:5]))
        old = SqliteLedger(path, 60.0, clock=clock)
    hold = old.reserve(Run("run", 100), Kind.INFERENCE, 60, 60, EXPIRY_SECONDS)
    open_file(path, schema.LEDGER).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM audit_entries").fetchone() == (0,)
    old.settle(hold, 50)
    old.settle(old.reserve(Run("run", 100), Kind.INFERENCE, 40, 40, EXPIRY_SECONDS), 40)
    new = SqliteLedger(path, 60.0, clock=clock)
    usage = new.usage("run")
    assert usage
    assert usage.spent_nanousd == 90
    record(new, entry_of(1, clock.now))
    assert numbers_of(trail_of(new)) == [1]
    for ledger in (old, new):
        ledger.disconnect()
