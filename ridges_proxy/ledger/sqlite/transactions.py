"""Changes of a SQLite ledger. Each runs inside a transaction of its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.errors import RefusedError, RunBusyError
from ridges_proxy.ledger.interface import CLOSED_RUNS_KEPT
from ridges_proxy.ledger.models import Receipt
from ridges_proxy.ledger.sqlite import queue, rows

if TYPE_CHECKING:
    import sqlite3

    from ridges_proxy.ledger.models import Hold, Run, RunUsage, Ticket


def reserve(  # noqa: PLR0913, PLR0917 - all that decides about a hold
    connection: sqlite3.Connection,
    run: Run,
    requested_nanousd: int,
    minimum_nanousd: int,
    now: float,
    ticket: Ticket | None,
) -> int | RefusedError:
    """Add a hold to the account of the run. Return its amount, or the refusal, which is activity too."""
    account = rows.find(connection, run.id)
    known = account is not None
    account = account or rows.unknown(connection, run, now)
    account.record_activity(now)  # a refusal too: repeated requests must not let the TTL pass
    turn = queue.turn(connection, run.id, ticket, now)
    result: int | RefusedError
    try:
        result = account.reserve(run, requested_nanousd, minimum_nanousd, now, turn)
    except RefusedError as refusal:
        result = refusal
    if known:
        rows.update(connection, account)
    elif isinstance(result, int):
        rows.make_known(connection, account)
    if ticket is not None and isinstance(result, RunBusyError):
        result.place = queue.enter(connection, ticket, now)
    elif ticket is not None and turn.waits:
        queue.leave(connection, ticket)
    return result


def close(connection: sqlite3.Connection, run: Run, now: float) -> RunUsage:
    """Close the run, known or not, and record it for the other processes. Return its usage."""
    account = rows.find(connection, run.id)
    if account is None:
        account = rows.unknown(connection, run, now)
        rows.make_known(connection, account)
    account.close(run, now)
    rows.update(connection, account)
    connection.execute("INSERT INTO closings (run_id, closed_at) VALUES (?, ?)", (run.id, now))
    connection.execute(
        "DELETE FROM closings WHERE number <= (SELECT MAX(number) FROM closings) - ?", (CLOSED_RUNS_KEPT,)
    )
    return account.usage(now)


def reset(connection: sqlite3.Connection, run_id: str, now: float) -> RunUsage | None:
    """Set spent and calls to 0. Return the usage before; None if the run is not known."""
    account = rows.find(connection, run_id)
    if account is None:
        account = rows.find_finished(connection, run_id)
        if account is None:
            return None
        rows.make_known(connection, account)
    before = account.usage(now)
    account.reset(now)
    rows.update(connection, account)
    connection.execute("UPDATE totals SET reset_nanousd = reset_nanousd + ?", (before.spent_nanousd,))
    return before


def resolve(
    connection: sqlite3.Connection, hold_id: str, cost_nanousd: int | None, now: float
) -> RunUsage | None:
    """Resolve an open hold: charge the cost, or nothing if it is None. Return the usage afterwards.

    Returns None if the hold is not open.
    """
    hold = rows.take_hold(connection, hold_id)
    account = None if hold is None else rows.find(connection, hold.run_id)
    if hold is None or account is None:
        return None
    account.resolve(hold.kind, hold.amount_nanousd, cost_nanousd, now)
    rows.update(connection, account)
    if cost_nanousd:
        connection.execute("UPDATE totals SET charged_nanousd = charged_nanousd + ?", (cost_nanousd,))
    return account.usage(now)


def charge_expired(connection: sqlite3.Connection, now: float, limit: int) -> list[Hold]:
    """Charge expired holds in full, and return them."""
    expired = rows.expired_holds(connection, now, limit)
    for hold in expired:
        resolve(connection, hold.id, hold.amount_nanousd, now)
    return expired


def forget_idle(
    connection: sqlite3.Connection, now: float, ttl_seconds: float, limit: int
) -> tuple[list[RunUsage], bool]:
    """Turn runs that were idle for the TTL into receipts. Also return whether the limit was reached."""
    forgotten: list[RunUsage] = []
    for _ in range(limit):
        account = rows.oldest(connection)
        if account is None or now - account.looked_at < ttl_seconds:
            return forgotten, False
        if account.keep_if_needed(now, ttl_seconds):
            rows.put_back(connection, account)
            continue
        connection.execute("DELETE FROM runs WHERE run_id = ?", (account.run_id,))
        forgotten.append(account.usage(now))
        rows.insert_receipt(connection, Receipt(forgotten[-1], now))
    return forgotten, True


def drop_receipts(connection: sqlite3.Connection, kept_since: float, limit: int) -> bool:
    """Delete receipts of runs that were forgotten by then. Return whether the limit was reached."""
    rows = connection.execute(
        "SELECT number, inference_nanousd + embedding_nanousd FROM receipts WHERE forgotten_at <= ?"
        " ORDER BY forgotten_at LIMIT ?",
        (kept_since, limit),
    ).fetchall()
    if not rows:
        return False
    connection.executemany("DELETE FROM receipts WHERE number = ?", [(number,) for number, _ in rows])
    dropped_nanousd = sum(spent for _, spent in rows)
    connection.execute("UPDATE totals SET dropped_nanousd = dropped_nanousd + ?", (dropped_nanousd,))
    return len(rows) == limit
