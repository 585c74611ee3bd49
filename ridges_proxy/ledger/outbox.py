"""Settlements that the ledger did not accept: kept, and delivered when it answers again."""

from __future__ import annotations

import json
import logging
import sqlite3
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger.models import CallRecord, Hold, Kind
from ridges_proxy.ledger.sqlite import database

if TYPE_CHECKING:
    from pathlib import Path

    from ridges_proxy.ledger.interface import Ledger
    from ridges_proxy.ledger.models import RunUsage

MAX_KEPT = 100_000
"""Limit of kept settlements: about 20 MB. Those above it are lost, and their holds are charged in full."""

DELIVERY_BATCH = 50
"""Settlements that are read from the store at a time."""

SCHEMA = database.Schema(
    application_id=0x52414F31,  # RAO1
    migrations=(
        """
        CREATE TABLE settlements (
            hold_id TEXT PRIMARY KEY,
            run_id TEXT NOT NULL,
            kind TEXT NOT NULL,
            amount_nanousd INTEGER NOT NULL,
            expires_at REAL NOT NULL,
            cost_nanousd INTEGER
        ) STRICT;
        """,
        """
        -- A table of its own: at an upgrade, workers of the version before still use the first one.
        CREATE TABLE details (
            hold_id TEXT PRIMARY KEY,
            model TEXT NOT NULL,
            nested INTEGER NOT NULL,
            call TEXT NOT NULL
        ) STRICT;
        CREATE TRIGGER drop_details AFTER DELETE ON settlements BEGIN
            DELETE FROM details WHERE hold_id = OLD.hold_id;
        END;
        """,
    ),
)

_INSERT = "INSERT OR IGNORE INTO settlements VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_DETAILS = "INSERT OR IGNORE INTO details VALUES (?, ?, ?, ?)"
_BATCH = """
    SELECT settlements.rowid, settlements.*, COALESCE(model, ''), COALESCE(nested, 1), COALESCE(call, '')
    FROM settlements LEFT JOIN details ON details.hold_id = settlements.hold_id
    WHERE settlements.rowid > ? ORDER BY settlements.rowid LIMIT ?
"""
"""Without details, a settlement is of the version before."""

logger = logging.getLogger(__name__)


class Outbox:
    """Resolves holds. If the ledger does not answer, keeps the settlement in memory, or in a file.

    The holds stay open in the meantime, so nothing can be spent twice. Processes may share a file: a second
    delivery of a settlement changes nothing.
    """

    def __init__(self, ledger: Ledger, path: Path | None = None) -> None:
        """Open the file, or create it; without a path, keep settlements in memory.

        Raises LedgerOpeningError.
        """
        self._ledger = ledger
        self._is_shared = path is not None
        self._not_taken: set[str] = set()
        """Hold ids of settlements that the ledger did not take at the last delivery."""
        if path is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            database.migrate(self._connection, SCHEMA, "the outbox")
        else:
            self._connection = database.open_file(path, SCHEMA)

    def resolve(
        self, hold: Hold, cost_nanousd: int | None, call: CallRecord | None = None
    ) -> RunUsage | None:
        """Settle the hold at the cost, or release it if the cost is None; if that fails, keep it for later.

        Returns the usage of the run afterwards; None if it is not known.
        """
        try:
            usage = self._deliver(hold, cost_nanousd, call)
        except LedgerUnavailableError:
            self._keep(hold, cost_nanousd, call)
            return None
        if usage is None:
            logger.error("hold was resolved by the sweep", extra={"run": hold.run_id, "hold": hold.id})
        return usage

    def deliver(self) -> None:
        """Deliver the kept settlements. If the ledger does not answer, keep the rest.

        A settlement is lost if its hold is gone: a sweep charged the hold, or the store lost it.

        Raises LedgerUnavailableError.
        """
        rowid, not_taken_before = 0, self._not_taken
        self._not_taken = set()
        while batch := self._connection.execute(_BATCH, (rowid, DELIVERY_BATCH)).fetchall():
            delivered = 0
            for rowid, *row in batch:  # noqa: B007 - the last rowid is where the next batch begins
                delivered += self._deliver_kept(*_settlement_of(row), not_taken_before)
            if delivered:
                logger.info("kept settlements were delivered", extra={"settlements": delivered})

    def _deliver_kept(
        self, hold: Hold, cost_nanousd: int | None, call: CallRecord | None, not_taken_before: set[str]
    ) -> bool:
        """Deliver one settlement, and delete it. Return whether the ledger took it."""
        taken = self._deliver(hold, cost_nanousd, call) is not None
        if not taken and self._is_shared and hold.id not in not_taken_before:
            # Another process may just have delivered it. Then it deletes it before the next delivery.
            self._not_taken.add(hold.id)
            return False
        with database.writing(self._connection):
            deleted = self._connection.execute(
                "DELETE FROM settlements WHERE hold_id = ?", (hold.id,)
            ).rowcount
        if not taken and deleted:
            # Or the ledger had taken it before, and only its reply was lost.
            logger.warning("kept settlement was lost: its hold is gone", extra=_fields(hold, cost_nanousd))
        return taken

    def kept(self) -> int:
        """Return the number of kept settlements."""
        (count,) = self._connection.execute("SELECT COUNT(*) FROM settlements").fetchone()
        return int(count)

    def disconnect(self) -> None:
        """Close the file."""
        self._connection.close()

    def _deliver(self, hold: Hold, cost_nanousd: int | None, call: CallRecord | None) -> RunUsage | None:
        if cost_nanousd is None:
            return self._ledger.release(hold)
        return self._ledger.settle(hold, cost_nanousd, call)

    def _keep(self, hold: Hold, cost_nanousd: int | None, call: CallRecord | None) -> None:
        fields = _fields(hold, cost_nanousd)
        try:
            if self.kept() >= MAX_KEPT:
                raise sqlite3.DataError("too many settlements are kept")
            row, details = _rows_of(hold, cost_nanousd, call)
            with database.writing(self._connection):
                self._connection.execute(_INSERT, row)
                self._connection.execute(_INSERT_DETAILS, details)
        except sqlite3.Error as error:
            logger.error(  # noqa: TRY400 - the error's text is enough
                "settlement was lost: the hold will be charged", extra={**fields, "error": str(error)}
            )
        else:
            logger.warning("settlement is kept until the ledger answers", extra=fields)


def _rows_of(
    hold: Hold, cost_nanousd: int | None, call: CallRecord | None
) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """Return the rows of a settlement in its two tables."""
    held = (hold.id, hold.run_id, hold.kind.value, hold.amount_nanousd, hold.expires_at)
    record = json.dumps(call) if call else ""
    return (*held, cost_nanousd), (hold.id, hold.model, hold.nested, record)


def _settlement_of(row: list[Any]) -> tuple[Hold, int | None, CallRecord | None]:
    hold_id, run_id, kind, amount_nanousd, expires_at, cost_nanousd, model, nested, record = row
    hold = Hold(hold_id, run_id, Kind(kind), amount_nanousd, expires_at, model, bool(nested))
    return hold, cost_nanousd, CallRecord(*json.loads(record)) if record else None


def _fields(hold: Hold, cost_nanousd: int | None) -> dict[str, object]:
    """The fields of a log line about a settlement. No cost: the hold was to be released."""
    return {
        "run": hold.run_id,
        "hold": hold.id,
        "cost_usd": None if cost_nanousd is None else usd_from_nanousd(cost_nanousd),
    }
