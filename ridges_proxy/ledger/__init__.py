"""The books of every run: the contract, its stores, and the sweep."""

from ridges_proxy.ledger.contract import (
    Hold,
    Kind,
    Ledger,
    Run,
    RunPage,
    RunQuery,
    RunUsage,
    SortKey,
    SweptSlice,
    granted_nanousd,
)
from ridges_proxy.ledger.memory import MemoryLedger
from ridges_proxy.ledger.sweeper import Sweeper, SweepTotals, log_receipt

__all__ = [
    "Hold",
    "Kind",
    "Ledger",
    "MemoryLedger",
    "Run",
    "RunPage",
    "RunQuery",
    "RunUsage",
    "SortKey",
    "SweepTotals",
    "Sweeper",
    "SweptSlice",
    "granted_nanousd",
    "log_receipt",
]
