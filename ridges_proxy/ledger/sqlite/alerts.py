"""Alerts of a SQLite ledger that wait for delivery. Inside a transaction of the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.ledger.alert_lease import lease_seconds_of
from ridges_proxy.ledger.alert_rules import MAX_ALERTS
from ridges_proxy.ledger.models import Alert

if TYPE_CHECKING:
    import sqlite3

_COLUMNS = "id, at, budget, scope, period, percent, amount_nanousd, spent_nanousd, resets_at, attempts"


def insert(connection: sqlite3.Connection, alert: Alert) -> None:
    """Add an alert to the end. Above MAX_ALERTS the oldest are deleted."""
    connection.execute(
        f"INSERT INTO alerts ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            alert.id,
            alert.at,
            alert.budget,
            alert.scope,
            alert.period,
            alert.percent,
            alert.amount_nanousd,
            alert.spent_nanousd,
            alert.resets_at,
            alert.attempts,
        ),
    )
    connection.execute(
        "DELETE FROM alerts WHERE number <= (SELECT MAX(number) FROM alerts) - ?", (MAX_ALERTS,)
    )


def claim(connection: sqlite3.Connection, limit: int, lease_seconds: float, now: float) -> list[Alert]:
    """Return the oldest alerts that are not claimed, and hide them for the lease."""
    found = connection.execute(
        f"SELECT number, {_COLUMNS} FROM alerts WHERE hidden_until <= ? ORDER BY number LIMIT ?", (now, limit)
    ).fetchall()
    connection.executemany(
        "UPDATE alerts SET hidden_until = ?, attempts = attempts + 1 WHERE number = ?",
        [(now + lease_seconds_of(lease_seconds, row[-1]), row[0]) for row in found],
    )
    return [Alert(*row[1:]) for row in found]


def waiting(connection: sqlite3.Connection, limit: int) -> list[Alert]:
    """Return the oldest alerts, claimed or not."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM alerts ORDER BY number LIMIT ?", (limit,))
    return [Alert(*row) for row in rows]


def has(connection: sqlite3.Connection, alert_id: str) -> bool:
    """Whether the alert is there."""
    return connection.execute("SELECT 1 FROM alerts WHERE id = ?", (alert_id,)).fetchone() is not None


def any_is_due(connection: sqlite3.Connection, now: float) -> bool:
    """Whether `claim` would find an alert. It only reads."""
    return (
        connection.execute("SELECT 1 FROM alerts WHERE hidden_until <= ? LIMIT 1", (now,)).fetchone()
        is not None
    )


def drop(connection: sqlite3.Connection, alert_id: str) -> None:
    """Delete an alert."""
    connection.execute("DELETE FROM alerts WHERE id = ?", (alert_id,))
