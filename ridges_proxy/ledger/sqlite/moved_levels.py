"""Levels of a SQLite ledger while they are moved or audited. Inside a transaction of the caller."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.levels import Level
from ridges_proxy.ledger.level_account import LevelAccount
from ridges_proxy.ledger.migration import lost_level_of, mismatch_of
from ridges_proxy.ledger.sqlite import rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from ridges_proxy.ledger.models import Hold

_LEVEL = "budget, scope, period, amount_nanousd, resets_at"
_ACCOUNT = (
    f"{_LEVEL}, in_force_nanousd, inference_nanousd, embedding_nanousd, held_nanousd, calls, in_flight,"
    " alerted_percent"
)
NOTHING = (0, 0, 0)
"""What a level without a charged call has spent, of both kinds, and its calls."""

_IS_LEVEL = "budget = ? AND scope = ? AND period = ?"
_INSERT = f"INSERT INTO levels ({_ACCOUNT}) VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0)"
_ADD_HOLDS = "UPDATE levels SET held_nanousd = held_nanousd + ?, in_flight = in_flight + ? WHERE number = ?"
_SET_SUMS = f"""
    UPDATE levels SET amount_nanousd = ?, resets_at = ?, in_force_nanousd = ?, inference_nanousd = ?,
        embedding_nanousd = ?, calls = ?, alerted_percent = ?
    WHERE {_IS_LEVEL}
"""


def add_hold(connection: sqlite3.Connection, hold: Hold, levels: Iterable[Level]) -> str:
    """Add a hold to its levels, known or not. Return their numbers, for the row of the hold."""
    numbers = []
    for level in levels:
        found = connection.execute(f"SELECT number FROM levels WHERE {_IS_LEVEL}", level[:3]).fetchone()
        number = found[0] if found else _insert(connection, level)
        connection.execute(_ADD_HOLDS, (hold.amount_nanousd, 1, number))
        numbers.append(str(number))
    return " ".join(numbers)


def remove_hold(connection: sqlite3.Connection, hold: Hold) -> None:
    """Delete an open hold, and remove it from its levels."""
    taken = rows.take_hold(connection, hold.id)
    for number in taken[1].split() if taken else ():
        connection.execute(_ADD_HOLDS, (-hold.amount_nanousd, -1, int(number)))


def levels_of(connection: sqlite3.Connection, hold: Hold) -> tuple[Level, ...]:
    """Return the levels of an open hold."""
    (numbers,) = connection.execute("SELECT levels FROM open_holds WHERE hold_id = ?", (hold.id,)).fetchone()
    select = f"SELECT {_LEVEL} FROM levels WHERE number = ?"
    found = (connection.execute(select, (int(number),)).fetchone() for number in numbers.split())
    return tuple(Level(*row) for row in found if row)


def accounts(connection: sqlite3.Connection, limit: int) -> list[LevelAccount]:
    """Return up to `limit` levels."""
    found = connection.execute(f"SELECT {_ACCOUNT} FROM levels ORDER BY number LIMIT ?", (limit,))
    return [_account_of(row) for row in found]


def put(connection: sqlite3.Connection, account: LevelAccount) -> bool:
    """Write what a level has spent. Return False, and change nothing, if it has spent other amounts."""
    level = account.level
    present = _find(connection, level)
    if present is None:
        _insert(connection, level)
    elif _spent(account) == NOTHING:
        return True
    elif _spent(present) not in {NOTHING, _spent(account)}:
        return False
    sums = (*_spent(account), account.alerted_percent)
    connection.execute(_SET_SUMS, (*level[3:], account.amount_nanousd, *sums, *level[:3]))
    return True


def take(connection: sqlite3.Connection, account: LevelAccount) -> bool:
    """Delete a level if it has not changed. Return whether it was deleted."""
    if _find(connection, account.level) != account:
        return False
    connection.execute(f"DELETE FROM levels WHERE {_IS_LEVEL}", account.level[:3])
    return True


def audit(connection: sqlite3.Connection) -> tuple[int, list[str]]:
    """Return the number of levels, and the problems of those that do not match their open holds."""
    held: Counter[int] = Counter()
    in_flight: Counter[int] = Counter()
    problems = []
    known = dict(_numbered(connection))
    for hold_id, amount_nanousd, numbers in connection.execute(
        "SELECT hold_id, amount_nanousd, levels FROM open_holds WHERE levels != ''"
    ):
        for number in map(int, numbers.split()):
            held[number] += amount_nanousd
            in_flight[number] += 1
            if number not in known:
                problems.append(lost_level_of(hold_id))
    for number, account in known.items():
        is_negative = min(account.amount_nanousd, *_spent(account)) < 0
        if is_negative or (account.held_nanousd, account.in_flight) != (held[number], in_flight[number]):
            problems.append(mismatch_of(account.level))
    return len(known), problems


def _insert(connection: sqlite3.Connection, level: Level) -> int:
    return connection.execute(_INSERT, (*level, level.amount_nanousd)).lastrowid or 0


def _find(connection: sqlite3.Connection, level: Level) -> LevelAccount | None:
    row = connection.execute(f"SELECT {_ACCOUNT} FROM levels WHERE {_IS_LEVEL}", level[:3]).fetchone()
    return None if row is None else _account_of(row)


def _numbered(connection: sqlite3.Connection) -> Iterable[tuple[int, LevelAccount]]:
    for number, *row in connection.execute(f"SELECT number, {_ACCOUNT} FROM levels"):
        yield number, _account_of(row)


def _account_of(row: Sequence[Any]) -> LevelAccount:
    return LevelAccount(Level(*row[:5]), *row[5:])


def _spent(account: LevelAccount) -> tuple[int, int, int]:
    return account.inference_nanousd, account.embedding_nanousd, account.calls
