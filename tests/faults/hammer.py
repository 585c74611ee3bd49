"""Reserves and settles without end, and tells what it was told: nothing acknowledged can get lost unseen."""

from __future__ import annotations

import random
import resource
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ridges_proxy.config import LedgerSettings, load_settings
from ridges_proxy.errors import BudgetExhaustedError, BudgetHeldError, LedgerUnavailableError
from ridges_proxy.ledger import Kind, Outbox, Run, open_ledger
from ridges_proxy.ledger.redis.client import AwayError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from ridges_proxy.ledger import Hold, Ledger

RUNS = ("a", "b", "c")
CAP_NANOUSD = 5_000_000_000

WANT_NANOUSD = 900_000
EXPIRY_SECONDS = 1.0


@dataclass
class Journal:
    """What was acknowledged, by run."""

    charged: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RUNS, 0))
    open: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Holds not known to be resolved: run and amount."""
    doubts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RUNS, 0))
    """Reservations without an answer."""
    lines: int = 0

    def note(self, line: tuple[str, str, str, int]) -> None:
        what, run, hold_id, amount = line
        self.lines += 1
        if what == "held":
            self.open[hold_id] = (run, amount)
        elif what == "doubt":
            self.doubts[run] += 1
        elif what in {"charged", "released"}:
            del self.open[hold_id]
            self.charged[run] += amount

    def most(self, run: str, killed: int) -> int:
        """The most that the run may have spent, if so many hammers were killed in the middle of a step."""
        undecided = sum(amount for of_run, amount in self.open.values() if of_run == run)
        return self.charged[run] + undecided + (self.doubts[run] + killed) * WANT_NANOUSD


class Hammer:
    """One caller."""

    def __init__(
        self, ledger: Ledger, outbox: Outbox, seed: int, tell: Callable[[tuple[str, str, str, int]], None]
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._random = random.Random(seed)
        self._tell = tell

    def step(self) -> bool:
        """One call; whether the ledger answered all that it was asked."""
        run = self._random.choice(RUNS)
        try:
            hold = self._ledger.reserve(
                Run(run, CAP_NANOUSD),
                self._random.choice(list(Kind)),
                self._random.randrange(1, WANT_NANOUSD),
                1,
                EXPIRY_SECONDS,
            )
        except (BudgetHeldError, BudgetExhaustedError):
            return True
        except AwayError:
            return False
        except LedgerUnavailableError:
            self._tell(("doubt", run, "", 0))
            return False
        self._tell(("held", run, hold.id, hold.amount_nanousd))
        return self._resolve(hold)

    def _resolve(self, hold: Hold) -> bool:
        cost = self._random.choice((None, hold.amount_nanousd, self._random.randint(0, hold.amount_nanousd)))
        if self._outbox.resolve(hold, cost) is None:
            return False  # kept, or charged by a sweep
        self._tell(("released" if cost is None else "charged", hold.run_id, hold.id, cost or 0))
        return True


def hammer_on(url: str, seed: int, connection: Connection, most_bytes: int | None = None) -> None:
    """Hammer until killed, and send what was acknowledged.

    With `most_bytes`, no file can grow above it, as on a full disk.
    """
    ledger = open_ledger(load_settings(LedgerSettings, {"LEDGER_URL": url}))
    hammer = Hammer(ledger, Outbox(ledger), seed, connection.send)
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    while True:
        hammer.step()
        if most_bytes is None:
            ledger.maintain()
