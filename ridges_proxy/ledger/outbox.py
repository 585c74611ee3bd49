"""Settlements that the ledger could not take: kept, and delivered when it answers again."""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger.models import Hold, Kind
from ridges_proxy.ledger.sqlite import database

if TYPE_CHECKING:
    from pathlib import Path

    from ridges_proxy.ledger.interface import Ledger
    from ridges_proxy.ledger.models import RunUsage

MOST_KEPT = 100_000
"""About 20 MB. What is above it is lost, and charged at its hold when that expires."""

DELIVERED_AT_ONCE = 50
"""Between two looks at whether there are more."""

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
    ),
)

logger = logging.getLogger(__name__)


class Outbox:
    """Resolves holds. What the ledger does not take now waits here: in memory, or in a file if given one.

    The holds stay open meanwhile, so that nothing can be spent twice. Processes may share a file: to
    deliver a settlement twice changes nothing.
    """

    def __init__(self, ledger: Ledger, path: Path | None = None) -> None:
        """Open the file, or make it. Raises LedgerOpeningError."""
        self._ledger = ledger
        if path is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            database.migrate(self._connection, SCHEMA, "the outbox")
        else:
            self._connection = database.open_file(path, SCHEMA)

    def resolve(self, hold: Hold, cost_nanousd: int | None) -> RunUsage | None:
        """Settle the hold at the cost, or release it if that is None. Now, or when the ledger answers.

        Returns the run's books after it, None if they are not known.
        """
        try:
            books = self._deliver(hold, cost_nanousd)
        except LedgerUnavailableError:
            self._keep(hold, cost_nanousd)
            return None
        if books is None:
            logger.error("hold was resolved by the sweep", extra={"run": hold.run_id, "hold": hold.id})
        return books

    def deliver(self) -> None:
        """Deliver what is kept. Raises LedgerUnavailableError, and keeps the rest, if there is no answer."""
        while kept := self._connection.execute(
            "SELECT * FROM settlements LIMIT ?", (DELIVERED_AT_ONCE,)
        ).fetchall():
            for hold_id, run_id, kind, amount_nanousd, expires_at, cost_nanousd in kept:
                self._deliver(Hold(hold_id, run_id, Kind(kind), amount_nanousd, expires_at), cost_nanousd)
                with database.writing(self._connection):
                    self._connection.execute("DELETE FROM settlements WHERE hold_id = ?", (hold_id,))
            logger.info("kept settlements were delivered", extra={"settlements": len(kept)})

    def kept(self) -> int:
        """How many settlements wait."""
        (count,) = self._connection.execute("SELECT COUNT(*) FROM settlements").fetchone()
        return int(count)

    def disconnect(self) -> None:
        """Let go of the file, at once."""
        self._connection.close()

    def _deliver(self, hold: Hold, cost_nanousd: int | None) -> RunUsage | None:
        if cost_nanousd is None:
            return self._ledger.release(hold)
        return self._ledger.settle(hold, cost_nanousd)

    def _keep(self, hold: Hold, cost_nanousd: int | None) -> None:
        details = {
            "run": hold.run_id,
            "hold": hold.id,
            "cost_usd": None if cost_nanousd is None else usd_from_nanousd(cost_nanousd),
        }
        try:
            if self.kept() >= MOST_KEPT:
                raise sqlite3.DataError("too many are kept already")
            row = (hold.id, hold.run_id, hold.kind.value, hold.amount_nanousd, hold.expires_at, cost_nanousd)
            with database.writing(self._connection):
                self._connection.execute("INSERT OR IGNORE INTO settlements VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            logger.error(  # noqa: TRY400 - the text says it all
                "settlement was lost: the hold will be charged", extra={**details, "error": str(error)}
            )
        else:
            logger.warning("settlement is kept until the ledger answers", extra=details)
