"""Moving all runs, receipts and calls from one store to another, and auditing a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ridges_proxy.ledger.account import Account
    from ridges_proxy.ledger.models import BookedCall, BookedCallPage, Hold, Receipt, ReceiptPage

BATCH = 100
"""Runs or receipts that are read from the source at a time."""


class RunExistsError(Exception):
    """The target has a run of this id with other amounts, or the run changed while it was moved."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"{run_id!r} is in both stores, with different amounts; it was not moved")


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that a store has of a run."""

    account: Account
    holds: list[Hold]
    """Open holds, in the order of their ids."""


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

    @property
    def missing_nanousd(self) -> int:
        """Charged amounts that no run and no receipt has; negative: amounts that were never charged."""
        found = self.spent_nanousd + self.receipts_nanousd + self.reset_nanousd + self.dropped_nanousd
        return self.charged_nanousd - found


class LedgerAdmin(Protocol):
    """The operations of `ridges-proxy ledger check`, `verify` and `migrate` on a SQLite or Redis ledger.

    All methods raise LedgerUnavailableError if the store does not answer.
    """

    def records(self, limit: int) -> list[Record]:
        """Return up to `limit` runs; an empty list only if there are none."""
        ...

    def put(self, record: Record) -> None:
        """Add a run. If the store has the same record already, change nothing.

        Raises RunExistsError if it has another record of this id.
        """
        ...

    def take(self, record: Record) -> bool:
        """Remove a run if its record has not changed. Return whether it was removed."""
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

    def audit(self) -> Audit:
        """Add up all runs, holds and receipts, and name the runs and holds that do not match."""
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


def move(source: LedgerAdmin, target: LedgerAdmin) -> Moved:
    """Move all runs, holds, receipts and calls. No server may use either store in the meantime.

    A run is added to the target before it is removed from the source, so that it is always in one of them.
    After an interruption, call it again: it continues with the rest.

    Raises RunExistsError.
    """
    moved = Moved()
    while records := source.records(BATCH):
        for record in records:
            target.put(record)
            if not source.take(record):  # it has changed: a server still uses the source
                target.take(record)
                raise RunExistsError(record.account.run_id)
            moved.runs += 1
            moved.spent_nanousd += record.account.spent_nanousd
            moved.held_nanousd += record.account.held_nanousd
    while receipts := source.history(0.0, None, BATCH).receipts:
        for receipt in receipts:
            target.put_receipt(receipt)
            source.take_receipt(receipt)
            moved.receipts += 1
    while calls := source.calls(0.0, None, BATCH).calls:
        target.put_calls(calls)
        source.take_calls(calls)
        moved.calls += len(calls)
    return moved
