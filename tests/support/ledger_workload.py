"""A workload that reserves and settles until it is stopped, with a journal of every acknowledged change.

A test compares the journal with the ledger after a failure. Processes and threads may run the workload.
"""

from __future__ import annotations

import random
import resource
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from ridges_proxy.config import LedgerSettings, load_settings
from ridges_proxy.errors import BudgetExhaustedError, LedgerUnavailableError, RunBusyError
from ridges_proxy.ledger import Kind, Outbox, Run, RunUsage, open_ledger
from ridges_proxy.ledger.redis.client import AwayError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from ridges_proxy.ledger import Hold, Ledger

RUNS = ("a", "b", "c")
BUDGET_NANOUSD = 5_000_000_000
MAX_REQUESTED_NANOUSD = 900_000
EXPIRY_SECONDS = 1.0

PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.02


class Entry(NamedTuple):
    """One outcome, as the ledger acknowledged it. `unanswered` is a reservation without a reply."""

    outcome: Literal["held", "charged", "released", "unanswered"]
    run: str
    hold_id: str = ""
    amount_nanousd: int = 0


@dataclass
class Journal:
    """The sums of all entries, by run."""

    charged: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RUNS, 0))
    open: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Run and amount of the holds that are not known to be resolved."""
    unanswered: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RUNS, 0))
    """Count of reservations without a reply."""
    entries: int = 0

    def record(self, entry: Entry) -> None:
        self.entries += 1
        if entry.outcome == "held":
            self.open[entry.hold_id] = (entry.run, entry.amount_nanousd)
        elif entry.outcome == "unanswered":
            self.unanswered[entry.run] += 1
        else:
            del self.open[entry.hold_id]
            self.charged[entry.run] += entry.amount_nanousd

    def max_spent(self, run: str) -> int:
        """The most that the run can have spent, if every open and unanswered hold was charged in full."""
        open_nanousd = sum(amount for of_run, amount in self.open.values() if of_run == run)
        return self.charged[run] + open_nanousd + self.unanswered[run] * MAX_REQUESTED_NANOUSD


class Workload:
    """One caller, with a seeded random choice of runs, amounts and resolutions."""

    def __init__(self, ledger: Ledger, outbox: Outbox, seed: int, record: Callable[[Entry], object]) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._random = random.Random(seed)
        self._record = record

    def step(self) -> bool:
        """Make one call. Return whether the ledger answered every request."""
        run = self._random.choice(RUNS)
        try:
            hold = self._ledger.reserve(
                Run(run, BUDGET_NANOUSD),
                self._random.choice(list(Kind)),
                self._random.randrange(1, MAX_REQUESTED_NANOUSD),
                1,
                EXPIRY_SECONDS,
            )
        except (RunBusyError, BudgetExhaustedError):
            return True
        except AwayError:
            return False
        except LedgerUnavailableError:
            self._record(Entry("unanswered", run))
            return False
        self._record(Entry("held", run, hold.id, hold.amount_nanousd))
        return self._resolve(hold)

    def _resolve(self, hold: Hold) -> bool:
        cost = self._random.choice((None, hold.amount_nanousd, self._random.randint(0, hold.amount_nanousd)))
        if self._outbox.resolve(hold, cost) is None:
            return False  # kept in the outbox, or charged by a sweep
        self._record(Entry("released" if cost is None else "charged", hold.run_id, hold.id, cost or 0))
        return True


def run_workload(url: str, seed: int, connection: Connection, max_file_bytes: int | None = None) -> None:
    """Run the workload until the process is killed, and send every entry over the connection.

    With `max_file_bytes`, no file can grow above that size, as on a full disk.
    """
    ledger = open_ledger(load_settings(LedgerSettings, {"LEDGER_URL": url}))
    workload = Workload(ledger, Outbox(ledger), seed, connection.send)
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, resource.RLIM_INFINITY))
    while True:
        workload.step()
        if max_file_bytes is None:
            ledger.maintain()


def sweep_until_nothing_is_held(ledger: Ledger) -> dict[str, RunUsage]:
    """Sweep until all holds are resolved, at the latest when they expire. Return the usage of all runs."""
    deadline = time.monotonic() + EXPIRY_SECONDS + PATIENCE_SECONDS
    while True:
        while ledger.sweep(100).more:
            pass
        usages = {run: ledger.usage(run) or RunUsage(run, BUDGET_NANOUSD) for run in RUNS}
        if not any(usage.in_flight for usage in usages.values()):
            assert not any(usage.held_nanousd for usage in usages.values())
            return usages
        assert time.monotonic() < deadline, usages
        time.sleep(POLL_SECONDS)


def assert_matches(ledger: Ledger, journals: list[Journal], killed: int = 0) -> None:
    """Assert that no acknowledged charge is lost, none was made without a request, and no budget is exceeded.

    Each killed process may leave one reservation that the journal does not contain.
    """
    for run, usage in sweep_until_nothing_is_held(ledger).items():
        min_spent = sum(journal.charged[run] for journal in journals)
        max_spent = sum(journal.max_spent(run) for journal in journals) + killed * MAX_REQUESTED_NANOUSD
        assert min_spent <= usage.spent_nanousd <= min(BUDGET_NANOUSD, max_spent), (run, usage, max_spent)
