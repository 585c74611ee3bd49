"""The stores that the contract suite and the races run over, each opened fresh for one test."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ridges_proxy.ledger import Hold, Kind, Ledger, MemoryLedger, Run, SqliteLedger, SweptSlice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    OpenLedger = Callable[[Callable[[], float]], AbstractContextManager[Ledger]]
    """Opens an empty ledger that reads the given clock and forgets after TTL_SECONDS."""

TTL_SECONDS = 1200.0
EXPIRY_SECONDS = 330.0
CAP_NANOUSD = 1_000
RECEIPT_DAYS = 30


@contextmanager
def open_memory(clock: Callable[[], float]) -> Iterator[Ledger]:
    yield MemoryLedger(TTL_SECONDS, clock)


@contextmanager
def open_sqlite(clock: Callable[[], float]) -> Iterator[Ledger]:
    with TemporaryDirectory() as folder:
        yield SqliteLedger(Path(folder) / "ledger.db", TTL_SECONDS, RECEIPT_DAYS, clock)


STORES: dict[str, OpenLedger] = {"memory": open_memory, "sqlite": open_sqlite}


@dataclass(frozen=True)
class Till:
    """Short words for what tests do most."""

    ledger: Ledger

    def reserve(  # noqa: PLR0913 - all but the amounts have a default
        self,
        want: int,
        floor: int | None = None,
        run: str = "run",
        *,
        cap: int = CAP_NANOUSD,
        kind: Kind = Kind.INFERENCE,
        expiry: float = EXPIRY_SECONDS,
    ) -> Hold:
        """Reserve all of what is wanted, unless a floor is given."""
        return self.ledger.reserve(Run(run, cap), kind, want, want if floor is None else floor, expiry)

    def spend(self, cost: int, run: str = "run", *, kind: Kind = Kind.INFERENCE) -> None:
        """Make a call that costs what it held."""
        assert self.ledger.settle(self.reserve(cost, run=run, kind=kind), cost)

    def sweep(self, limit: int = 100) -> SweptSlice:
        """Sweep slice after slice until nothing is left to do."""
        whole = SweptSlice([], [], more=True)
        while whole.more:
            swept = self.ledger.sweep(limit)
            whole = SweptSlice(whole.receipts + swept.receipts, whole.overdue + swept.overdue, swept.more)
        return whole
