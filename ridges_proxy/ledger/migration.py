"""Moving everything from one store to another, and auditing a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ridges_proxy.ledger.audit_entries import AuditQuery
from ridges_proxy.ledger.progress import unreported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ridges_proxy.billing.levels import Level
    from ridges_proxy.ledger.account import Account
    from ridges_proxy.ledger.audit_entries import AuditEntry, AuditPage
    from ridges_proxy.ledger.level_account import LevelAccount
    from ridges_proxy.ledger.models import (
        Alert,
        BookedCall,
        BookedCallPage,
        Hold,
        Receipt,
        ReceiptPage,
        SetAmount,
    )
    from ridges_proxy.ledger.progress import Report

BATCH = 100
"""Runs, levels, receipts, calls, alerts or audit entries that are read from the source at a time."""


class MoveError(Exception):
    """Something cannot be moved, because the target has it with other amounts, or because it changed."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is in both stores, with different amounts; it was not moved")


class RunExistsError(MoveError):
    """The target has a run of this id with other amounts, or the run changed while it was moved."""

    def __init__(self, run_id: str) -> None:
        super().__init__(repr(run_id))


class LevelExistsError(MoveError):
    """The target has spent in this level, too, or has set another amount, or the level changed."""

    def __init__(self, *names: str) -> None:
        """`names` are the budget, the scope and the period; of a set amount the budget and the scope."""
        super().__init__(f"budget {' '.join(repr(name) for name in names if name)}")


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that a store has of a run."""

    account: Account
    holds: list[Hold]
    """Open holds, in the order of their ids."""
    levels: dict[str, tuple[Level, ...]] = field(default_factory=dict, compare=False)
    """The levels of each hold that has some, by its id. They never change, so comparisons leave them out."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a store has of what `move` moves one by one or in batches."""

    runs: int
    levels: int
    receipts: int
    calls: int
    alerts: int
    audit_entries: int


@dataclass(slots=True)
class Audit:
    """Sums over all runs, open holds and receipts of a store, for a comparison with its totals."""

    runs: int = 0
    holds: int = 0
    receipts: int = 0
    spent_nanousd: int = 0
    held_nanousd: int = 0
    receipts_nanousd: int = 0
    charged_nanousd: int = 0
    """All costs ever charged. The store counts them in a total of its own."""
    reset_nanousd: int = 0
    """Part of `charged_nanousd` that resets removed from runs."""
    dropped_nanousd: int = 0
    """Part of `charged_nanousd` that was on receipts which are no longer kept."""
    problems: list[str] = field(default_factory=list)
    levels: int = 0

    @property
    def missing_nanousd(self) -> int:
        """Charged amounts that no run and no receipt has; negative: amounts that were never charged."""
        found = self.spent_nanousd + self.receipts_nanousd + self.reset_nanousd + self.dropped_nanousd
        return self.charged_nanousd - found


def mismatch_of(level: Level) -> str:
    """Return the problem of a level that does not match its open holds."""
    names = f"{level.budget!r} {level.scope!r} {level.period!r}"
    return f"budget {names}: its amounts do not match its open holds"


def lost_level_of(hold_id: str) -> str:
    """Return the problem of a hold of which a level is missing."""
    return f"hold {hold_id}: a level of it does not exist"


