"""Statements that read and write the rows of a SQLite ledger.

Statements are built only from constants; all other values are bound parameters.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ridges_proxy.ledger.account import Account
from ridges_proxy.ledger.alert_rules import USED_UP_PERCENT
from ridges_proxy.ledger.models import Hold, Kind, Receipt, RunUsage
from ridges_proxy.ledger.run_record import record_of, run_record_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from ridges_proxy.ledger.models import Run

_FIELDS = [field.name for field in dataclasses.fields(Account)]
_CALL_FIELDS = [name for name in _FIELDS if name not in {"run_id", "looked_at"}]
"""Fields that a call changes. `looked_at` has an index as large as the table, so only a sweep changes it."""

_COLUMNS = {name: name for name in _FIELDS} | {"budget_nanousd": "cap_nanousd"}
"""The column of each field. `cap_nanousd` is the name in the files of version 0.1.0."""

ACCOUNTS = f"SELECT {', '.join(_COLUMNS.values())} FROM runs"
_RECORD = _FIELDS.index("record")
_INSERT = f"INSERT INTO runs ({', '.join(_COLUMNS.values())}) VALUES ({', '.join('?' * len(_FIELDS))})"
_UPDATE = f"UPDATE runs SET {', '.join(f'{_COLUMNS[name]} = ?' for name in _CALL_FIELDS)} WHERE run_id = ?"
_all_values = attrgetter(*_FIELDS[:_RECORD])
_call_values = attrgetter(*_CALL_FIELDS[:-1])

RECEIPTS = """
    SELECT number, run_id, cap_nanousd, inference_nanousd, embedding_nanousd, calls, active_at, forgotten_at,
        closed, own_budget, finished, record
    FROM receipts
