"""Failures of a SQLite ledger at seeded random moments: killed processes and a full disk, 20 times each."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from ridges_proxy.ledger import RunQuery, SqliteLedger
from tests.process.workload_process import WorkloadProcess
from tests.support.ledger_workload import Journal, assert_matches

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 20
TTL_SECONDS = 1e6


def has_entries(journal: Journal) -> bool:
    return journal.entries > 0


def test_processes_killed_at_any_moment_lose_no_acknowledged_charge(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path, TTL_SECONDS)
    journals: list[Journal] = []
    spent: list[int] = []
    seeded = random.Random(1)
    for seed in range(ROUNDS):
        journals += [Journal(), Journal()]
        with (
            WorkloadProcess(journals[-2], f"sqlite:///{path}", 2 * seed) as killed,
            WorkloadProcess(journals[-1], f"sqlite:///{path}", 2 * seed + 1) as survivor,
        ):
            killed.wait(has_entries)
            survivor.wait(has_entries)
            time.sleep(seeded.uniform(0, 0.05))
            killed.kill()
            seen = journals[-1].entries
            survivor.wait(lambda journal, seen=seen: journal.entries > seen + 10)  # type: ignore[misc] # mypy#12557
        spent.append(sum(usage.spent_nanousd for usage in ledger.list(RunQuery()).runs))
    assert spent == sorted(spent), "the spent amount never decreases"
    assert_matches(ledger, journals, killed=2 * ROUNDS)
    assert all(journal.entries > 10 for journal in journals[1::2])


def test_a_full_disk_refuses_holds_and_loses_no_acknowledged_charge(tmp_path: Path) -> None:
    seeded = random.Random(2)
    rounds = []
    for seed in range(ROUNDS):
        path = tmp_path / f"{seed}.db"
        ledger = SqliteLedger(path, TTL_SECONDS)
        journal = Journal()
        max_file_bytes = seeded.randrange(60_000, 400_000)
        with WorkloadProcess(journal, f"sqlite:///{path}", seed, max_file_bytes) as workload:
            workload.wait(lambda journal: sum(journal.unanswered.values()) > 5)
            workload.kill()
        rounds.append((ledger, journal))
    for ledger, journal in rounds:
        assert_matches(ledger, [journal], killed=1)


def test_two_processes_that_create_a_ledger_at_once_share_it(tmp_path: Path) -> None:
    rounds = []
    for seed in range(ROUNDS):
        url = f"sqlite:///{tmp_path}/{seed}.db"
        journals = [Journal(), Journal()]
        with (
            WorkloadProcess(journals[0], url, seed) as one,
            WorkloadProcess(journals[1], url, -seed) as other,
        ):
            one.wait(has_entries)
            other.wait(has_entries)
        rounds.append((SqliteLedger(tmp_path / f"{seed}.db", TTL_SECONDS), journals))
    for ledger, journals in rounds:
        assert_matches(ledger, journals, killed=2)