class LedgerAdmin(Protocol):
    """The operations of `ridges-proxy ledger check`, `verify` and `migrate` on a SQLite or Redis ledger.

    All methods raise LedgerUnavailableError if the store does not answer.
    """

    def counts(self) -> Counts:
        """Count what the store has."""
        ...

    def count_calls(self, since: float) -> int:
        """Count the single calls that were charged at this time or later, in seconds since the epoch."""
        ...

    def records(self, limit: int) -> list[Record]:
        """Return up to `limit` runs; an empty list only if there are none."""
        ...

    def put(self, record: Record) -> None:
        """Add a run, and its open holds to their levels. If the store has the same record, change nothing.

        Raises RunExistsError if it has another record of this id.
        """
        ...

    def take(self, record: Record) -> bool:
        """Remove a run if its record has not changed, and its open holds from their levels.

        Return whether it was removed.
        """
        ...

    def level_accounts(self, limit: int) -> Sequence[LevelAccount]:
        """Return up to `limit` levels; an empty list only if there are none."""
        ...

    def put_level(self, account: LevelAccount) -> None:
        """Add the spent amounts of a level. Its held amount comes with the runs.

        If the store has the same amounts already, or the level has spent nothing, change nothing. Raises
        LevelExistsError if the store has spent other amounts.
        """
        ...

    def take_level(self, account: LevelAccount) -> bool:
        """Remove a level if it has not changed. Return whether it was removed."""
        ...

    def set_amounts(self) -> Sequence[SetAmount]:
        """Return all amounts that operators have set, as `Ledger.set_amounts` does."""
        ...

    def set_amount(self, budget: str, scope: str, amount_nanousd: int | None) -> None:
        """Set an amount, or remove it, as `Ledger.set_amount` does."""
        ...

    def waiting_alerts(self, limit: int) -> Sequence[Alert]:
        """Return up to `limit` alerts that wait for delivery, the oldest first, also claimed ones."""
        ...

    def put_alert(self, alert: Alert) -> None:
        """Add an alert to the end. If the store has it already, change nothing."""
        ...

    def drop_alert(self, alert_id: str) -> None:
        """Remove an alert, as `Ledger.drop_alert` does."""
        ...

    def put_receipt(self, receipt: Receipt) -> None:
        """Add a receipt. If the store has it already, change nothing."""
        ...

    def take_receipt(self, receipt: Receipt) -> None:
        """Remove a receipt. If the store does not have it, change nothing."""
        ...

    def history(self, since: float, cursor: str | None, limit: int) -> ReceiptPage:
        """Return one page of receipts, as `Ledger.history` does."""
        ...

    def calls(self, since: float, cursor: str | None, limit: int) -> BookedCallPage:
        """Return one page of the calls that are kept, as `Ledger.calls` does."""
        ...

    def put_calls(self, calls: Sequence[BookedCall]) -> None:
        """Add calls. Those that the store has already are not changed."""
        ...

    def take_calls(self, calls: Sequence[BookedCall]) -> None:
        """Remove calls. Those that the store does not have are skipped."""
        ...

    def audit_trail(self, query: AuditQuery) -> AuditPage:
        """Return one page of the audit trail, as `Ledger.audit_trail` does."""
        ...

    def put_entries(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries of the audit trail. Those that the store has already are not changed."""
        ...

    def take_entries(self, entries: Sequence[AuditEntry]) -> None:
        """Remove entries of the audit trail. Those that the store does not have are skipped."""
        ...

    def audit(self, report: Report = unreported) -> Audit:
        """Add up all runs, holds and receipts, and name the runs, levels and holds that do not match."""
        ...

    def inspect(self) -> tuple[dict[str, str], list[str]]:
        """Write to the store. Return facts about it, and warnings that the operator should act on.

        Raises LedgerOpeningError for a store that must not be used.
        """
        ...

    def disconnect(self) -> None:
        """Close all connections and files, as `Ledger.disconnect` does."""
        ...


@dataclass(slots=True)
class Moved:
    """Counts and sums of a completed move."""

    runs: int = 0
    receipts: int = 0
    spent_nanousd: int = 0
    held_nanousd: int = 0
    calls: int = 0
    """Single calls that the ledger keeps for a comparison with a bill."""
    levels: int = 0
    set_amounts: int = 0
    alerts: int = 0
    audit_entries: int = 0


def move(source: LedgerAdmin, target: LedgerAdmin, report: Report = unreported) -> Moved:
    """Move everything. No server may use either store in the meantime.

    All is added to the target before it is removed from the source, so that it is always in one of them.
    After an interruption, call it again: it continues with the rest. Runs come before levels: their holds
    are part of what the levels hold.

    Raises RunExistsError or LevelExistsError.
    """
    moved, counts = Moved(), source.counts()
    _move_runs(source, target, moved, lambda done: report("runs", done, counts.runs))
    _move_levels(source, target, moved, lambda done: report("levels", done, counts.levels))
    while receipts := source.history(0.0, None, BATCH).receipts:
        for receipt in receipts:
            target.put_receipt(receipt)
            source.take_receipt(receipt)
            moved.receipts += 1
        report("receipts", moved.receipts, counts.receipts)
    while calls := source.calls(0.0, None, BATCH).calls:
        target.put_calls(calls)
        source.take_calls(calls)
        moved.calls += len(calls)
        report("single calls", moved.calls, counts.calls)
    while alerts := source.waiting_alerts(BATCH):
        for alert in alerts:
            target.put_alert(alert)
            source.drop_alert(alert.id)
            moved.alerts += 1
        report("alerts", moved.alerts, counts.alerts)
    while entries := source.audit_trail(AuditQuery(limit=BATCH)).entries:
        target.put_entries(entries)
        source.take_entries(entries)
        moved.audit_entries += len(entries)
        report("audit entries", moved.audit_entries, counts.audit_entries)
    return moved


def _move_runs(
    source: LedgerAdmin, target: LedgerAdmin, moved: Moved, report: Callable[[int], object]
) -> None:
    while records := source.records(BATCH):
        for record in records:
            target.put(record)
            if not source.take(record):  # it has changed: a server still uses the source
                target.take(record)
                raise RunExistsError(record.account.run_id)
            moved.runs += 1
            moved.spent_nanousd += record.account.spent_nanousd
            moved.held_nanousd += record.account.held_nanousd
        report(moved.runs)


def _move_levels(
    source: LedgerAdmin, target: LedgerAdmin, moved: Moved, report: Callable[[int], object]
) -> None:
    """Move the levels, and before them the amounts that operators have set."""
    found = {(each.budget, each.scope): each for each in target.set_amounts()}
    for each in source.set_amounts():
        if found.get((each.budget, each.scope), each) != each:
            raise LevelExistsError(each.budget, each.scope)
        target.set_amount(each.budget, each.scope, each.amount_nanousd)
        source.set_amount(each.budget, each.scope, None)
        moved.set_amounts += 1
    while accounts := source.level_accounts(BATCH):
        for account in accounts:
            target.put_level(account)
            if not source.take_level(account):  # it has changed: a server still uses the source
                raise LevelExistsError(*account.level[:3])
            moved.levels += 1
        report(moved.levels)
