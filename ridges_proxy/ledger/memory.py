"""`memory://`: a ledger in a lock-guarded dict of one process."""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ridges_proxy.errors import BudgetExhaustedError, LedgerUnavailableError, RefusedError, RunBusyError
from ridges_proxy.ledger.account import Account
from ridges_proxy.ledger.alert_rules import NO_ALERTS, AlertRules, run_level
from ridges_proxy.ledger.audit_trail import MemoryAuditTrail
from ridges_proxy.ledger.booked_calls import MemoryCalls, booked_call
from ridges_proxy.ledger.finished_runs import FinishedRuns
from ridges_proxy.ledger.hold_id import new_hold_id
from ridges_proxy.ledger.interface import CLOSED_RUNS_KEPT, DAY_SECONDS, check_amounts, check_reservation
from ridges_proxy.ledger.memory_levels import MemoryLevels, page_of
from ridges_proxy.ledger.memory_list import first_of
from ridges_proxy.ledger.models import (
    BookedCallPage,
    CallRecord,
    ClosedRuns,
    Hold,
    Kind,
    ReceiptPage,
    RunPage,
    RunQuery,
    RunUsage,
    SweptSlice,
)
from ridges_proxy.ledger.open_calls import OpenCallPage, open_call
from ridges_proxy.ledger.run_list import PageOfParts
from ridges_proxy.ledger.run_queues import RunQueues
from ridges_proxy.runtime.cooperative import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ridges_proxy.billing.levels import Level
    from ridges_proxy.ledger.audit_entries import AuditEntry, AuditPage, AuditQuery
    from ridges_proxy.ledger.level_account import LevelAccount
    from ridges_proxy.ledger.models import Alert, LevelPage, LevelQuery, LevelUsage, Run, SetAmount, Ticket

LOCK_TIMEOUT_SECONDS = 5.0
"""Limit of the wait for the lock. No step under it takes 1 ms, so a longer wait means a deadlock."""

LIST_SLICE = 250
"""Runs or levels that a list reads between two pauses: about 1 ms."""

# Inside the class, `list` is the method of that name.
_UsageList = list[RunUsage]
_HoldList = list[Hold]
_LevelList = list["LevelAccount"]
_LevelUsageList = list["LevelUsage"]


