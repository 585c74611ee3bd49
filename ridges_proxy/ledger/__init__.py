"""The ledger: what every run has spent and holds, in memory, SQLite or Redis."""

from ridges_proxy.ledger.alert_rules import AlertRules
from ridges_proxy.ledger.audit_entries import Action, AuditEntry, AuditPage, AuditQuery
from ridges_proxy.ledger.factory import (
    check_ledger_store,
    open_ledger,
    open_outbox,
    open_sessions,
    open_sliding_windows,
)
from ridges_proxy.ledger.instrumented import measured
from ridges_proxy.ledger.interface import Ledger, LedgerOpeningError, granted_nanousd
from ridges_proxy.ledger.memory import MemoryLedger
from ridges_proxy.ledger.models import (
    Alert,
    CallRecord,
    Hold,
    Kind,
    LevelPage,
    LevelQuery,
    LevelUsage,
    ModelCost,
    Receipt,
    Run,
    RunDetail,
    RunPage,
    RunQuery,
    RunUsage,
    SetAmount,
    SortKey,
    SweptSlice,
    Ticket,
    Turn,
)
from ridges_proxy.ledger.open_calls import OpenCall, OpenCallPage
from ridges_proxy.ledger.outbox import Outbox
from ridges_proxy.ledger.run_state import NEAR_PERCENT, RunState, end_state
from ridges_proxy.ledger.sessions import Session, Sessions
from ridges_proxy.ledger.sqlite.ledger import SqliteLedger
from ridges_proxy.ledger.sweeper import Sweeper, log_receipt
from ridges_proxy.ledger.write_check import WriteCheck

__all__ = [
    "NEAR_PERCENT",
    "Action",
    "Alert",
    "AlertRules",
    "AuditEntry",
    "AuditPage",
    "AuditQuery",
    "CallRecord",
    "Hold",
    "Kind",
    "Ledger",
    "LedgerOpeningError",
    "LevelPage",
    "LevelQuery",
    "LevelUsage",
    "MemoryLedger",
    "ModelCost",
    "OpenCall",
    "OpenCallPage",
    "Outbox",
    "Receipt",
    "Run",
    "RunDetail",
    "RunPage",
    "RunQuery",
    "RunState",
    "RunUsage",
    "Session",
    "Sessions",
    "SetAmount",
    "SortKey",
    "SqliteLedger",
    "Sweeper",
    "SweptSlice",
    "Ticket",
    "Turn",
    "WriteCheck",
    "check_ledger_store",
    "end_state",
    "granted_nanousd",
    "log_receipt",
    "measured",
    "open_ledger",
    "open_outbox",
    "open_sessions",
    "open_sliding_windows",
]