"""
_FINISHED = "run_id = ? AND finished = 1"  # as the index has it


def account_of(row: tuple[Any, ...]) -> Account:
    """Convert a row of ACCOUNTS."""
    account = Account(*row[:_RECORD])
    account.record = run_record_of(row[_RECORD])
    account.closed, account.exhausted = bool(account.closed), bool(account.exhausted)
    account.own_budget = bool(account.own_budget)
    return account


def find(connection: sqlite3.Connection, run_id: str) -> Account | None:
    """Return the account of the run; None if the run is not known."""
    row = connection.execute(f"{ACCOUNTS} WHERE run_id = ?", (run_id,)).fetchone()
    return None if row is None else account_of(row)


def unknown(connection: sqlite3.Connection, run: Run, now: float) -> Account:
    """Return the account of a run that is not known: of a finished run, or a new one."""
    return find_finished(connection, run.id) or Account(run.id, run.budget_nanousd, looked_at=now)


def find_finished(connection: sqlite3.Connection, run_id: str) -> Account | None:
    """Return the account of a finished run, from its receipt; None if there is no such receipt."""
    row = connection.execute(f"{RECEIPTS} WHERE {_FINISHED} ORDER BY number DESC", (run_id,)).fetchone()
    if row is None:
        return None
    _, run_id, budget, inference, embedding, calls, active_at, forgotten_at, closed, own_budget, _, record = (
        row
    )
    return Account(
        run_id,
        budget,
        inference,
        embedding,
        calls=calls,
        active_at=active_at,
        looked_at=forgotten_at,
        closed=bool(closed),
        exhausted=True,
        own_budget=bool(own_budget),
        alerted_percent=USED_UP_PERCENT,
        record=run_record_of(record),
    )


def make_known(connection: sqlite3.Connection, account: Account) -> None:
    """Insert the account of a run that was not known. If it is of a finished run, delete the receipt."""
    insert(connection, account)
    newest = f"SELECT MAX(number) FROM receipts WHERE {_FINISHED}"
    connection.execute(f"DELETE FROM receipts WHERE number = ({newest})", (account.run_id,))


def oldest(connection: sqlite3.Connection) -> Account | None:
    """Return the account that a sweep must examine first."""
    row = connection.execute(f"{ACCOUNTS} ORDER BY looked_at LIMIT 1").fetchone()
    return None if row is None else account_of(row)


def insert(connection: sqlite3.Connection, account: Account) -> None:
    """Insert a new account."""
    connection.execute(_INSERT, (*_all_values(account), account.record.to_json()))


def update(connection: sqlite3.Connection, account: Account) -> None:
    """Write the fields that calls change."""
    connection.execute(_UPDATE, (*_call_values(account), account.record.to_json(), account.run_id))


def put_back(connection: sqlite3.Connection, account: Account) -> None:
    """Write an account that a sweep has examined, and its new position in the queue."""
    update(connection, account)
    connection.execute("UPDATE runs SET looked_at = ? WHERE run_id = ?", (account.looked_at, account.run_id))


def insert_hold(connection: sqlite3.Connection, hold: Hold, levels: str) -> None:
    """Insert an open hold, with the numbers of its levels."""
    row = (hold.id, hold.run_id, hold.kind.value, hold.amount_nanousd, hold.expires_at, hold.model, levels)
    connection.execute("INSERT INTO open_holds VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def take_hold(connection: sqlite3.Connection, hold_id: str) -> tuple[Hold, str] | None:
    """Delete an open hold. Return it with the numbers of its levels; None if it is not open."""
    found = connection.execute("DELETE FROM open_holds WHERE hold_id = ? RETURNING *", (hold_id,)).fetchall()
    return (next(holds_from(found)), found[0][-1]) if found else None


def holds_of(connection: sqlite3.Connection, run_id: str) -> list[Hold]:
    """Return the open holds of the run, in the order of their ids."""
    rows = connection.execute("SELECT * FROM open_holds WHERE run_id = ? ORDER BY hold_id", (run_id,))
    return list(holds_from(rows))


def expired_holds(connection: sqlite3.Connection, now: float, limit: int) -> list[Hold]:
    """Return up to `limit` expired holds. It scans all open holds, one for each call in flight."""
    return list(
        holds_from(connection.execute("SELECT * FROM open_holds WHERE expires_at <= ? LIMIT ?", (now, limit)))
    )


def insert_receipt(connection: sqlite3.Connection, receipt: Receipt) -> None:
    """Insert a receipt."""
    run = receipt.run
    connection.execute(
        "INSERT INTO receipts (run_id, cap_nanousd, inference_nanousd, embedding_nanousd, calls, active_at,"
        " forgotten_at, closed, own_budget, finished, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run.run_id,
            run.budget_nanousd,
            run.inference_nanousd,
            run.embedding_nanousd,
            run.calls,
            receipt.forgotten_at - run.idle_seconds,
            receipt.forgotten_at,
            run.closed,
            run.own_budget,
            run.finished,
            record_of(run).to_json(),
        ),
    )


def numbered_receipts(
    connection: sqlite3.Connection, since: float, after: int, limit: int
) -> list[tuple[int, Receipt]]:
    """Return receipts with their numbers, in the order in which they were inserted."""
    rows = connection.execute(
        f"{RECEIPTS} WHERE forgotten_at >= ? AND number > ? ORDER BY number LIMIT ?", (since, after, limit)
    )
    return [(row[0], _receipt_of(row)) for row in rows]


def runs_in(connection: sqlite3.Connection) -> int:
    """Return the number of known runs."""
    (total,) = connection.execute("SELECT COUNT(*) FROM runs").fetchone()
    return int(total)


def holds_from(rows: Iterable[tuple[Any, ...]]) -> Iterator[Hold]:
    """Convert rows of open holds."""
    for hold_id, run_id, kind, amount_nanousd, expires_at, model, levels in rows:
        yield Hold(hold_id, run_id, Kind(kind), amount_nanousd, expires_at, model, bool(levels))


def _receipt_of(row: tuple[Any, ...]) -> Receipt:
    _, run_id, budget, inference, embedding, calls, active_at, forgotten_at, *flags, text = row
    closed, own_budget, finished = map(bool, flags)
    record = run_record_of(text)
    run = RunUsage(
        run_id,
        budget,
        inference,
        embedding,
        calls=calls,
        idle_seconds=forgotten_at - active_at,
        closed=closed,
        finished=finished,
        own_budget=own_budget,
        groups=record.groups,
        detail=record.detail(),
    )
    return Receipt(run, forgotten_at)
