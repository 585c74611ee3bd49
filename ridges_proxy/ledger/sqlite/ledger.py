"""`sqlite:///path`: a ledger in one file, shared by all processes of one machine."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ridges_proxy.errors import LedgerUnavailableError, RefusedError
from ridges_proxy.ledger.alert_rules import NO_ALERTS
from ridges_proxy.ledger.audit_trail import kept_seconds_of
from ridges_proxy.ledger.booked_calls import booked_call
from ridges_proxy.ledger.hold_id import new_hold_id
from ridges_proxy.ledger.interface import DAY_SECONDS, check_amounts, check_reservation
from ridges_proxy.ledger.models import (
    ClosedRuns,
    Hold,
    Kind,
    ReceiptPage,
    RunPage,
    RunQuery,
    RunUsage,
    SweptSlice,
)
from ridges_proxy.ledger.sqlite import (
    alerts,
    audit_trail,
    database,
    open_calls,
    queue,
    rows,
    run_list,
    schema,
    transactions,
)
from ridges_proxy.ledger.sqlite import calls as sqlite_calls
from ridges_proxy.ledger.sqlite import levels as sqlite_levels
from ridges_proxy.runtime.batches import Batches
from ridges_proxy.runtime.cooperative import Threads
from ridges_proxy.runtime.tracebacks import drop_tracebacks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ridges_proxy.billing.levels import Level
    from ridges_proxy.ledger.alert_rules import AlertRules
    from ridges_proxy.ledger.audit_entries import AuditEntry, AuditPage, AuditQuery
    from ridges_proxy.ledger.models import (
        Alert,
        BookedCallPage,
        CallRecord,
        LevelPage,
        LevelQuery,
        LevelUsage,
        Run,
        SetAmount,
        Ticket,
    )
    from ridges_proxy.ledger.open_calls import OpenCallPage

T = TypeVar("T")

_Step = Callable[[sqlite3.Connection], Any]
"""A reservation or a resolution inside a transaction, which returns its result."""

logger = logging.getLogger(__name__)


class SqliteLedger:
    """Implementation of `Ledger` in a SQLite file.

    A method is one short transaction on the one connection of the process. Reservations and resolutions that
    calls make in the same moment share a transaction: each of them returns after its commit. A method that
    reads many rows runs in a thread, on a connection of its own.
    """

    def __init__(  # noqa: PLR0913 - the file, and the settings of a ledger
        self,
        path: Path,
        run_ttl_seconds: float,
        receipt_days: int = 0,
        clock: Callable[[], float] | None = None,
        alert_rules: AlertRules = NO_ALERTS,
        *,
        keeps_calls: bool = False,
    ) -> None:
        """Open the file, or create it. Raises LedgerOpeningError."""
        self._path = path
        self._run_ttl_seconds = run_ttl_seconds
        self._receipt_seconds = receipt_days * DAY_SECONDS
        self._trail_seconds = kept_seconds_of(receipt_days)
        self._alert_rules = alert_rules
        self._keeps_calls = keeps_calls
        self._connection = database.open_file(path, schema.LEDGER)
        with database.opening(path), database.closed_on_failure(self._connection):
            self._clock = clock or schema.clock_of(self._connection)
            self._file = path.stat()
        self._lock = threading.Lock()
        self._batches = Batches[_Step, Any](self._write_together)
        self._threads = Threads()
        self._replaced = False

    def reserve(  # noqa: PLR0913, PLR0917 - as in the interface
        self,
        run: Run,
        kind: Kind,
        requested_nanousd: int,
        minimum_nanousd: int,
        expires_in_seconds: float,
        ticket: Ticket | None = None,
        model: str = "",
    ) -> Hold:
        check_reservation(run, requested_nanousd, minimum_nanousd)

        def reserve_in(connection: sqlite3.Connection) -> Hold | RefusedError:
            now, rules = self._clock(), self._alert_rules
            result = transactions.reserve(
                connection, run, requested_nanousd, minimum_nanousd, now, ticket, rules
            )
            if isinstance(result, RefusedError):
                return result  # not raised: the activity of a refused call is committed
            granted, nested = result
            expires_at = now + expires_in_seconds
            hold = Hold(new_hold_id(now), run.id, kind, granted, expires_at, model, bool(nested))
            rows.insert_hold(connection, hold, sqlite_levels.add_hold(connection, nested, granted))
            return hold

        hold: Hold = self._batches.do(reserve_in)
        return hold

    def leave(self, ticket: Ticket) -> None:
        with self._writing() as connection:
            queue.leave(connection, ticket)

    def waiting(self, run_id: str) -> int:
        with self._locked_connection() as connection:
            return queue.waiting(connection, run_id, self._clock())

    def settle(self, hold: Hold, cost_nanousd: int, call: CallRecord | None = None) -> RunUsage | None:
        check_amounts(cost_nanousd)
        return self._resolve(hold, cost_nanousd, call)

    def release(self, hold: Hold) -> RunUsage | None:
        return self._resolve(hold, None)

    def usage(self, run_id: str) -> RunUsage | None:
        with self._locked_connection() as connection:
            account = rows.find(connection, run_id) or rows.find_finished(connection, run_id)
            return None if account is None else account.usage(self._clock(), detailed=True)

    def list(self, query: RunQuery) -> RunPage:
        return self._in_thread(lambda connection: run_list.page_of(connection, query, self._clock()))

    def reset(self, run_id: str) -> RunUsage | None:
        with self._writing() as connection:
            return transactions.reset(connection, run_id, self._clock())

    def close(self, run: Run) -> RunUsage:
        with self._writing() as connection:
            return transactions.close(connection, run, self._clock())

    def closed_runs_since(self, cursor: str | None) -> ClosedRuns:
        with self._locked_connection() as connection:
            found = connection.execute(
                "SELECT number, run_id FROM closings WHERE number > ? ORDER BY number", (int(cursor or -1),)
            ).fetchall()
        last = found[-1][0] if found else int(cursor or 0)
        return ClosedRuns([run_id for _, run_id in found] if cursor is not None else [], str(last))

    def sweep(self, limit: int) -> SweptSlice:
        with self._writing() as connection:
            now = self._clock()
            queue.remove_unseen(connection, now)
            expired = transactions.charge_expired(connection, now, limit, self._alert_rules)
            for hold in expired:
                self._book(connection, hold, hold.amount_nanousd, now)
            forgotten, more = transactions.forget_idle(connection, now, self._run_ttl_seconds, limit)
            more |= transactions.drop_receipts(connection, now - self._receipt_seconds, limit)
            more |= sqlite_calls.drop_old(connection, now - self._receipt_seconds, limit)
            more |= audit_trail.drop_old(connection, now - self._trail_seconds, limit)
            more |= sqlite_levels.drop_ended(connection, now, limit)
            return SweptSlice(forgotten, expired, more=more or len(expired) == limit)

    def history(self, since: float, cursor: str | None, limit: int) -> ReceiptPage:
        found = self._in_thread(
            lambda connection: rows.numbered_receipts(connection, since, int(cursor or 0), limit)
        )
        next_cursor = str(found[-1][0]) if len(found) == limit else None
        return ReceiptPage([receipt for _, receipt in found], next_cursor)

    def calls(self, since: float, cursor: str | None, limit: int) -> BookedCallPage:
        return self._in_thread(lambda connection: sqlite_calls.page(connection, since, cursor, limit))

    def open_calls(self, limit: int, run_id: str | None = None) -> OpenCallPage:
        return self._in_thread(
            lambda connection: open_calls.page_of(connection, limit, run_id, self._clock())
        )

    def levels(self, levels: Sequence[Level]) -> Sequence[LevelUsage]:
        with self._locked_connection() as connection:
            return sqlite_levels.usages(connection, levels)

    def list_levels(self, query: LevelQuery) -> LevelPage:
        return self._in_thread(lambda connection: sqlite_levels.page(connection, query))

    def set_amount(self, budget: str, scope: str, amount_nanousd: int | None) -> None:
        check_amounts(amount_nanousd or 0)
        with self._writing() as connection:
            sqlite_levels.set_amount(connection, budget, scope, amount_nanousd)

    def set_amounts(self) -> Sequence[SetAmount]:
        with self._locked_connection() as connection:
            return sqlite_levels.set_amounts(connection)

    def reset_level(self, level: Level) -> LevelUsage | None:
        with self._writing() as connection:
            return sqlite_levels.reset(connection, level)

    def claim_alerts(self, limit: int, lease_seconds: float) -> Sequence[Alert]:
        now = self._clock()
        with self._locked_connection() as connection:
            if not alerts.any_is_due(connection, now):  # asked each second: usually there is nothing to write
                return []
        with self._writing() as connection:
            return alerts.claim(connection, limit, lease_seconds, now)

    def drop_alert(self, alert_id: str) -> None:
        with self._writing() as connection:
            alerts.drop(connection, alert_id)

    def count_refusals(self, refusals: Mapping[str, Mapping[str, int]]) -> None:
        with self._writing() as connection:
            transactions.count_refusals(connection, refusals)

    def record_action(self, entry: AuditEntry) -> None:
        with self._writing() as connection:
            audit_trail.put(connection, [entry])

    def audit_trail(self, query: AuditQuery) -> AuditPage:
        return self._in_thread(lambda connection: audit_trail.page(connection, query))

    def maintain(self) -> None:
        if self._is_replaced() and not self._replaced:
            logger.error("the ledger's file was moved or deleted: no more calls until a restart")
            self._replaced = True
        self._in_thread(database.checkpoint)

    def count(self) -> int:
        return self._in_thread(rows.runs_in)

    def ping(self) -> None:
        with self._writing() as connection:
            # The value must change: SQLite does not write a page that stays the same.
            connection.execute("UPDATE pings SET flip = 1 - flip")
        try:
            database.check_space(self._path)
        except sqlite3.Error as error:
            _fail(error)

    def disconnect(self) -> None:
        self._connection.close()

    def _resolve(
        self, hold: Hold, cost_nanousd: int | None, call: CallRecord | None = None
    ) -> RunUsage | None:
        def resolve_in(connection: sqlite3.Connection) -> RunUsage | None:
            now, rules = self._clock(), self._alert_rules
            usage = transactions.resolve(connection, hold.id, cost_nanousd, now, rules, call)
            if usage is not None and cost_nanousd is not None:
                self._book(connection, hold, cost_nanousd, now, call)
            return usage

        usage: RunUsage | None = self._batches.do(resolve_in)
        return usage

    def _write_together(self, steps: Sequence[_Step]) -> Sequence[Any]:
        with self._locked_connection() as connection:
            outcomes = database.write_together(connection, steps)
        return [_unavailable(each) if isinstance(each, sqlite3.Error) else each for each in outcomes]

    def _book(
        self,
        connection: sqlite3.Connection,
        hold: Hold,
        cost_nanousd: int,
        now: float,
        call: CallRecord | None = None,
    ) -> None:
        if self._keeps_calls:
            sqlite_calls.insert(connection, booked_call(hold, cost_nanousd, now, call))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._locked_connection() as connection, database.writing(connection):
            yield connection

    @contextmanager
    def _locked_connection(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection to one method at a time. Errors of SQLite become LedgerUnavailableError."""
        if self._replaced or not self._lock.acquire(timeout=database.LOCK_TIMEOUT_SECONDS):
            raise LedgerUnavailableError
        try:
            yield self._connection
        except sqlite3.Error as error:
            _fail(error)
        finally:
            self._lock.release()

    def _in_thread(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Read in a thread, on a connection of its own: it may take long, and must not block other calls."""

        def open_and_read() -> T:
            with closing(database.connect(self._path)) as connection:
                return read(connection)

        try:
            return self._threads.do(open_and_read)
        except sqlite3.Error as error:
            _fail(error)

    def _is_replaced(self) -> bool:
        """Whether the path names another file by now, or none: other processes would use another ledger."""
        try:
            found = self._path.stat()
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != (self._file.st_dev, self._file.st_ino)


def _fail(error: sqlite3.Error) -> NoReturn:
    raise _unavailable(error)


def _unavailable(error: sqlite3.Error) -> LedgerUnavailableError:
    """Log an error of SQLite, and return the error of the ledger."""
    logger.error("the ledger failed", extra={"error": str(error)})  # the text of SQLite contains no values
    drop_tracebacks(error)
    unavailable = LedgerUnavailableError()
    unavailable.__cause__ = error
    return unavailable
