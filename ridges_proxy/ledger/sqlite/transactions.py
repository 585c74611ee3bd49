"""Changes of a SQLite ledger. Each runs inside a transaction of its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.errors import BudgetExhaustedError, RefusedError, RunBusyError
from ridges_proxy.ledger.alert_rules import run_level
from ridges_proxy.ledger.interface import CLOSED_RUNS_KEPT
from ridges_proxy.ledger.models import Receipt
from ridges_proxy.ledger.sqlite import alerts, levels, queue, rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from ridges_proxy.ledger.account import Account
    from ridges_proxy.ledger.alert_rules import AlertRules
    from ridges_proxy.ledger.models import CallRecord, Hold, Run, RunUsage, Ticket
    from ridges_proxy.ledger.sqlite.levels import LevelRow


def reserve(  # noqa: PLR0913, PLR0917 - all that decides about a hold
    connection: sqlite3.Connection,
    run: Run,
    requested_nanousd: int,
    minimum_nanousd: int,
    now: float,
    ticket: Ticket | None,
    rules: AlertRules,
) -> tuple[int, list[LevelRow]] | RefusedError:
    """Add a hold to the account of the run. Return its amount and the levels that must hold it, too.

    Or return the refusal, which is activity too.
    """
    account = rows.find(connection, run.id)
    known = account is not None
    account = account or rows.unknown(connection, run, now)
    account.record_activity(now)  # a refusal too: repeated requests must not let the TTL pass
    turn = queue.turn(connection, run.id, ticket, now)
    found = levels.find(connection, run.levels, rules) if run.levels else []
    result: tuple[int, list[LevelRow]] | RefusedError
    try:
        result = account.reserve(run, requested_nanousd, minimum_nanousd, now, turn, found), found
    except RefusedError as refusal:
        result = refusal.with_traceback(None)  # this frame would keep it, and it this frame, in a cycle
        if isinstance(refusal, BudgetExhaustedError):
            _alert_of_refusal(connection, account, found, minimum_nanousd, refusal, rules, now)
    if known:
        rows.update(connection, account)
    elif isinstance(result, tuple):
        rows.make_known(connection, account)
    if ticket is not None and isinstance(result, RunBusyError):
        result.place = queue.enter(connection, ticket, now)
    elif ticket is not None and turn.waits:
        queue.leave(connection, ticket)
    return result


def _alert_of_refusal(  # noqa: PLR0913, PLR0917 - the account, its levels and the refusal
    connection: sqlite3.Connection,
    account: Account,
    found: list[LevelRow],
    minimum_nanousd: int,
    refusal: BudgetExhaustedError,
    rules: AlertRules,
    now: float,
) -> None:
    if refusal.is_of_run:
        _alert_of_run(connection, account, rules, now, refused=True)
        return
    for row in found:
        if row.refuses(minimum_nanousd):
            levels.refuse(connection, row, rules, now)


def _alert_of_run(
    connection: sqlite3.Connection, account: Account, rules: AlertRules, now: float, *, refused: bool = False
) -> None:
    """Make the alerts of the run's own budget. The caller writes the account."""
    if rules.runs:
        level = run_level(account.run_id, account.budget_nanousd)
        for made in rules.crossed(account, level, now, refused=refused):
            alerts.insert(connection, made)


def count_refusals(connection: sqlite3.Connection, refusals: Mapping[str, Mapping[str, int]]) -> None:
    """Count refused calls of known runs, by code."""
    for run_id, numbers in refusals.items():
        account = rows.find(connection, run_id)
        if account is not None:
            account.record.add_refusals(numbers)
            rows.update(connection, account)


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
    return account.usage(now, detailed=True)


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


def resolve(  # noqa: PLR0913, PLR0917 - the hold, its end, and the rules of the ledger
    connection: sqlite3.Connection,
    hold_id: str,
    cost_nanousd: int | None,
    now: float,
    rules: AlertRules,
    call: CallRecord | None = None,
) -> RunUsage | None:
    """Resolve an open hold: charge the cost, or nothing if it is None. Return the usage afterwards.

    Returns None if the hold is not open.
    """
    taken = rows.take_hold(connection, hold_id)
    account = None if taken is None else rows.find(connection, taken[0].run_id)
    if taken is None or account is None:
        return None
    hold, numbers = taken
    account.resolve(hold, cost_nanousd, now, call)
    if cost_nanousd:
        _alert_of_run(connection, account, rules, now)
    rows.update(connection, account)
    found = levels.remove_hold(connection, numbers, hold, cost_nanousd, rules, now)
    if cost_nanousd:
        connection.execute("UPDATE totals SET charged_nanousd = charged_nanousd + ?", (cost_nanousd,))
    return account.usage(now, levels=found)


def charge_expired(connection: sqlite3.Connection, now: float, limit: int, rules: AlertRules) -> list[Hold]:
    """Charge expired holds in full, and return them."""
    expired = rows.expired_holds(connection, now, limit)
    for hold in expired:
        resolve(connection, hold.id, hold.amount_nanousd, now, rules)
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
        forgotten.append(account.usage(now, detailed=True))
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
