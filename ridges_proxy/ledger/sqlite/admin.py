"""A SQLite ledger as `ridges-proxy ledger check`, `verify` and `migrate` use it."""

from __future__ import annotations

import shutil
from itertools import count
from typing import TYPE_CHECKING

from ridges_proxy.ledger.interface import LedgerOpeningError
from ridges_proxy.ledger.migration import Audit, Counts, LevelExistsError, Record, RunExistsError
from ridges_proxy.ledger.progress import unreported
from ridges_proxy.ledger.sqlite import alerts, audit_trail, moved_levels, rows
from ridges_proxy.ledger.sqlite import calls as sqlite_calls
from ridges_proxy.ledger.sqlite.ledger import SqliteLedger

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

    from ridges_proxy.ledger.account import Account
    from ridges_proxy.ledger.audit_entries import AuditEntry
    from ridges_proxy.ledger.level_account import LevelAccount
    from ridges_proxy.ledger.models import Alert, BookedCall, Receipt
    from ridges_proxy.ledger.progress import Report

MIN_FREE_BYTES = 1 << 30
"""With less free disk than this, `ledger check` and `doctor` warn. A million runs need some 100 MB, and as
much again while SQLite writes its log back. The rest is time to react: a full disk refuses all calls."""

_ADD_CHARGED = "UPDATE totals SET charged_nanousd = charged_nanousd + ?"
_SAME_RECEIPT = "run_id = ? AND forgotten_at = ?"
_SUMS = """
    SELECT (SELECT COUNT(*) FROM runs), (SELECT COUNT(*) FROM open_holds), (SELECT COUNT(*) FROM receipts),
        (SELECT COALESCE(SUM(inference_nanousd + embedding_nanousd), 0) FROM runs),
        (SELECT COALESCE(SUM(amount_nanousd), 0) FROM open_holds),
        (SELECT COALESCE(SUM(inference_nanousd + embedding_nanousd), 0) FROM receipts),
        charged_nanousd, reset_nanousd, dropped_nanousd
    FROM totals
"""
_MISMATCHED_RUNS = """
    SELECT runs.run_id FROM runs LEFT JOIN
        (SELECT run_id, SUM(amount_nanousd) AS held, COUNT(*) AS open FROM open_holds GROUP BY run_id) AS sums
        ON sums.run_id = runs.run_id
    WHERE held_nanousd != COALESCE(held, 0) OR in_flight != COALESCE(open, 0)
        OR MIN(cap_nanousd, inference_nanousd, embedding_nanousd, calls) < 0
"""
_COUNTED = ("runs", "levels", "receipts", "calls", "alerts", "audit_entries")
_COUNTS = f"SELECT {', '.join(f'(SELECT COUNT(*) FROM {table})' for table in _COUNTED)}"
_AUDIT_STEPS = 4
_ORPHANED_HOLDS = "SELECT hold_id FROM open_holds WHERE run_id NOT IN (SELECT run_id FROM runs)"


