"""Levels of a SQLite ledger, and the amounts that operators have set. Inside a transaction of the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.levels import Level
from ridges_proxy.ledger.alert_rules import NO_ALERTS
from ridges_proxy.ledger.level_account import ENDED_LEVEL_SECONDS, LevelAccount
from ridges_proxy.ledger.models import Kind, LevelPage, LevelUsage, SetAmount
from ridges_proxy.ledger.sqlite import alerts

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from ridges_proxy.ledger.alert_rules import AlertRules
    from ridges_proxy.ledger.models import Hold, LevelQuery

_SUMS = "inference_nanousd, embedding_nanousd, held_nanousd, calls, in_flight, alerted_percent"
_LEVEL = "budget, scope, period, amount_nanousd, resets_at"
_ROW = f"in_force_nanousd, {_SUMS}, number"

READ_BATCH = 1_000
"""Levels that one statement reads. SQLite may limit a statement to 32,766 values, and a level takes four."""

# One statement for all levels of a call: each statement takes longer than a further row. With RETURNING, an
# UPDATE of several rows takes ten times as long as an UPDATE and a SELECT.
_FIND = f"""
    SELECT COALESCE(own.amount_nanousd, whole.amount_nanousd), levels.amount_nanousd, resets_at, {_ROW}
    FROM (VALUES %s)
    LEFT JOIN levels ON levels.budget = column1 AND levels.scope = column2 AND period = column3
    LEFT JOIN level_amounts AS own ON own.budget = column1 AND own.scope = column2
    LEFT JOIN level_amounts AS whole ON whole.budget = column1 AND whole.scope = ''
    ORDER BY column4
"""
_GET = """
    SELECT number, alerted_percent, budget, scope, period, in_force_nanousd, resets_at,
        inference_nanousd, embedding_nanousd, held_nanousd, calls, in_flight
    FROM levels WHERE number IN (%s)
"""
_INSERT = (
    f"INSERT INTO levels (in_force_nanousd, {_LEVEL}, {_SUMS}) VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, 0, 1, 0)"
)
_ADD_HOLD = (
    "UPDATE levels SET held_nanousd = held_nanousd + ?, in_flight = in_flight + 1 WHERE number IN (%s)"
)
_SET_TERMS = """
    UPDATE levels SET amount_nanousd = ?, resets_at = ?, in_force_nanousd = ?, alerted_percent = ?
    WHERE number = ?
"""
_REMOVE_HOLD = """
    UPDATE levels SET held_nanousd = held_nanousd - ?, in_flight = in_flight - 1,
        inference_nanousd = inference_nanousd + ?, embedding_nanousd = embedding_nanousd + ?,
        calls = calls + ?
    WHERE number IN (%s)
"""
_SET_ALERTED = "UPDATE levels SET alerted_percent = ? WHERE number = ?"
_SPENT = "inference_nanousd + embedding_nanousd"


@dataclass(slots=True)
class LevelRow(LevelAccount):
    """A level with the number of its row."""

    number: int = 0
    """0: it has no row yet."""
    is_changed: bool = False
    """Whether the row has another amount, or another end, as after a change of the budget's zone."""


def find(connection: sqlite3.Connection, levels: Sequence[Level], rules: AlertRules) -> list[LevelRow]:
    """Return the levels with the amounts in force. New ones have no row yet."""
    return [
        _found(level, row, rules) for level, row in zip(levels, _rows_of(connection, levels), strict=True)
    ]


def add_hold(connection: sqlite3.Connection, rows: list[LevelRow], amount_nanousd: int) -> str:
    """Add a hold to the levels. Return their numbers, for the row of the hold."""
    known = [row.number for row in rows if row.number]
    if known:
        connection.execute(_ADD_HOLD % _marks(known), (amount_nanousd, *known))
    for row in rows:
        level = row.level
        if not row.number:
            inserted = connection.execute(_INSERT, (row.amount_nanousd, *level, amount_nanousd))
            row.number = inserted.lastrowid or 0
        elif row.is_changed:
            _set_terms(connection, row)
    return " ".join([str(row.number) for row in rows])


