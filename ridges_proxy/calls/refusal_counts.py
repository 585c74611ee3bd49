"""Refused calls of this process, by run and code, on their way to the ledger. No amount depends on them."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from ridges_proxy.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.ledger import Ledger

MAX_RUNS = 1_000
"""Runs that are counted between two flushes. Refused calls of further runs are not counted."""

BATCH_RUNS = 100
"""Runs that one step of the ledger counts: a store does nothing else during the step."""


class RefusalCounts:
    """Collects refused calls, and gives their numbers to the ledger once a second.

    While the ledger is unavailable they are kept. If it has counted them and only its answer was lost, they
    are counted twice.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._counts: dict[str, Counter[str]] = {}

    def record(self, run_id: str, code: str) -> None:
        """Count a refused call of a run by the code of its error."""
        self._add(run_id, {code: 1})

    def flush(self) -> None:
        """Give the numbers to the ledger. Raises LedgerUnavailableError."""
        waiting, self._counts = self._counts, {}
        try:
            while waiting:
                batch = dict(islice(waiting.items(), BATCH_RUNS))
                self._ledger.count_refusals(batch)
                for run_id in batch:
                    del waiting[run_id]
        except LedgerUnavailableError:
            for run_id, numbers in waiting.items():
                self._add(run_id, numbers)
            raise

    def _add(self, run_id: str, numbers: Mapping[str, int]) -> None:
        if run_id in self._counts or len(self._counts) < MAX_RUNS:
            self._counts.setdefault(run_id, Counter()).update(numbers)