class SqliteAdmin(SqliteLedger):
    """Implementation of `LedgerAdmin`, which the `ledger` commands use, for a SQLite file."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it. Raises LedgerOpeningError."""
        super().__init__(path, run_ttl_seconds=0.0)

    def counts(self) -> Counts:
        with self._locked_connection() as connection:
            return Counts(*connection.execute(_COUNTS).fetchone())

    def count_calls(self, since: float) -> int:
        with self._locked_connection() as connection:
            found = connection.execute("SELECT COUNT(*) FROM calls WHERE settled_at >= ?", (since,))
            return int(found.fetchone()[0])

    def records(self, limit: int) -> list[Record]:
        with self._writing() as connection:  # no run may change between its account and its holds
            found = connection.execute(f"{rows.ACCOUNTS} ORDER BY run_id LIMIT ?", (limit,)).fetchall()
            return [_record(connection, rows.account_of(row)) for row in found]

    def put(self, record: Record) -> None:
        run_id = record.account.run_id
        with self._writing() as connection:
            account = rows.find(connection, run_id)
            if account is not None:
                if _record(connection, account) != record:
                    raise RunExistsError(run_id)
                return
            rows.insert(connection, record.account)
            for hold in record.holds:
                numbers = moved_levels.add_hold(connection, hold, record.levels.get(hold.id, ()))
                rows.insert_hold(connection, hold, numbers)
            connection.execute(_ADD_CHARGED, (record.account.spent_nanousd,))

    def take(self, record: Record) -> bool:
        run_id = record.account.run_id
        with self._writing() as connection:
            account = rows.find(connection, run_id)
            if account is None or _record(connection, account) != record:
                return False
            connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
            for hold in record.holds:
                moved_levels.remove_hold(connection, hold)
            connection.execute(_ADD_CHARGED, (-record.account.spent_nanousd,))
            return True

    def level_accounts(self, limit: int) -> Sequence[LevelAccount]:
        with self._locked_connection() as connection:
            return moved_levels.accounts(connection, limit)

    def put_level(self, account: LevelAccount) -> None:
        with self._writing() as connection:
            if not moved_levels.put(connection, account):
                raise LevelExistsError(*account.level[:3])

    def take_level(self, account: LevelAccount) -> bool:
        with self._writing() as connection:
            return moved_levels.take(connection, account)

    def waiting_alerts(self, limit: int) -> Sequence[Alert]:
        with self._locked_connection() as connection:
            return alerts.waiting(connection, limit)

    def put_alert(self, alert: Alert) -> None:
        with self._writing() as connection:
            if not alerts.has(connection, alert.id):
                alerts.insert(connection, alert)

    def put_receipt(self, receipt: Receipt) -> None:
        with self._writing() as connection:
            key = (receipt.run.run_id, receipt.forgotten_at)
            if connection.execute(f"SELECT 1 FROM receipts WHERE {_SAME_RECEIPT}", key).fetchone():
                return
            rows.insert_receipt(connection, receipt)
            connection.execute(_ADD_CHARGED, (receipt.run.spent_nanousd,))

    def take_receipt(self, receipt: Receipt) -> None:
        with self._writing() as connection:
            key = (receipt.run.run_id, receipt.forgotten_at)
            if connection.execute(f"DELETE FROM receipts WHERE {_SAME_RECEIPT}", key).rowcount:
                connection.execute(_ADD_CHARGED, (-receipt.run.spent_nanousd,))

    def put_calls(self, calls: Sequence[BookedCall]) -> None:
        with self._writing() as connection:
            sqlite_calls.put(connection, calls)

    def take_calls(self, calls: Sequence[BookedCall]) -> None:
        with self._writing() as connection:
            sqlite_calls.take(connection, calls)

    def put_entries(self, entries: Sequence[AuditEntry]) -> None:
        with self._writing() as connection:
            audit_trail.put(connection, entries)

    def take_entries(self, entries: Sequence[AuditEntry]) -> None:
        with self._writing() as connection:
            audit_trail.take(connection, entries)

    def audit(self, report: Report = unreported) -> Audit:
        done = count(1)
        with self._writing() as connection:  # all sums are of one moment
            audit = Audit(*connection.execute(_SUMS).fetchone())
            report("checks", next(done), _AUDIT_STEPS)
            for (run_id,) in connection.execute(_MISMATCHED_RUNS):
                audit.problems.append(f"run {run_id!r}: its amounts do not match its open holds")
            report("checks", next(done), _AUDIT_STEPS)
            for (hold_id,) in connection.execute(_ORPHANED_HOLDS):
                audit.problems.append(f"hold {hold_id}: its run does not exist")
            report("checks", next(done), _AUDIT_STEPS)
            audit.levels, problems = moved_levels.audit(connection)
            audit.problems += problems
            report("checks", next(done), _AUDIT_STEPS)
        return audit

    def inspect(self) -> tuple[dict[str, str], list[str]]:
        """Read the whole file: 1 s for a million runs (81 MiB)."""
        self.ping()
        with self._locked_connection() as connection:
            (check,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if check != "ok":
            raise LedgerOpeningError(f"{self._path} is damaged: {check}")
        disk_bytes = free_bytes(self._path)
        facts = {
            "file": str(self._path.absolute()),
            "size": f"{self._path.stat().st_size >> 10:,} KiB",
            "free disk": f"{disk_bytes >> 20:,} MiB",
        }
        is_low = disk_bytes < MIN_FREE_BYTES
        return facts, [f"the ledger's disk has only {disk_bytes >> 20} MiB left"] if is_low else []


def free_bytes(path: Path) -> int:
    """Return the free space on the disk of a ledger's file."""
    return shutil.disk_usage(path.absolute().parent).free


def _record(connection: sqlite3.Connection, account: Account) -> Record:
    account.looked_at = account.active_at  # the position in the sweep's queue does not belong to the record
    holds = rows.holds_of(connection, account.run_id)
    levels = {hold.id: moved_levels.levels_of(connection, hold) for hold in holds if hold.nested}
    return Record(account, holds, levels)
