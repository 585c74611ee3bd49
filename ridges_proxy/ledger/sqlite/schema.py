"""Schema and clock of a SQLite ledger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ridges_proxy.ledger.sqlite.database import Schema, writing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

LEDGER = Schema(
    application_id=0x52414C31,  # RAL1
    migrations=(
        """
    CREATE TABLE runs (
        run_id TEXT PRIMARY KEY,
        cap_nanousd INTEGER NOT NULL,
        inference_nanousd INTEGER NOT NULL,
        embedding_nanousd INTEGER NOT NULL,
        held_nanousd INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        in_flight INTEGER NOT NULL,
        active_at REAL NOT NULL,
        looked_at REAL NOT NULL,
        remembered_until REAL NOT NULL,
        closed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX runs_by_looked_at ON runs (looked_at);
    CREATE TABLE holds (
        hold_id TEXT PRIMARY KEY,
        run_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        amount_nanousd INTEGER NOT NULL,
        expires_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE receipts (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL,
        cap_nanousd INTEGER NOT NULL,
        inference_nanousd INTEGER NOT NULL,
        embedding_nanousd INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        active_at REAL NOT NULL,
        forgotten_at REAL NOT NULL,
        closed INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX receipts_by_forgotten_at ON receipts (forgotten_at);
    CREATE TABLE closings (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL,
        closed_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE totals (
        charged_nanousd INTEGER NOT NULL,
        reset_nanousd INTEGER NOT NULL,
        dropped_nanousd INTEGER NOT NULL
    ) STRICT;
    INSERT INTO totals VALUES (0, 0, 0);
    CREATE TABLE epoch (boot_id TEXT NOT NULL, offset_seconds REAL NOT NULL) STRICT;
    """,
        """
    CREATE TABLE pings (flip INTEGER NOT NULL) STRICT;
    INSERT INTO pings VALUES (0);
    """,
        """
    CREATE TABLE waiting (
        place INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL,
        ticket TEXT NOT NULL UNIQUE,
        seen_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX waiting_by_run ON waiting (run_id, place);
    """,
        """
    ALTER TABLE runs ADD COLUMN exhausted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN own_budget INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE receipts ADD COLUMN own_budget INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE receipts ADD COLUMN finished INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX receipts_of_finished_runs ON receipts (run_id) WHERE finished = 1;
    """,
        """
    ALTER TABLE runs ADD COLUMN alerted_percent INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN record TEXT NOT NULL DEFAULT '';
    ALTER TABLE receipts ADD COLUMN record TEXT NOT NULL DEFAULT '';
    ALTER TABLE holds RENAME TO open_holds;
    ALTER TABLE open_holds ADD COLUMN model TEXT NOT NULL DEFAULT '';
    ALTER TABLE open_holds ADD COLUMN levels TEXT NOT NULL DEFAULT '';
    -- At an upgrade, workers of the version before finish their calls in the migrated file.
    CREATE VIEW holds AS
        SELECT hold_id, run_id, kind, amount_nanousd, expires_at FROM open_holds WHERE levels = '';
    CREATE TRIGGER insert_of_older_version INSTEAD OF INSERT ON holds BEGIN
        INSERT INTO open_holds VALUES
            (NEW.hold_id, NEW.run_id, NEW.kind, NEW.amount_nanousd, NEW.expires_at, '', '');
    END;
    CREATE TRIGGER delete_of_older_version INSTEAD OF DELETE ON holds BEGIN
        DELETE FROM open_holds WHERE hold_id = OLD.hold_id;
    END;
    CREATE TABLE levels (
        number INTEGER PRIMARY KEY,
        budget TEXT NOT NULL,
        scope TEXT NOT NULL,
        period TEXT NOT NULL,
        amount_nanousd INTEGER NOT NULL,
        resets_at REAL,
        in_force_nanousd INTEGER NOT NULL,
        inference_nanousd INTEGER NOT NULL,
        embedding_nanousd INTEGER NOT NULL,
        held_nanousd INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        in_flight INTEGER NOT NULL,
        alerted_percent INTEGER NOT NULL,
        UNIQUE (budget, scope, period)
    ) STRICT;
    CREATE INDEX levels_by_end ON levels (resets_at) WHERE resets_at IS NOT NULL;
    CREATE TABLE level_amounts (
        budget TEXT NOT NULL,
        scope TEXT NOT NULL,
        amount_nanousd INTEGER NOT NULL,
        PRIMARY KEY (budget, scope)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE alerts (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        hidden_until REAL NOT NULL DEFAULT 0,
        id TEXT NOT NULL UNIQUE,
        at REAL NOT NULL,
        budget TEXT NOT NULL,
        scope TEXT NOT NULL,
        period TEXT NOT NULL,
        percent INTEGER NOT NULL,
        amount_nanousd INTEGER NOT NULL,
        spent_nanousd INTEGER NOT NULL,
        resets_at REAL,
        attempts INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE calls (
        number INTEGER PRIMARY KEY,
        settled_at REAL NOT NULL,
        run_id TEXT NOT NULL,
        hold_id TEXT NOT NULL,
        model TEXT NOT NULL,
        kind TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cost_nanousd INTEGER NOT NULL,
        answer_id TEXT NOT NULL,
        invocation_id TEXT NOT NULL
    ) STRICT;
    CREATE INDEX calls_by_time ON calls (settled_at);
    """,
        """
    CREATE TABLE audit_entries (
        id TEXT PRIMARY KEY,
        at REAL NOT NULL,
        actor TEXT NOT NULL,
        address TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        request_id TEXT NOT NULL,
        detail TEXT NOT NULL,
        valid_until REAL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX audit_entries_by_time ON audit_entries (at, id);
    """,
    ),
)


def clock_of(connection: sqlite3.Connection) -> Callable[[], float]:
    """Return a clock in seconds since the epoch, the same for all processes, that never jumps.

    It is the time since the machine's boot plus an offset. The offset is read from the system clock when the
    file is first opened after a boot, and kept in the file. Later changes of the system clock have no effect.
    Outside Linux, it is the system clock.
    """
    if not BOOT_ID.exists():
        return time.time
    boot_id = BOOT_ID.read_text(encoding="ascii").strip()
    with writing(connection):
        row = connection.execute("SELECT boot_id, offset_seconds FROM epoch").fetchone()
        if row is None or row[0] != boot_id:
            (latest,) = connection.execute("SELECT MAX(active_at) FROM runs").fetchone()
            offset = max(time.time(), latest or 0.0) - _seconds_since_boot()
            connection.execute("DELETE FROM epoch")
            connection.execute("INSERT INTO epoch VALUES (?, ?)", (boot_id, offset))
        else:
            offset = row[1]
    return lambda: offset + _seconds_since_boot()


def _seconds_since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
