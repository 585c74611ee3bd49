"""Moving runs and receipts from one store to another, and adding the books up anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ridges_proxy.ledger.account import Account
    from ridges_proxy.ledger.models import Hold, Receipt, ReceiptPage

AT_ONCE = 100


class RunExistsError(Exception):
    """The store to move to has another run, or another receipt, of the same name."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"{run_id!r} is in both stores, with different books; nothing of it was moved")
        self.run_id = run_id


@dataclass(frozen=True, slots=True)
class Record:
    """All that a store knows of a run."""

    account: Account
    holds: list[Hold]
    """Open ones, by their ids."""


@dataclass(slots=True)
class Audit:
    """The books, added up anew. Amounts in nano-USD."""

    runs: int = 0
    holds: int = 0
    receipts: int = 0
    spent_nanousd: int = 0
    held_nanousd: int = 0
    receipts_nanousd: int = 0
    charged_nanousd: int = 0
    """All that was ever charged, by a count of its own."""
    reset_nanousd: int = 0
    """Of it, what resets have forgotten."""
    dropped_nanousd: int = 0
    """Of it, what stood on receipts that are no longer kept."""
    problems: list[str] = field(default_factory=list)

    @property
    def missing_nanousd(self) -> int:
        """What was charged and is nowhere; negative: what is somewhere and was never charged."""
        found = self.spent_nanousd + self.receipts_nanousd + self.reset_nanousd + self.dropped_nanousd
        return self.charged_nanousd - found


class LedgerAdmin(Protocol):
    """What the command line can do with a store that outlives its processes."""

    def records(self, limit: int) -> list[Record]:
        """Some of the runs; none if there are none."""
        ...

    def put(self, record: Record) -> None:
        """Take a run over. If it is there just so, nothing changes. Raises RunExistsError."""
        ...

    def take(self, record: Record) -> bool:
        """Give a run up, if it still is just so; whether it was."""
        ...

    def put_receipt(self, receipt: Receipt) -> None:
        """Take a receipt over. If it is there, nothing changes."""
        ...

    def take_receipt(self, receipt: Receipt) -> None:
        """Give a receipt up. If it is not there, nothing changes."""
        ...

    def history(self, since: float, cursor: str | None, limit: int) -> ReceiptPage:
        """As in the contract."""
        ...

    def audit(self) -> Audit:
        """Add up the books from holds and receipts, and name what does not fit."""
        ...

    def inspect(self) -> tuple[dict[str, str], list[str]]:
        """Write to the store; what it is like, and what should be mended about it.

        Raises LedgerUnavailableError, and LedgerOpeningError for a store that must not be used.
        """
        ...

    def disconnect(self) -> None:
        """As in the contract."""
        ...


@dataclass(slots=True)
class Moved:
    """What a move has moved."""

    runs: int = 0
    receipts: int = 0
    spent_nanousd: int = 0
    held_nanousd: int = 0


def move(source: LedgerAdmin, target: LedgerAdmin) -> Moved:
    """Move everything. No server may use either. If it breaks off, move again: it goes on where it was.

    Every run is in the target before it leaves the source, so that none is ever in neither.
    """
    moved = Moved()
    while records := source.records(AT_ONCE):
        for record in records:
            target.put(record)
            if not source.take(record):  # somebody still spends on it
                target.take(record)
                raise RunExistsError(record.account.run_id)
            moved.runs += 1
            moved.spent_nanousd += record.account.spent_nanousd
            moved.held_nanousd += record.account.held_nanousd
    while receipts := source.history(0.0, None, AT_ONCE).receipts:
        for receipt in receipts:
            target.put_receipt(receipt)
            source.take_receipt(receipt)
            moved.receipts += 1
    return moved
