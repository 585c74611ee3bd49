"""Statements that list the runs of a SQLite ledger.

They are built only from constants; all other values are bound parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.ledger.models import RunPage, SortKey
from ridges_proxy.ledger.run_list import COUNTED
from ridges_proxy.ledger.run_state import NEAR_PART, RunState, near_from_nanousd
from ridges_proxy.ledger.sqlite import rows

if TYPE_CHECKING:
    import sqlite3

    from ridges_proxy.ledger.models import RunQuery

_SPENT = "inference_nanousd + embedding_nanousd"
_ORDERS = {
    SortKey.SPENT: f"{_SPENT} DESC, run_id",
    SortKey.HELD: "held_nanousd DESC, run_id",
    SortKey.CALLS: "calls DESC, run_id",
    SortKey.IDLE: "active_at DESC, run_id",
    SortKey.RUN_ID: "run_id",
}

_FINISHED = f"(exhausted = 1 OR {_SPENT} >= cap_nanousd)"
_NEAR_FROM = f"iif(own_budget OR :near_from IS NULL, cap_nanousd - cap_nanousd / {NEAR_PART}, :near_from)"
_STATES = {
    RunState.IN_FLIGHT: "in_flight > 0",
    RunState.NEAR: f"{_SPENT} >= {_NEAR_FROM} AND closed = 0 AND NOT {_FINISHED}",
    RunState.EXHAUSTED: f"{_FINISHED} AND closed = 0",
    RunState.CLOSED: "closed = 1",
}
"""The rules of `Account.finished` and `end_state`."""

_COUNTS = ", ".join(["COUNT(*)", *(f"COUNT(*) FILTER (WHERE {_STATES[state]})" for state in RunState)])
"""FILTER takes half the time of SUM: most runs are in no state."""


def page_of(connection: sqlite3.Connection, query: RunQuery, now: float) -> RunPage:
    """Return one page of the runs that match, and how many match in all, by state."""
    where = _where(query)
    present_nanousd = query.present_budget_nanousd
    bound = {
        "search": query.search,
        "min_spent": query.min_spent_nanousd,
        "near_from": None if present_nanousd is None else near_from_nanousd(present_nanousd),
        "limit": query.limit,
        "offset": query.offset,
    }
    sums = connection.execute(f"SELECT {_COUNTS} FROM runs WHERE {where}", bound).fetchone()
    counts = dict(zip(COUNTED, sums, strict=True))
    if query.state is not None:
        where += f" AND {_STATES[query.state]}"
    order = f"ORDER BY {_ORDERS[query.sort]} LIMIT :limit OFFSET :offset"
    found = connection.execute(f"{rows.ACCOUNTS} WHERE {where} {order}", bound)
    runs = [rows.account_of(row).usage(now) for row in found]
    return RunPage(runs, counts[query.state], counts)


def _where(query: RunQuery) -> str:
    """Return the condition of a query without its state. Each part of it takes time for each run."""
    parts = ["instr(run_id, :search) > 0"] if query.search else []
    if query.min_spent_nanousd:
        parts.append(f"{_SPENT} >= :min_spent")
    if query.in_flight is not None:
        parts.append("in_flight > 0" if query.in_flight else "in_flight = 0")
    return " AND ".join(parts) or "1"
