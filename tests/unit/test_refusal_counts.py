"""Refused calls on their way to the ledger: counted once, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from ridges_proxy.calls.refusal_counts import BATCH_RUNS, MAX_RUNS, RefusalCounts
from ridges_proxy.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.ledger import Ledger


class Books:
    """A ledger that notes what it is given, and is unavailable from step `fails_at` on."""

    def __init__(self) -> None:
        self.steps: list[dict[str, dict[str, int]]] = []
        self.fails_at: int | None = None

    def count_refusals(self, refusals: Mapping[str, Mapping[str, int]]) -> None:
        if self.fails_at is not None and len(self.steps) >= self.fails_at:
            raise LedgerUnavailableError
        self.steps.append({run: dict(numbers) for run, numbers in refusals.items()})

    def runs(self) -> list[str]:
        return [run for step in self.steps for run in step]


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def counts(books: Books) -> RefusalCounts:
    return RefusalCounts(cast("Ledger", books))


def test_each_refused_call_is_reported_once(counts: RefusalCounts, books: Books) -> None:
    for run, code in (("a", "run_busy"), ("b", "run_busy"), ("a", "run_busy"), ("a", "rate_limited")):
        counts.record(run, code)
    counts.flush()
    counts.flush()
    assert books.steps == [{"a": {"run_busy": 2, "rate_limited": 1}, "b": {"run_busy": 1}}]


def test_further_runs_are_left_out_until_the_next_flush(counts: RefusalCounts, books: Books) -> None:
    for number in range(MAX_RUNS + 5):
        counts.record(f"run-{number}", "run_busy")
    counts.record("run-0", "run_busy")
    counts.flush()
    assert len(books.runs()) == MAX_RUNS
    assert books.steps[0]["run-0"] == {"run_busy": 2}
    assert {len(step) for step in books.steps} == {BATCH_RUNS}
    counts.record("another", "run_busy")
    counts.flush()
    assert books.steps[-1] == {"another": {"run_busy": 1}}


def test_what_the_ledger_did_not_take_is_kept_without_what_it_took(
    counts: RefusalCounts, books: Books
) -> None:
    for number in range(2 * BATCH_RUNS):
        counts.record(f"run-{number}", "run_busy")
    books.fails_at = 1
    with pytest.raises(LedgerUnavailableError):
        counts.flush()
    last = f"run-{2 * BATCH_RUNS - 1}"
    counts.record(last, "run_busy")
    books.fails_at = None
    counts.flush()
    assert sorted(books.runs()) == sorted(f"run-{number}" for number in range(2 * BATCH_RUNS))
    assert books.steps[-1][last] == {"run_busy": 2}
