"""Races over every store. `test_patched.py` runs this file once more in a process patched by gevent."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import BudgetExhaustedError, BudgetHeldError
from ridges_proxy.ledger import Hold, Kind, Run, RunQuery, RunUsage

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger import Ledger
    from tests.concurrency.line_up import LineUp

CONTENDERS = 100
CALLS_EACH = 10
NEVER_SECONDS = 1e9
TIGHT_NANOUSD = 5_000
AMPLE_NANOUSD = 10**9


def try_to_reserve(ledger: Ledger, run: Run, want: int, floor: int) -> Hold | None:
    try:
        return ledger.reserve(run, Kind.INFERENCE, want, floor, NEVER_SECONDS)
    except BudgetHeldError:
        return None


# --- one race


def test_of_a_hundred_calls_at_once_exactly_the_five_that_the_budget_pays_for_are_admitted(
    ledger: Ledger, line_up: LineUp
) -> None:
    run = Run("run", 5 * 1_001 + 1_000)
    holds = line_up([partial(try_to_reserve, ledger, run, 1_001, 1_001)] * CONTENDERS)
    admitted = [hold for hold in holds if hold]
    assert len(admitted) == 5
    books = ledger.usage("run")
    assert books
    assert (books.spent_nanousd, books.held_nanousd, books.in_flight) == (0, 5 * 1_001, 5)
    assert books.remaining_nanousd == 1_000

    line_up([partial(ledger.settle, hold, 101 + index) for index, hold in enumerate(admitted)])
    books = ledger.usage("run")
    assert books
    assert (books.spent_nanousd, books.held_nanousd, books.calls, books.in_flight) == (515, 0, 5, 0)
    assert books.remaining_nanousd == run.budget_nanousd - 515


def test_of_a_hundred_calls_at_once_the_last_admitted_gets_exactly_what_is_left(
    ledger: Ledger, line_up: LineUp
) -> None:
    holds = line_up([partial(try_to_reserve, ledger, Run("run", 1_000), 300, 50)] * CONTENDERS)
    assert sorted(hold.amount_nanousd for hold in holds if hold) == [100, 300, 300, 300]


def test_calls_of_many_runs_at_once_do_not_draw_on_each_other(ledger: Ledger, line_up: LineUp) -> None:
    runs = [Run(f"run-{index % 20}", 3) for index in range(CONTENDERS)]
    holds = line_up([partial(try_to_reserve, ledger, run, 1, 1) for run in runs])
    assert set(Counter(hold.run_id for hold in holds if hold).values()) == {3}
    assert sum(hold is not None for hold in holds) == 60


@pytest.mark.parametrize("also_release", [False, True], ids=["settle", "settle or release"])
def test_of_a_hundred_that_resolve_one_hold_at_once_exactly_one_does(
    ledger: Ledger, line_up: LineUp, *, also_release: bool
) -> None:
    hold = ledger.reserve(Run("run", 1_000), Kind.INFERENCE, 1_000, 1_000, NEVER_SECONDS)
    ways: list[Callable[[], RunUsage | None]] = [partial(ledger.settle, hold, 7)]
    if also_release:
        ways.append(partial(ledger.release, hold))
    results = line_up(list(itertools.islice(itertools.cycle(ways), CONTENDERS)))
    (winner,) = [books for books in results if books]
    books = ledger.usage("run")
    assert books
    assert (books.held_nanousd, books.in_flight) == (0, 0)
    assert (books.spent_nanousd, books.calls) == (winner.spent_nanousd, winner.calls)
    assert (books.spent_nanousd, books.calls) in {(7, 1), (0, 0)}


# --- a storm


@dataclass
class Tally:
    """What one contender did, as the ledger told it."""

    granted: int = 0
    resolved: int = 0
    charged: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    forgotten_nanousd: int = 0

    def note(self, hold: Hold, cost: int | None) -> None:
        self.resolved += 1
        if cost is not None:
            self.charged[hold.run_id, hold.kind] += cost
            self.calls[hold.run_id] += 1


def storm(ledger: Ledger, seed: int, cap: int, expiries: tuple[float, ...]) -> Tally:
    """Reserve, then settle below, at or above the hold, release, do it twice, or leave it to the sweep."""
    chosen = random.Random(seed)
    run_ids = ("a", "b", f"own-{seed}")
    tally = Tally()
    for _ in range(CALLS_EACH):
        run, kind = Run(chosen.choice(run_ids), cap), chosen.choice(list(Kind))
        expiry = chosen.choice(expiries)
        try:
            hold = ledger.reserve(run, kind, 1_000, 10, expiry)
        except (BudgetHeldError, BudgetExhaustedError):
            continue
        tally.granted += 1
        for _ in range(chosen.choice((1, 2) if expiry == NEVER_SECONDS else (0, 1, 2))):
            cost = chosen.choice((None, 3, hold.amount_nanousd, hold.amount_nanousd + 17))
            books = ledger.release(hold) if cost is None else ledger.settle(hold, cost)
            if books:
                tally.note(hold, cost)
    return tally


def sweeps(ledger: Ledger) -> Tally:
    tally = Tally()
    for _ in range(CALLS_EACH):
        sweep(ledger, tally)
    return tally


def sweep(ledger: Ledger, tally: Tally) -> None:
    swept = ledger.sweep(2)
    for hold in swept.overdue:
        tally.note(hold, hold.amount_nanousd)
    tally.forgotten_nanousd += sum(receipt.spent_nanousd for receipt in swept.receipts)


def total(tallies: list[Tally]) -> Tally:
    return Tally(
        granted=sum(each.granted for each in tallies),
        resolved=sum(each.resolved for each in tallies),
        charged=sum((each.charged for each in tallies), Counter()),
        calls=sum((each.calls for each in tallies), Counter()),
        forgotten_nanousd=sum(each.forgotten_nanousd for each in tallies),
    )


@pytest.mark.parametrize("cap", [TIGHT_NANOUSD, AMPLE_NANOUSD], ids=["tight", "ample"])
def test_after_a_storm_the_books_add_up_to_the_nanodollar(ledger: Ledger, line_up: LineUp, cap: int) -> None:
    never = (NEVER_SECONDS,)
    told = total(line_up([partial(storm, ledger, seed, cap, never) for seed in range(CONTENDERS)]))
    assert told.granted == told.resolved
    assert told.granted == CONTENDERS * CALLS_EACH or cap == TIGHT_NANOUSD
    page = ledger.list(RunQuery(limit=CONTENDERS + 2))
    assert {run_id for run_id, _ in told.charged} <= {books.run_id for books in page.runs}
    for books in page.runs:
        assert books.inference_nanousd == told.charged[books.run_id, Kind.INFERENCE]
        assert books.embedding_nanousd == told.charged[books.run_id, Kind.EMBEDDING]
        assert (books.calls, books.held_nanousd, books.in_flight) == (told.calls[books.run_id], 0, 0)


def test_sweeps_during_a_storm_lose_no_nanodollar_and_no_hold(ledger: Ledger, line_up: LineUp) -> None:
    """The clock goes on by a second a look, so that holds become overdue and runs are forgotten meanwhile."""
    expiries = (0.0, 40.0, NEVER_SECONDS)
    storms = [partial(storm, ledger, seed, AMPLE_NANOUSD, expiries) for seed in range(CONTENDERS - 10)]
    tallies = line_up([*storms, *[partial(sweeps, ledger)] * 10])
    last = Tally()
    while ledger.list(RunQuery()).total:
        sweep(ledger, last)
    told = total([*tallies, last])
    assert told.granted == told.resolved == (CONTENDERS - 10) * CALLS_EACH
    assert told.charged.total() == told.forgotten_nanousd
