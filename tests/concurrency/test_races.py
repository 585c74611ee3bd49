"""Races over every store. `test_races_under_gevent.py` runs this file in a process patched by gevent."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ridges_proxy.errors import BudgetExhaustedError, RunBusyError
from ridges_proxy.ledger import Hold, Kind, Run, RunQuery, RunUsage
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger import Ledger
    from tests.concurrency.simultaneous import RunTogether

JOBS = 100
CALLS_EACH = 10
NEVER_SECONDS = 1e9
SMALL_BUDGET_NANOUSD = 5_000
LARGE_BUDGET_NANOUSD = 10**9


def try_to_reserve(ledger: Ledger, run: Run, requested: int, minimum: int) -> Hold | None:
    try:
        return ledger.reserve(run, Kind.INFERENCE, requested, minimum, NEVER_SECONDS)
    except RunBusyError:
        return None


def usage_of(ledger: Ledger, run_id: str) -> RunUsage:
    usage = ledger.usage(run_id)
    assert usage
    return usage


# --- one race


def test_of_100_simultaneous_calls_exactly_the_5_that_the_budget_pays_for_are_admitted(
    ledger: Ledger, run_together: RunTogether
) -> None:
    run = Run("run", 5 * 1_001 + 1_000)
    holds = run_together([partial(try_to_reserve, ledger, run, 1_001, 1_001)] * JOBS)
    admitted = [hold for hold in holds if hold]
    assert len(admitted) == 5
    usage = usage_of(ledger, "run")
    assert (usage.spent_nanousd, usage.held_nanousd, usage.in_flight) == (0, 5 * 1_001, 5)
    assert usage.remaining_nanousd == 1_000

    run_together([partial(ledger.settle, hold, 101 + index) for index, hold in enumerate(admitted)])
    usage = usage_of(ledger, "run")
    assert (usage.spent_nanousd, usage.held_nanousd, usage.calls, usage.in_flight) == (515, 0, 5, 0)
    assert usage.remaining_nanousd == run.budget_nanousd - 515


def test_of_100_simultaneous_calls_the_last_admitted_gets_exactly_what_remains(
    ledger: Ledger, run_together: RunTogether
) -> None:
    holds = run_together([partial(try_to_reserve, ledger, Run("run", 1_000), 300, 50)] * JOBS)
    assert sorted(hold.amount_nanousd for hold in holds if hold) == [100, 300, 300, 300]


def test_simultaneous_calls_of_many_runs_do_not_draw_on_each_other(
    ledger: Ledger, run_together: RunTogether
) -> None:
    runs = [Run(f"run-{index % 20}", 3) for index in range(JOBS)]
    holds = run_together([partial(try_to_reserve, ledger, run, 1, 1) for run in runs])
    assert set(Counter(hold.run_id for hold in holds if hold).values()) == {3}
    assert sum(hold is not None for hold in holds) == 60


def test_of_100_simultaneous_resolutions_of_a_hold_exactly_one_counts(
    ledger: Ledger, run_together: RunTogether
) -> None:
    def check(run_id: str) -> None:
        hold = ledger.reserve(Run(run_id, 1_000), Kind.INFERENCE, 1_000, 1_000, NEVER_SECONDS)
        resolutions: list[Callable[[], RunUsage | None]] = [partial(ledger.settle, hold, 7)]
        if run_id == "settle or release":
            resolutions.append(partial(ledger.release, hold))
        results = run_together(list(itertools.islice(itertools.cycle(resolutions), JOBS)))
        (winner,) = [usage for usage in results if usage]
        usage = usage_of(ledger, run_id)
        assert (usage.held_nanousd, usage.in_flight) == (0, 0)
        assert (usage.spent_nanousd, usage.calls) == (winner.spent_nanousd, winner.calls)
        assert (usage.spent_nanousd, usage.calls) in {(7, 1), (0, 0)}

    check_rows(["settle", "settle or release"], check)


# --- many calls at once


@dataclass
class Tally:
    """The effects of a job, according to the replies of the ledger."""

    granted: int = 0
    resolved: int = 0
    charged: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    forgotten_nanousd: int = 0

    def record(self, hold: Hold, cost: int | None) -> None:
        self.resolved += 1
        if cost is not None:
            self.charged[hold.run_id, hold.kind] += cost
            self.calls[hold.run_id] += 1


def make_calls(ledger: Ledger, seed: int, budget: int, expiries: tuple[float, ...]) -> Tally:
    """Reserve; then settle below, at or above the hold, release, resolve it twice, or let it expire."""
    seeded = random.Random(seed)
    run_ids = (f"{budget}-a", f"{budget}-b", f"{budget}-own-{seed}")
    tally = Tally()
    for _ in range(CALLS_EACH):
        run, kind = Run(seeded.choice(run_ids), budget), seeded.choice(list(Kind))
        expiry = seeded.choice(expiries)
        try:
            hold = ledger.reserve(run, kind, 1_000, 10, expiry)
        except (RunBusyError, BudgetExhaustedError):
            continue
        tally.granted += 1
        for _ in range(seeded.choice((1, 2) if expiry == NEVER_SECONDS else (0, 1, 2))):
            cost = seeded.choice((None, 3, hold.amount_nanousd, hold.amount_nanousd + 17))
            usage = ledger.release(hold) if cost is None else ledger.settle(hold, cost)
            if usage:
                tally.record(hold, cost)
    return tally


def sweep_often(ledger: Ledger) -> Tally:
    tally = Tally()
    for _ in range(CALLS_EACH):
        sweep(ledger, tally)
    return tally


def sweep(ledger: Ledger, tally: Tally) -> None:
    swept = ledger.sweep(2)
    for hold in swept.expired:
        tally.record(hold, hold.amount_nanousd)
    tally.forgotten_nanousd += sum(receipt.spent_nanousd for receipt in swept.receipts)


def sum_of(tallies: list[Tally]) -> Tally:
    return Tally(
        granted=sum(each.granted for each in tallies),
        resolved=sum(each.resolved for each in tallies),
        charged=sum((each.charged for each in tallies), Counter()),
        calls=sum((each.calls for each in tallies), Counter()),
        forgotten_nanousd=sum(each.forgotten_nanousd for each in tallies),
    )


def test_after_1000_simultaneous_calls_the_usage_is_exact_to_the_nanodollar(
    ledger: Ledger, run_together: RunTogether
) -> None:
    def check(budget: int) -> None:
        jobs = [partial(make_calls, ledger, seed, budget, (NEVER_SECONDS,)) for seed in range(JOBS)]
        tally = sum_of(run_together(jobs))
        assert tally.granted == tally.resolved
        assert tally.granted == JOBS * CALLS_EACH or budget == SMALL_BUDGET_NANOUSD
        page = ledger.list(RunQuery(search=f"{budget}-", limit=JOBS + 2))
        assert {run_id for run_id, _ in tally.charged} <= {usage.run_id for usage in page.runs}
        for usage in page.runs:
            assert usage.inference_nanousd == tally.charged[usage.run_id, Kind.INFERENCE]
            assert usage.embedding_nanousd == tally.charged[usage.run_id, Kind.EMBEDDING]
            assert (usage.calls, usage.held_nanousd, usage.in_flight) == (tally.calls[usage.run_id], 0, 0)

    check_rows([SMALL_BUDGET_NANOUSD, LARGE_BUDGET_NANOUSD], check)


def test_sweeps_during_simultaneous_calls_lose_no_nanodollar_and_no_hold(
    ledger: Ledger, run_together: RunTogether
) -> None:
    """The clock advances at each reading, so holds expire and runs are forgotten in the meantime."""
    expiries = (0.0, 40.0, NEVER_SECONDS)
    calls = [partial(make_calls, ledger, seed, LARGE_BUDGET_NANOUSD, expiries) for seed in range(JOBS - 10)]
    tallies = run_together([*calls, *[partial(sweep_often, ledger)] * 10])
    last = Tally()
    while ledger.list(RunQuery()).total:
        sweep(ledger, last)
    tally = sum_of([*tallies, last])
    assert tally.granted == tally.resolved == (JOBS - 10) * CALLS_EACH
    assert tally.charged.total() == tally.forgotten_nanousd
