"""Which store a URL of LEDGER_URL names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ridges_proxy.ledger.memory import MemoryLedger
from ridges_proxy.ledger.outbox import Outbox
from ridges_proxy.ledger.sqlite import SqliteLedger

if TYPE_CHECKING:
    from ridges_proxy.config import LedgerSettings
    from ridges_proxy.ledger.contract import Ledger

SQLITE = "sqlite:///"


def open_ledger(settings: LedgerSettings) -> Ledger:
    """Open the books. Raises LedgerOpeningError."""
    url = settings.ledger_url
    if url.startswith(SQLITE):
        path = Path(url.removeprefix(SQLITE))
        return SqliteLedger(path, settings.run_ttl_seconds, settings.receipt_days)
    return MemoryLedger(settings.run_ttl_seconds)


def open_outbox(settings: LedgerSettings, ledger: Ledger) -> Outbox:
    """Open what keeps settlements that the ledger cannot take. Raises LedgerOpeningError."""
    path = settings.ledger_outbox
    return Outbox(ledger, None if path is None else Path(path))