def remove_hold(  # noqa: PLR0913, PLR0917 - the hold, its end, and the rules of the ledger
    connection: sqlite3.Connection,
    numbers: str,
    hold: Hold,
    cost_nanousd: int | None,
    rules: AlertRules,
    now: float,
) -> tuple[LevelUsage, ...]:
    """Remove a hold from its levels, and charge the cost. Return their usage afterwards."""
    if not numbers:
        return ()
    keys = list(map(int, numbers.split()))
    cost = cost_nanousd or 0
    costs = (cost, 0) if hold.kind is Kind.INFERENCE else (0, cost)
    bound = (hold.amount_nanousd, *costs, int(cost_nanousd is not None))
    connection.execute(_REMOVE_HOLD % _marks(keys), (*bound, *keys))
    rows = {values[0]: values for values in connection.execute(_GET % _marks(keys), keys)}
    usages = []
    for key in keys:
        number, alerted, *level, inference, embedding, held, calls, in_flight = rows[key]
        usage = LevelUsage(Level(*level), inference, embedding, held, calls, in_flight)
        usages.append(usage)
        if cost and rules.reached(usage.spent_nanousd, usage.amount_nanousd) > alerted:
            row = LevelRow(usage.level, usage.amount_nanousd, inference, embedding, number=number)
            row.alerted_percent = alerted
            _insert_alerts(connection, row, rules, now)
            connection.execute(_SET_ALERTED, (row.alerted_percent, row.number))
    return tuple(usages)


def refuse(connection: sqlite3.Connection, row: LevelRow, rules: AlertRules, now: float) -> None:
    """Make the alerts of a level that refuses a call."""
    before = row.alerted_percent
    _insert_alerts(connection, row, rules, now, refused=True)
    if row.is_changed:  # a later call must not find the other amount, and allow the same alerts again
        _set_terms(connection, row)
    elif row.alerted_percent != before:
        connection.execute(_SET_ALERTED, (row.alerted_percent, row.number))


def page(connection: sqlite3.Connection, query: LevelQuery) -> LevelPage:
    """Return one page of the levels that match, the most spent first."""
    where = (
        "WHERE (?1 IS NULL OR budget = ?1) AND (?2 IS NULL OR resets_at IS NULL OR resets_at > ?2)"
        " AND instr(scope, ?3) > 0"
    )
    bound = (query.budget, query.current_at, query.search)
    (total,) = connection.execute(f"SELECT COUNT(*) FROM levels {where}", bound).fetchone()
    rows = connection.execute(
        f"SELECT {_LEVEL} FROM levels {where} ORDER BY {_SPENT} DESC, budget, scope, period"
        " LIMIT ?4 OFFSET ?5",
        (*bound, query.limit, query.offset),
    ).fetchall()
    return LevelPage(usages(connection, [Level(*row) for row in rows]), total)


def usages(connection: sqlite3.Connection, levels: Sequence[Level]) -> list[LevelUsage]:
    """Return the usage of each level; zeros for one without calls."""
    return [
        row.usage()
        for start in range(0, len(levels), READ_BATCH)
        for row in find(connection, levels[start : start + READ_BATCH], NO_ALERTS)
    ]


def reset(connection: sqlite3.Connection, level: Level) -> LevelUsage | None:
    """Set spent and calls to 0. Return the usage before; None if the level is not known."""
    (before,) = usages(connection, [level])
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


def _insert_alerts(
    connection: sqlite3.Connection, row: LevelRow, rules: AlertRules, now: float, *, refused: bool = False
) -> None:
    for made in rules.crossed(row, row.in_force, now, refused=refused):
        alerts.insert(connection, made)


def _rows_of(connection: sqlite3.Connection, levels: Sequence[Level]) -> list[Sequence[Any]]:
    """Return for each level the amount that an operator has set, and its row, or None for each column."""
    if not levels:
        return []
    bound: list[Any] = []
    for place, level in enumerate(levels):
        bound += (*level[:3], place)
    return connection.execute(_FIND % ", ".join(["(?, ?, ?, ?)"] * len(levels)), bound).fetchall()


def _found(level: Level, row: Sequence[Any], rules: AlertRules) -> LevelRow:
    """Convert a row of _FIND."""
    set_nanousd, amount_nanousd, resets_at, in_force, *rest = row
    amount_in_force = level.amount_nanousd if set_nanousd is None else set_nanousd
    if amount_nanousd is None:
        return LevelRow(level, amount_in_force)
    found = LevelRow(level, amount_in_force, *rest)
    if in_force != amount_in_force:
        found.is_changed = True
        rules.change_amount(found, amount_in_force)
    elif (amount_nanousd, resets_at) != level[3:]:
        found.is_changed = True
    return found


def _set_terms(connection: sqlite3.Connection, row: LevelRow) -> None:
    """Write the amounts and the end of a level, and the share that belongs to them."""
    level = row.level
    terms = level.amount_nanousd, level.resets_at, row.amount_nanousd, row.alerted_percent
    connection.execute(_SET_TERMS, (*terms, row.number))


def _marks(values: Sequence[int]) -> str:
    return ", ".join("?" * len(values))
