"""Measure what budgets above a run cost: reserve and settle with 0, 1, 4 and 8 levels, on each store.

    python -m bench.levels [--groups 10000] [--rounds 501]

The ledger knows 10,000 groups, each with a level of its own. Each call is of another group. The numbers of
levels take turns in one process, so a change of the machine's speed meets all of them: the ratios are
between neighbours.
"""

from __future__ import annotations

# Patch before any other import, as gunicorn.conf.py does.
from gevent import monkey

monkey.patch_all()

import contextlib  # noqa: E402 - after the patch
import os  # noqa: E402
import random  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from dataclasses import replace  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from bench.ledger_setup import ledger_urls, numbered_run, open_ledger_url, reserve_and_settle  # noqa: E402
from bench.options import argument_parser  # noqa: E402
from bench.processes import split_cores  # noqa: E402
from bench.tables import print_heading, print_table  # noqa: E402
from ridges_proxy.billing.budgets import Budget, Budgets  # noqa: E402
from ridges_proxy.billing.money import NANOUSD_PER_USD  # noqa: E402

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ridges_proxy.ledger import Ledger, Run

LEVEL_COUNTS = (0, 1, 4, 8)
CALLS_PER_ROUND = 20
RUNS = 1_000
AMOUNT_NANOUSD = 1_000_000 * NANOUSD_PER_USD
"""Of each budget, so that none is used up."""

COLUMNS = ("store", "0 levels", *(f"{count} levels" for count in LEVEL_COUNTS[1:]), "for each level")


def main() -> None:
    options = parse_options()
    server_cores, other_cores = split_cores()
    os.sched_setaffinity(0, server_cores)
    rows = []
    with contextlib.ExitStack() as stack:
        for name, url in ledger_urls(stack, other_cores):
            ledger = open_ledger_url(url)
            add_groups(ledger, options.groups)
            rows.append([name, *cells(ratios(ledger, options.groups, options.rounds))])
    print_heading(f"Reserve and settle with levels, {options.groups:,} groups known")
    print_table(COLUMNS, rows)


def parse_options() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--groups", type=int, default=10_000, help="groups that the ledger knows (10000)")
    parser.add_argument("--rounds", type=int, default=501, help="rounds of each number of levels (501)")
    return parser.parse_args()


def budgets(count: int) -> Budgets:
    """So many budgets, of which a call draws on all. The first has a level for each group."""
    patterns = ("team:*", *[None] * (count - 1)) if count else ()
    return Budgets(
        [
            Budget(f"budget-{number}", AMOUNT_NANOUSD, "month", group=pattern)
            for number, pattern in enumerate(patterns)
        ]
    )


def run_of(group: int, above: Budgets) -> Run:
    groups = (f"team:{group}",)
    levels = above.levels_of(groups, None, None, time.time())
    return replace(numbered_run(group % RUNS), groups=groups, levels=levels)


def add_groups(ledger: Ledger, count: int) -> None:
    above = budgets(1)
    for group in range(count):
        reserve_and_settle(ledger, run_of(group, above))
    ledger.maintain()


def ratios(ledger: Ledger, groups: int, rounds: int) -> dict[int, list[float]]:
    """The microseconds of a call without levels, and for each other number of levels the ratios to it."""
    above = {count: budgets(count) for count in LEVEL_COUNTS}
    found: dict[int, list[float]] = {count: [] for count in LEVEL_COUNTS}
    for _ in range(rounds):
        chosen = random.choices(range(groups), k=CALLS_PER_ROUND)
        microseconds = {
            count: microseconds_per_call(ledger, [run_of(group, above[count]) for group in chosen])
            for count in random.sample(LEVEL_COUNTS, len(LEVEL_COUNTS))
        }
        found[0].append(microseconds[0])
        for count in LEVEL_COUNTS[1:]:
            found[count].append(microseconds[count] / microseconds[0])
        ledger.maintain()
    return found


def microseconds_per_call(ledger: Ledger, runs: Sequence[Run]) -> float:
    started = time.perf_counter()
    for run in runs:
        reserve_and_settle(ledger, run)
    return (time.perf_counter() - started) / len(runs) * 1e6


def cells(found: dict[int, list[float]]) -> list[str]:
    medians = {count: statistics.median(values) for count, values in found.items()}
    most = LEVEL_COUNTS[-1]
    return [
        f"{medians[0]:.0f} µs",
        *(f"+{100 * (medians[count] - 1):.0f} %" for count in LEVEL_COUNTS[1:]),
        f"+{100 * (medians[most] - 1) / most:.1f} %",
    ]


if __name__ == "__main__":
    main()