class MemoryLedger:
    """Implementation of `Ledger` for one process.

    The accounts are in the order of their last activity. A call moves its account to the end, and a sweep
    examines only the front, so both take constant time for any number of runs.
    """

    def __init__(
        self,
        run_ttl_seconds: float,
        clock: Callable[[], float] | None = None,
        receipt_days: int = 0,
        alert_rules: AlertRules = NO_ALERTS,
        *,
        keeps_calls: bool = False,
    ) -> None:
        """The clock gives seconds since the epoch. By default it follows no change of the system clock."""
        self._run_ttl_seconds = run_ttl_seconds
        self._finished_runs = FinishedRuns(receipt_days * DAY_SECONDS)
        self._clock = clock or _steady_clock()
        self._alert_rules = alert_rules
        self._lock = _Lock()
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._holds: dict[str, Hold] = {}
        self._queues = RunQueues()
        self._levels = MemoryLevels(alert_rules)
        self._keeps_calls = keeps_calls
        self._calls = MemoryCalls(receipt_days * DAY_SECONDS)
        self._trail = MemoryAuditTrail(receipt_days)
        self._closed_run_ids: deque[str] = deque(maxlen=CLOSED_RUNS_KEPT)
        self._closed_count = 0

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
        with self._lock:
            now = self._clock()
            account = self._accounts.get(run.id)
            if account is None:
                account = self._unknown(run)
            else:
                account.record_activity(now)  # a refusal too: repeated requests must not let the TTL pass
                self._move_to_end(account, now)
            levels = self._levels.open(run.levels) if run.levels else []
            with self._queued(ticket, now):
                turn = self._queues.turn(run.id, ticket, now)
                try:
                    granted = account.reserve(run, requested_nanousd, minimum_nanousd, now, turn, levels)
                except BudgetExhaustedError as refusal:
                    self._alert_of_refusal(refusal, account, levels, minimum_nanousd, now)
                    raise
            expires_at = now + expires_in_seconds
            hold = Hold(new_hold_id(now), run.id, kind, granted, expires_at, model, bool(levels))
            self._accounts[run.id] = account
            self._finished_runs.remove(run.id)
            self._holds[hold.id] = hold
            if levels:
                self._levels.hold(levels, hold)
            return hold

    def leave(self, ticket: Ticket) -> None:
        with self._lock:
            self._queues.leave(ticket)

    def waiting(self, run_id: str) -> int:
        with self._lock:
            return self._queues.waiting(run_id, self._clock())

    def settle(self, hold: Hold, cost_nanousd: int, call: CallRecord | None = None) -> RunUsage | None:
        check_amounts(cost_nanousd)
        return self._resolve(hold, cost_nanousd, call)

    def release(self, hold: Hold) -> RunUsage | None:
        return self._resolve(hold, None)

    def usage(self, run_id: str) -> RunUsage | None:
        with self._lock:
            account = self._accounts.get(run_id) or self._finished_runs.find(run_id)
            return account.usage(self._clock(), detailed=True) if account else None

    def list(self, query: RunQuery) -> RunPage:
        with self._lock:
            # dict.keys: iterating an OrderedDict looks up every run, which takes 0.3 s for a million runs.
            run_ids = iter(list(dict.keys(self._accounts)))
        parts = PageOfParts(query)
        while batch := list(itertools.islice(run_ids, LIST_SLICE)):
            with self._lock:
                now = self._clock()
                accounts = [self._accounts[run_id] for run_id in batch if run_id in self._accounts]
                found, counts = first_of(accounts, query, parts.needed)
                rows = [account.usage(now) for account in found]
            parts.add(rows, counts)
            pause()
        return parts.page()

    def reset(self, run_id: str) -> RunUsage | None:
        with self._lock:
            now = self._clock()
            account = self._accounts.get(run_id) or self._finished_runs.find(run_id)
            if account is None:
                return None
            before = account.usage(now)
            account.reset(now)
            self._accounts[run_id] = account
            self._finished_runs.remove(run_id)
            self._move_to_end(account, now)
            return before

    def close(self, run: Run) -> RunUsage:
        with self._lock:
            now = self._clock()
            account = self._accounts.get(run.id) or self._unknown(run)
            account.close(run, now)
            self._accounts[run.id] = account
            self._finished_runs.remove(run.id)
            self._closed_count += 1
            self._closed_run_ids.append(run.id)
            self._move_to_end(account, now)
            return account.usage(now, detailed=True)

    def closed_runs_since(self, cursor: str | None) -> ClosedRuns:
        with self._lock:
            kept = len(self._closed_run_ids)
            new = 0 if cursor is None else min(self._closed_count - int(cursor), kept)
            return ClosedRuns(list(self._closed_run_ids)[kept - new :], str(self._closed_count))

    def sweep(self, limit: int) -> SweptSlice:
        with self._lock:
            now = self._clock()
            self._queues.sweep(now)
            expired = self._charge_expired(now, limit)
            receipts, more = self._forget_idle(now, limit)
            more |= self._finished_runs.drop_old(now, limit)
            more |= self._calls.drop_old(now, limit)
            more |= self._trail.drop_old(now, limit)
            more |= self._levels.sweep(now, limit)
            return SweptSlice(receipts, expired, more=more or len(expired) == limit)

    def history(self, since: float, cursor: str | None, limit: int) -> ReceiptPage:  # noqa: ARG002 - no receipts are kept
        return ReceiptPage([], None)

    def calls(self, since: float, cursor: str | None, limit: int) -> BookedCallPage:
        with self._lock:
            return self._calls.page(since, cursor, limit)

    def open_calls(self, limit: int, run_id: str | None = None) -> OpenCallPage:
        with self._lock:
            now = self._clock()
            # This examines all open holds, as `_charge_expired` does. The oldest is the first.
            holds = [hold for hold in self._holds.values() if run_id in {None, hold.run_id}]
            return OpenCallPage([open_call(hold, now) for hold in holds[:limit]], len(holds))

    def levels(self, levels: Sequence[Level]) -> Sequence[LevelUsage]:
        with self._lock:
            return [self._levels.usage(level) for level in levels]

    def list_levels(self, query: LevelQuery) -> LevelPage:
        with self._lock:
            keys = iter(self._levels.keys())
        found: _LevelUsageList = []
        while batch := list(itertools.islice(keys, LIST_SLICE)):
            with self._lock:
                found += self._levels.matching(batch, query)
            pause()
        return page_of(found, query)

    def set_amount(self, budget: str, scope: str, amount_nanousd: int | None) -> None:
        check_amounts(amount_nanousd or 0)
        with self._lock:
            self._levels.set_amount(budget, scope, amount_nanousd)

    def set_amounts(self) -> Sequence[SetAmount]:
        with self._lock:
            return self._levels.set_amounts()

    def reset_level(self, level: Level) -> LevelUsage | None:
        with self._lock:
            return self._levels.reset(level)

    def claim_alerts(self, limit: int, lease_seconds: float) -> Sequence[Alert]:
        with self._lock:
            return self._levels.alerts.claim(limit, lease_seconds, self._clock())

    def drop_alert(self, alert_id: str) -> None:
        with self._lock:
            self._levels.alerts.drop(alert_id)

    def count_refusals(self, refusals: Mapping[str, Mapping[str, int]]) -> None:
        with self._lock:
            for run_id, numbers in refusals.items():
                account = self._accounts.get(run_id)
                if account is not None:
                    account.record.add_refusals(numbers)

    def record_action(self, entry: AuditEntry) -> None:
        self._trail.add(entry)

    def audit_trail(self, query: AuditQuery) -> AuditPage:
        return self._trail.page(query)

    def maintain(self) -> None:
        return

    def count(self) -> int:
        with self._lock:
            return len(self._accounts)

    def ping(self) -> None:
        with self._lock:
            return

    def disconnect(self) -> None:
        return

    def _unknown(self, run: Run) -> Account:
        """Return the account of a run that is not known: of a finished run, or a new one."""
        return self._finished_runs.find(run.id) or Account(run.id, run.budget_nanousd)

    def _resolve(
        self, hold: Hold, cost_nanousd: int | None, call: CallRecord | None = None
    ) -> RunUsage | None:
        with self._lock:
            held = self._holds.pop(hold.id, None)
            if held is None:
                return None
            now = self._clock()
            account = self._accounts[held.run_id]
            levels = self._apply(held, cost_nanousd, now, call)
            return account.usage(now, levels=levels)

    def _apply(
        self, hold: Hold, cost_nanousd: int | None, now: float, call: CallRecord | None = None
    ) -> tuple[LevelUsage, ...]:
        """Resolve a hold in the run and in its levels. Return the levels afterwards."""
        account = self._accounts[hold.run_id]
        account.resolve(hold, cost_nanousd, now, call)
        self._move_to_end(account, now)
        if self._alert_rules.runs and cost_nanousd:
            self._alert_of_run(account, now)
        if self._keeps_calls and cost_nanousd is not None:
            self._calls.add(booked_call(hold, cost_nanousd, now, call))
        return self._levels.resolve(hold, cost_nanousd, now) if hold.nested else ()

    def _alert_of_run(self, account: Account, now: float, *, refused: bool = False) -> None:
        level = run_level(account.run_id, account.budget_nanousd)
        self._levels.alerts.add(self._alert_rules.crossed(account, level, now, refused=refused))

    def _alert_of_refusal(
        self,
        refusal: BudgetExhaustedError,
        account: Account,
        levels: _LevelList,
        minimum_nanousd: int,
        now: float,
    ) -> None:
        """Make the alerts of the budgets that refuse the call."""
        if not refusal.is_of_run:
            self._levels.refuse(levels, minimum_nanousd, now)
        elif self._alert_rules.runs:
            self._alert_of_run(account, now, refused=True)

    def _charge_expired(self, now: float, limit: int) -> _HoldList:
        # This examines all open holds. There is one for each call in flight, and admission limits those.
        holds = (hold for hold in self._holds.values() if hold.expires_at <= now)
        expired = list(itertools.islice(holds, limit))
        for hold in expired:
            del self._holds[hold.id]
            self._apply(hold, hold.amount_nanousd, now)
        return expired

    def _forget_idle(self, now: float, limit: int) -> tuple[_UsageList, bool]:
        receipts: list[RunUsage] = []
        for _ in range(limit):
            account = next(iter(self._accounts.values()), None)
            if account is None or now - account.looked_at < self._run_ttl_seconds:
                return receipts, False
            if account.keep_if_needed(now, self._run_ttl_seconds):
                self._move_to_end(account, now)
                continue
            del self._accounts[account.run_id]
            receipts.append(account.usage(now, detailed=True))
            if account.finished:
                self._finished_runs.add(account, now)
        return receipts, True

    def _move_to_end(self, account: Account, now: float) -> None:
        account.looked_at = now
        self._accounts.move_to_end(account.run_id)

    @contextmanager
    def _queued(self, ticket: Ticket | None, now: float) -> Iterator[None]:
        """Put the call into its queue if the block raises RunBusyError. Any other end takes it out."""
        try:
            yield
        except RunBusyError as busy:
            if ticket is not None:
                busy.place = self._queues.enter(ticket, now)
            raise
        except RefusedError:
            if ticket is not None:
                self._queues.leave(ticket)
            raise
        if ticket is not None:
            self._queues.leave(ticket)


class _Lock:
    """A lock as a context, with a limit for the wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=LOCK_TIMEOUT_SECONDS):
            raise LedgerUnavailableError

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _steady_clock() -> Callable[[], float]:
    """Return a clock in seconds since the epoch that does not follow later changes of the system clock."""
    started_at = time.time() - time.monotonic()
    return lambda: started_at + time.monotonic()
