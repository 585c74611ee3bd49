"""The proxy's books beside the fake Chutes's."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.soak.clients import FAILING, GOOD, LEAVING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.fake_chutes_control import Upstream

EMBEDDING = "soak/embedding"


@dataclass
class Compared:
    """Nano-USD by the kind of client, billed and booked, and what is wrong with them."""

    rows: dict[str, tuple[int, int]]
    held: int
    problems: list[str] = field(default_factory=list)


def compare(upstream: Upstream, folder: Path, before: Compared | None = None) -> Compared:
    """What has been billed and booked since; of calls that went well the two must be the same.

    A call that broke off is booked at the bound of what was seen, so never below the bill; an embedding by
    the time that each side has measured for itself.
    """
    bills = upstream.bills()
    booked, held = _booked(folder / "ledger.db")
    earlier = before.rows if before else {}
    rows = {
        kind: (bills.get(kind, 0), booked[kind] - earlier.get(kind, (0, 0))[1])
        for kind in (GOOD, LEAVING, FAILING)
    }
    rows[EMBEDDING] = (bills.get("/embed", 0), booked[EMBEDDING] - earlier.get(EMBEDDING, (0, 0))[1])
    if before is None:
        return Compared({kind: (0, booked[kind]) for kind in rows}, held)
    found = [
        (rows[GOOD][0] != rows[GOOD][1], "the books of good calls are not the upstream's"),
        *(
            (billed > mine, f"{kind}: less is booked than was billed")
            for kind, (billed, mine) in rows.items()
        ),
        (held != 0, f"{held} nano-USD are held with nothing in flight"),
    ]
    return Compared(rows, held, [text for wrong, text in found if wrong])


def _booked(path: Path) -> tuple[Counter[str], int]:
    """All that runs have spent, by the kind that their names begin with, forgotten ones included."""
    spent: Counter[str] = Counter()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        for table in ("runs", "receipts"):
            rows = connection.execute(f"SELECT run_id, inference_nanousd + embedding_nanousd FROM {table}")
            for run_id, nanousd in rows:
                spent[run_id.rpartition("-")[0] or run_id] += nanousd
        (held,) = connection.execute("SELECT COALESCE(SUM(held_nanousd), 0) FROM runs").fetchone()
    return spent, held
