"""Hammers as processes that a test kills, and what must be true of the books after it."""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import TYPE_CHECKING, Self

from ridges_proxy.ledger import RunUsage
from tests.faults.hammer import CAP_NANOUSD, EXPIRY_SECONDS, RUNS, Journal, hammer_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ridges_proxy.ledger import Ledger

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.faults.hammer"])

PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.02


class HammerProcess:
    """A context manager around a process that hammers; what is acknowledged to it goes into the journal."""

    def __init__(self, journal: Journal, url: str, seed: int, most_bytes: int | None = None) -> None:
        self._journal = journal
        self._arguments = (url, seed)
        self._most_bytes = most_bytes
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._receives, sends = PROCESSES.Pipe(duplex=False)
        self._process = PROCESSES.Process(
            target=hammer_on, args=(*self._arguments, sends, self._most_bytes), daemon=True
        )
        self._process.start()
        sends.close()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def wait(self, condition: Callable[[Journal], bool]) -> None:
        """Until the journal is so."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self._journal), PATIENCE_SECONDS)

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.kill()
        self._process.join()
        self._reader.join()

    def _read(self) -> None:
        with self._receives as pipe:
            while True:
                try:
                    line = pipe.recv()
                except (EOFError, ConnectionError):  # a killed process may leave half a message
                    return
                with self._changed:
                    self._journal.note(line)
                    self._changed.notify_all()


def settle_all(ledger: Ledger) -> dict[str, RunUsage]:
    """Sweep until nothing is held, which must come; the books of all runs."""
    end = time.monotonic() + EXPIRY_SECONDS + PATIENCE_SECONDS
    while True:
        while ledger.sweep(100).more:
            pass
        books = {run: ledger.usage(run) or RunUsage(run, CAP_NANOUSD) for run in RUNS}
        if not any(each.in_flight for each in books.values()):
            assert not any(each.held_nanousd for each in books.values())
            return books
        assert time.monotonic() < end, books
        time.sleep(POLL_SECONDS)


def assert_true(ledger: Ledger, journals: list[Journal], killed: int = 0) -> None:
    """Nothing that was acknowledged is gone, nothing is charged that nobody asked for, no cap is passed."""
    for run, books in settle_all(ledger).items():
        least = sum(journal.charged[run] for journal in journals)
        most = sum(journal.most(run, 0) for journal in journals) + killed * EXCESS_NANOUSD
        assert least <= books.spent_nanousd <= min(CAP_NANOUSD, most), (run, least, books, most)


EXCESS_NANOUSD = Journal().most(RUNS[0], killed=1)
"""What one killed process may leave undecided: the reservation that it was making."""
