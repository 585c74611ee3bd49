"""Compare what the proxy's ledger has charged with what the fake Chutes has billed."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.soak.clients import EMBEDDING, FAILING, GOOD, LEAVING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.fake_chutes_control import Upstream

BILLED_AS = {GOOD: GOOD, LEAVING: LEAVING, FAILING: FAILING, EMBEDDING: "/embed"}
"""The name under which the fake Chutes adds up the bills of each kind of client."""


@dataclass(frozen=True)
class Comparison:
    """Amounts in nano-USD, and the problems that they show."""

    billed_and_charged: dict[str, tuple[int, int]]
    """By kind of client."""
    held_nanousd: int
    problems: list[str] = field(default_factory=list)


def charged_by_kind(folder: Path) -> Counter[str]:
    """The amounts that all runs have spent, forgotten runs included, by kind of client."""
    spent: Counter[str] = Counter()
    with _ledger(folder) as connection:
        for table in ("runs", "receipts"):
            rows = connection.execute(f"SELECT run_id, inference_nanousd + embedding_nanousd FROM {table}")
            for run_id, nanousd in rows:
                spent[run_id.rpartition("-")[0] or run_id] += nanousd
    return spent


def compare(upstream: Upstream, folder: Path, charged_before: Counter[str]) -> Comparison:
    """Compare the upstream's bills since its last reset with what the ledger has charged since.

    They must be equal for good calls. A call that broke off is charged at the bound of what was received, so
    at no less than its bill. An embedding is billed by the time that each side has measured for itself.
    """
    bills = upstream.bills()
    charged = charged_by_kind(folder)
    held_nanousd = _held_nanousd(folder)
    amounts = {
        kind: (bills.get(name, 0), charged[kind] - charged_before[kind]) for kind, name in BILLED_AS.items()
    }
    problems = [
        f"{kind}: less was charged than billed" for kind, (billed, spent) in amounts.items() if billed > spent
    ]
    if amounts[GOOD][0] != amounts[GOOD][1]:
        problems.append(f"{GOOD}: the charged amount is not the billed one")
    if held_nanousd:
        problems.append(f"{held_nanousd} nano-USD are held with no call in flight")
    return Comparison(amounts, held_nanousd, problems)


def _held_nanousd(folder: Path) -> int:
    with _ledger(folder) as connection:
        query = "SELECT COALESCE(SUM(held_nanousd), 0) FROM runs"
        (held_nanousd,) = connection.execute(query).fetchone()
    return int(held_nanousd)


def _ledger(folder: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"file:{folder}/ledger.db?mode=ro", uri=True))
