"""What may happen to a SQLite ledger, each 20 times at a seeded random moment."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from ridges_proxy.ledger import RunQuery, SqliteLedger
from tests.faults.crew import HammerProcess, assert_true
from tests.faults.hammer import Journal

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 20
TTL_SECONDS = 1e6


def something(journal: Journal) -> bool:
    return journal.lines > 0


def test_processes_killed_at_any_moment_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path, TTL_SECONDS)
    journals: list[Journal] = []
    spent: list[int] = []
    chosen = random.Random(1)
    for seed in range(ROUNDS):
        journals += [Journal(), Journal()]
        with (
            HammerProcess(journals[-2], f"sqlite:///{path}", 2 * seed) as killed,
            HammerProcess(journals[-1], f"sqlite:///{path}", 2 * seed + 1) as survivor,
        ):
            killed.wait(something)
            survivor.wait(something)
            time.sleep(chosen.uniform(0, 0.05))
            killed.kill()
            seen = journals[-1].lines
            survivor.wait(lambda journal, seen=seen: journal.lines > seen + 10)  # type: ignore[misc] # mypy#12557
        spent.append(sum(books.spent_nanousd for books in ledger.list(RunQuery()).runs))
    assert spent == sorted(spent), "settled spend never shrinks"
    assert_true(ledger, journals, killed=2 * ROUNDS)
    assert all(journal.lines > 10 for journal in journals[1::2])


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    chosen = random.Random(2)
    rounds = []
    for seed in range(ROUNDS):
        path = tmp_path / f"{seed}.db"
        ledger = SqliteLedger(path, TTL_SECONDS)
        journal = Journal()
        most_bytes = chosen.randrange(60_000, 400_000)
        with HammerProcess(journal, f"sqlite:///{path}", seed, most_bytes) as hammer:
            hammer.wait(lambda journal: sum(journal.doubts.values()) > 5)
            hammer.kill()
        rounds.append((ledger, journal))
    for ledger, journal in rounds:
        assert_true(ledger, [journal], killed=1)


def test_two_processes_that_start_on_a_new_file_at_once_make_one_ledger(tmp_path: Path) -> None:
    rounds = []
    for seed in range(ROUNDS):
        url = f"sqlite:///{tmp_path}/{seed}.db"
        journals = [Journal(), Journal()]
        with HammerProcess(journals[0], url, seed) as one, HammerProcess(journals[1], url, -seed) as other:
            one.wait(something)
            other.wait(something)
        rounds.append((SqliteLedger(tmp_path / f"{seed}.db", TTL_SECONDS), journals))
    for ledger, journals in rounds:
        assert_true(ledger, journals, killed=2)
