"""Levels of a SQLite ledger, and the amounts that operators have set. Inside a transaction of the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.levels import Level
from ridges_proxy.ledger.level_account import ENDED_LEVEL_SECONDS, LevelAccount
from ridges_proxy.ledger.models import Kind, LevelPage, LevelUsage, SetAmount
from ridges_proxy.ledger.sqlite import alerts

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from ridges_proxy.ledger.alert_rules import AlertRules
    from ridges_proxy.ledger.models import Hold, LevelQuery

_SUMS = "inference_nanousd, embedding_nanousd, held_nanousd, calls, in_flight, alerted_percent"
_LEVEL = "budget, scope, period, amount_nanousd, resets_at"
_ROW = f"number, in_force_nanousd, {_SUMS}"

_SET_AMOUNT = """
    COALESCE((SELECT amount_nanousd FROM level_amounts WHERE budget = ?1 AND scope = ?2),
             (SELECT amount_nanousd FROM level_amounts WHERE budget = ?1 AND scope = ''))
"""
_FIND = f"""
    SELECT {_SET_AMOUNT}, {_ROW} FROM (SELECT 1)
    LEFT JOIN levels ON budget = ?1 AND scope = ?2 AND period = ?3
"""
_INSERT = (
    f"INSERT INTO levels (in_force_nanousd, {_LEVEL}, {_SUMS}) VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, 0, 1, 0)"
)
_ADD_HOLD = """
    UPDATE levels SET held_nanousd = held_nanousd + ?, in_flight = in_flight + 1, amount_nanousd = ?,
        in_force_nanousd = ?, alerted_percent = ? WHERE number = ?
"""
_REMOVE_HOLD = f"""
    UPDATE levels SET held_nanousd = held_nanousd - ?, in_flight = in_flight - 1,
        inference_nanousd = inference_nanousd + ?, embedding_nanousd = embedding_nanousd + ?,
        calls = calls + ?
    WHERE number = ? RETURNING {_LEVEL}, {_ROW}
"""
_SET_ALERTED = "UPDATE levels SET alerted_percent = ? WHERE number = ?"
_SPENT = "inference_nanousd + embedding_nanousd"


@dataclass(slots=True)
class LevelRow(LevelAccount):
    """A level with the number of its row."""

    number: int = 0
    """0: it has no row yet."""


def find(connection: sqlite3.Connection, levels: Iterable[Level], rules: AlertRules) -> list[LevelRow]:
    """Return the levels with the amounts in force. New ones have no row yet."""
    return [_find(connection, level, rules) for level in levels]


def add_hold(connection: sqlite3.Connection, rows: list[LevelRow], amount_nanousd: int) -> str:
    """Add a hold to the levels. Return their numbers, for the row of the hold."""
    for row in rows:
        level = row.level
        if row.number:
            amounts = amount_nanousd, level.amount_nanousd, row.amount_nanousd, row.alerted_percent
            connection.execute(_ADD_HOLD, (*amounts, row.number))
        else:
            row.number = (
                connection.execute(_INSERT, (row.amount_nanousd, *level, amount_nanousd)).lastrowid or 0
            )
    return " ".join(str(row.number) for row in rows)


def remove_hold(  # noqa: PLR0913, PLR0917 - the hold, its end, and the rules of the ledger
    connection: sqlite3.Connection,
    numbers: str,
    hold: Hold,
    cost_nanousd: int | None,
    rules: AlertRules,
    now: float,
) -> tuple[LevelUsage, ...]:
    """Remove a hold from its levels, and charge the cost. Return their usage afterwards."""
    cost = cost_nanousd or 0
    costs = (cost, 0) if hold.kind is Kind.INFERENCE else (0, cost)
    bound = (hold.amount_nanousd, *costs, int(cost_nanousd is not None))
    usages = []
    for number in numbers.split():
        found = connection.execute(_REMOVE_HOLD, (*bound, int(number))).fetchone()
        row = _row_of(Level(*found[:5]), found[5:])
        usages.append(row.usage())
        if cost:
            alert(connection, row, rules, now)
    return tuple(usages)


def alert(
    connection: sqlite3.Connection, row: LevelRow, rules: AlertRules, now: float, *, refused: bool = False
) -> None:
    """Make the alerts of a level for the shares that it has reached."""
    before = row.alerted_percent
    for made in rules.crossed(row, row.in_force, now, refused=refused):
        alerts.insert(connection, made)
    if row.alerted_percent != before:
        connection.execute(_SET_ALERTED, (row.alerted_percent, row.number))


def page(connection: sqlite3.Connection, query: LevelQuery) -> LevelPage:
    """Return one page of the levels that match, the most spent first."""
    where, bound = (
        "WHERE (?1 IS NULL OR budget = ?1) AND (?2 IS NULL OR resets_at IS NULL OR resets_at > ?2)",
        (
            query.budget,
            query.current_at,
        ),
    )
    (total,) = connection.execute(f"SELECT COUNT(*) FROM levels {where}", bound).fetchone()
    rows = connection.execute(
        f"SELECT {_LEVEL} FROM levels {where} ORDER BY {_SPENT} DESC, budget, scope, period"
        " LIMIT ?3 OFFSET ?4",
        (*bound, query.limit, query.offset),
    ).fetchall()
    return LevelPage([usage(connection, Level(*row)) for row in rows], total)


def usage(connection: sqlite3.Connection, level: Level) -> LevelUsage:
    """Return the usage of a level; zeros for one without calls."""
    found = connection.execute(_FIND, level[:3]).fetchone()
    in_force = found[0] if found[0] is not None else level.amount_nanousd
    row = _row_of(level, found[1:]) if found[1] else LevelAccount(level, in_force)
    row.amount_nanousd = in_force
    return row.usage()


def reset(connection: sqlite3.Connection, level: Level) -> LevelUsage | None:
    """Set spent and calls to 0. Return the usage before; None if the level is not known."""
    before = usage(connection, level)
    changed = connection.execute(
        "UPDATE levels SET inference_nanousd = 0, embedding_nanousd = 0, calls = 0, alerted_percent = 0"
        " WHERE budget = ? AND scope = ? AND period = ?",
        level[:3],
    ).rowcount
    return before if changed else None


def set_amount(connection: sqlite3.Connection, budget: str, scope: str, amount_nanousd: int | None) -> None:
    """Set the amount of a budget, or remove it."""
    if amount_nanousd is None:
        connection.execute("DELETE FROM level_amounts WHERE budget = ? AND scope = ?", (budget, scope))
    else:
        row = (budget, scope, amount_nanousd)
        connection.execute("INSERT OR REPLACE INTO level_amounts VALUES (?, ?, ?)", row)


def set_amounts(connection: sqlite3.Connection) -> Sequence[SetAmount]:
    """Return all amounts that operators have set."""
    rows = connection.execute("SELECT * FROM level_amounts ORDER BY budget, scope")
    return [SetAmount(*row) for row in rows]


def drop_ended(connection: sqlite3.Connection, now: float, limit: int) -> bool:
    """Delete up to `limit` levels that ended long ago. Return whether the limit was reached."""
    ended = connection.execute(
        "SELECT number FROM levels WHERE resets_at <= ? AND in_flight = 0 LIMIT ?",
        (now - ENDED_LEVEL_SECONDS, limit),
    ).fetchall()
    connection.executemany("DELETE FROM levels WHERE number = ?", ended)
    return len(ended) == limit


def _find(connection: sqlite3.Connection, level: Level, rules: AlertRules) -> LevelRow:
    set_nanousd, *found = connection.execute(_FIND, level[:3]).fetchone()
    in_force = level.amount_nanousd if set_nanousd is None else set_nanousd
    if found[0] is None:
        return LevelRow(level, in_force)
    row = _row_of(level, found)
    if row.amount_nanousd != in_force:
        row.amount_nanousd = in_force
        rules.change_amount(row, in_force)
    return row


def _row_of(level: Level, found: Sequence[Any]) -> LevelRow:
    """Convert the columns of _ROW."""
    number, in_force, *sums = found
    row = LevelRow(level, in_force, *sums)
    row.number = number
    return row
