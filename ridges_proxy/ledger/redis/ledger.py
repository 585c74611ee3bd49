"""`redis://…`: a ledger in Redis or Valkey, for several machines."""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING, Any

from ridges_proxy.ledger.alert_rules import NO_ALERTS
from ridges_proxy.ledger.audit_trail import kept_seconds_of
from ridges_proxy.ledger.hold_id import new_hold_id
from ridges_proxy.ledger.interface import CLOSED_RUNS_KEPT, DAY_SECONDS, check_amounts, check_reservation
from ridges_proxy.ledger.models import (
    TICKET_SECONDS,
    ClosedRuns,
    Hold,
    Kind,
    Receipt,
    ReceiptPage,
    RunPage,
    RunQuery,
    RunUsage,
    SweptSlice,
)
from ridges_proxy.ledger.redis import run_list, scripts
from ridges_proxy.ledger.redis.audit_trail import RedisAuditTrail
from ridges_proxy.ledger.redis.calls import RedisCalls
from ridges_proxy.ledger.redis.holds import RedisHolds
from ridges_proxy.ledger.redis.levels import (
    RESOLVED_SECONDS,
    RedisLevels,
)
from ridges_proxy.ledger.redis.open_calls import RedisOpenCalls
from ridges_proxy.ledger.redis.reservation import MAX_EXACT, Reservation
from ridges_proxy.ledger.redis.rows import (
    detailed_usage_of,
    hold_of,
    receipt_of,
    run_of_receipt,
    usage_of,
)
from ridges_proxy.ledger.run_list import PageOfParts
from ridges_proxy.ledger.run_record import MAX_REFUSAL_CODES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    from ridges_proxy.ledger.redis.client import RedisClient
    from ridges_proxy.ledger.redis.scripts import Script

BUCKETS = 1024
"""Enough to spread over 100 nodes, few enough to visit one by one. Never change it: keys depend on it."""

CLOSED_RUNS_KEY = "ridges:closings"

PING_KEY = "ridges:ping"

_ReceiptList = list[Receipt]  # inside the class, `list` is the method of that name


class RedisLedger:
    """Implementation of `Ledger`. Each method is one script; the hold's id makes it safe to run twice.

    In a Cluster, the budgets above a run are on another node than the run: see `_reserve_in_two_steps`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the store, and the settings of a ledger
        self,
        client: RedisClient,
        run_ttl_seconds: float,
        receipt_days: int = 0,
        clock: Callable[[], float] | None = None,
        buckets: int = BUCKETS,
        alert_rules: AlertRules = NO_ALERTS,
        *,
        keeps_calls: bool = False,
    ) -> None:
        """Does not connect yet. The clock is that of Redis, except in tests."""
        self._client = client
        self._run_ttl_seconds = run_ttl_seconds
        self._receipt_seconds = receipt_days * DAY_SECONDS
        self._trail_seconds = kept_seconds_of(receipt_days)
        self._clock = clock
        self._buckets = buckets
        self._levels = RedisLevels(client, alert_rules, self._now)
        self._keeps_calls = keeps_calls
        self._holds = RedisHolds(client, self._levels, self._key_of, self._now, keeps_calls=keeps_calls)
        self._calls = RedisCalls(client, key_of, buckets)
        self._trail = RedisAuditTrail(client)
        self._open_calls = RedisOpenCalls(client, key_of, self._now, buckets)
        self._swept_bucket = 0

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
        requested, minimum = min(requested_nanousd, MAX_EXACT), min(minimum_nanousd, MAX_EXACT)
        made_at = time.time() if self._clock is None else self._clock()
        wanted = Hold(new_hold_id(made_at), run.id, kind, requested, 0.0, model, bool(run.levels))
        return self._holds.reserve(Reservation(wanted, run, minimum, expires_in_seconds, ticket))

    def leave(self, ticket: Ticket) -> None:
        self._run(scripts.LEAVE, ticket.run_id, ticket.id)

    def waiting(self, run_id: str) -> int:
        return int(self._run(scripts.WAITING, run_id, TICKET_SECONDS))

    def settle(self, hold: Hold, cost_nanousd: int, call: CallRecord | None = None) -> RunUsage | None:
        check_amounts(cost_nanousd)
        return self._holds.resolve(hold, cost_nanousd, call)

    def release(self, hold: Hold) -> RunUsage | None:
        return self._holds.resolve(hold, None)

    def usage(self, run_id: str) -> RunUsage | None:
        reply = self._run(scripts.USAGE, run_id)
        return None if reply is None else detailed_usage_of(reply)

    def list(self, query: RunQuery) -> RunPage:
        parts = PageOfParts(query)
        arguments = run_list.arguments_of(query, parts.needed)
        for bucket in range(self._buckets):
            reply = self._client.run(scripts.LIST, key_of(bucket), self._now(), *arguments)
            parts.add(*run_list.part_of(reply))
        return parts.page()

    def reset(self, run_id: str) -> RunUsage | None:
        before = self._run(scripts.RESET, run_id)
        return None if before is None else usage_of(before)

    def close(self, run: Run) -> RunUsage:
        reply = self._run(scripts.CLOSE, run.id, run.budget_nanousd, run.remember_seconds)
        self._client.do(lambda client: client.xadd(CLOSED_RUNS_KEY, {"run": run.id}, maxlen=CLOSED_RUNS_KEPT))
        return detailed_usage_of(reply)

    def closed_runs_since(self, cursor: str | None) -> ClosedRuns:
        if cursor is None:
            latest = self._client.do(lambda client: client.xrevrange(CLOSED_RUNS_KEY, count=1))
            return ClosedRuns([], latest[0][0].decode() if latest else "0-0")
        streams = self._client.do(lambda client: client.xread({CLOSED_RUNS_KEY: cursor}))
        entries = streams[0][1] if streams else []
        run_ids = [fields[b"run"].decode() for _, fields in entries]
        return ClosedRuns(run_ids, entries[-1][0].decode() if entries else cursor)

    def sweep(self, limit: int) -> SweptSlice:
        """Continue with the bucket where the last slice ended. The levels and the trail are last."""
        swept = SweptSlice([], [], more=True)
        left = limit
        while left > 0 and self._swept_bucket < self._buckets:
            done, more = self._sweep_bucket(swept, left)
            if more:
                return swept
            left -= done
            self._swept_bucket += 1
        if self._swept_bucket < self._buckets or self._levels.sweep(limit):
            return swept
        self._trail.drop_old((self._clock or time.time)() - self._trail_seconds)
        self._swept_bucket = 0
        return SweptSlice(swept.receipts, swept.expired, more=False, lost=swept.lost)

    def history(self, since: float, cursor: str | None, limit: int) -> ReceiptPage:
        """The cursor is a bucket and the number of its receipts to skip."""
        bucket, skipped = (int(number) for number in (cursor or "0:0").split(":"))
        receipts: list[Receipt] = []
        while bucket < self._buckets:
            found = self._receipts(bucket, since, skipped, limit - len(receipts))
            receipts.extend(found)
            if len(receipts) == limit:
                return ReceiptPage(receipts, f"{bucket}:{skipped + len(found)}")
            bucket, skipped = bucket + 1, 0
        return ReceiptPage(receipts, None)

    def calls(self, since: float, cursor: str | None, limit: int) -> BookedCallPage:
        return self._calls.page(since, cursor, limit)

    def open_calls(self, limit: int, run_id: str | None = None) -> OpenCallPage:
        if run_id is None:
            return self._open_calls.of_all(limit)
        return self._open_calls.of_run(limit, run_id, self._key_of(run_id))

    def levels(self, levels: Sequence[Level]) -> Sequence[LevelUsage]:
        return self._levels.usage(levels)

    def list_levels(self, query: LevelQuery) -> LevelPage:
        return self._levels.page(query)

    def set_amount(self, budget: str, scope: str, amount_nanousd: int | None) -> None:
        check_amounts(amount_nanousd or 0)
        self._levels.set_amount(budget, scope, amount_nanousd)

    def set_amounts(self) -> Sequence[SetAmount]:
        return self._levels.set_amounts()

    def reset_level(self, level: Level) -> LevelUsage | None:
        return self._levels.reset(level)

    def claim_alerts(self, limit: int, lease_seconds: float) -> Sequence[Alert]:
        return self._levels.claim_alerts(limit, lease_seconds)

    def drop_alert(self, alert_id: str) -> None:
        self._levels.drop_alert(alert_id)

    def count_refusals(self, refusals: Mapping[str, Mapping[str, int]]) -> None:
        for run_id, numbers in refusals.items():
            codes = (part for pair in numbers.items() for part in pair)
            self._run(scripts.REFUSALS, run_id, MAX_REFUSAL_CODES, *codes)

    def record_action(self, entry: AuditEntry) -> None:
        self._trail.put([entry])

    def audit_trail(self, query: AuditQuery) -> AuditPage:
        return self._trail.page(query)

    def maintain(self) -> None:
        """Release the holds of reservations that got no reply: Redis may have created them."""
        self._holds.release_unanswered()

    def count(self) -> int:
        return sum(self._client.do(self._runs_by_bucket))

    def ping(self) -> None:
        # First a command of its own: its error has a type, which that of a script has only since Redis 7.
        self._client.do(lambda client: client.set(PING_KEY, "", px=RESOLVED_SECONDS * 1000))
        self._client.run(scripts.PING, PING_KEY, RESOLVED_SECONDS * 1000, on_replicas=True)

    def disconnect(self) -> None:
        self._client.close()

    def _sweep_bucket(self, swept: SweptSlice, limit: int) -> tuple[int, bool]:
        """Sweep the next bucket. Return what was examined of the limit, and whether it has more."""
        second_key = self._levels.second_key()
        expired, forgotten, more, examined, lost, alerts = self._client.run(
            scripts.SWEEP,
            key_of(self._swept_bucket),
            self._now(),
            self._run_ttl_seconds,
            limit,
            self._receipt_seconds,
            self._levels.rules,
            int(self._keeps_calls),
            second_key=second_key,
        )
        holds = [hold_of(row) for row in expired]
        swept.expired.extend(holds)
        swept.receipts.extend(detailed_usage_of(row) for row in forgotten)
        swept.lost.extend(run_id.decode() for run_id in lost)
        self._levels.add_alerts(alerts)
        for hold in holds:
            if hold.nested and not second_key:
                self._levels.resolve(hold.id, hold.amount_nanousd)
        return len(expired) + examined, bool(more)

    def _receipts(self, bucket: int, since: float, skipped: int, limit: int) -> _ReceiptList:
        name, page = f"{key_of(bucket)}:receipts", {"start": skipped, "num": limit}
        members = self._client.do(lambda client: client.zrangebyscore(name, since, "+inf", **page))
        if not members:
            return []
        run_ids = [run_of_receipt(member) for member in members]
        finished = self._client.do(lambda client: client.hmget(f"{key_of(bucket)}:finished", run_ids))
        return [receipt_of(*pair) for pair in zip(members, finished, strict=True)]

    def _run(self, script: Script, run_id: str, *arguments: str | float) -> Any:  # noqa: ANN401 - a reply of any form
        return self._client.run(script, self._key_of(run_id), self._now(), run_id, *arguments)

    def _now(self) -> str:
        return scripts.now_by(self._clock)

    def _runs_by_bucket(self, client: Any) -> Any:  # noqa: ANN401 - redis-py's
        pipeline = client.pipeline(transaction=False)
        for bucket in range(self._buckets):
            pipeline.zcard(f"{key_of(bucket)}:idle")
        return pipeline.execute()

    def _key_of(self, run_id: str) -> str:
        return key_of(zlib.crc32(run_id.encode()) % self._buckets)


def key_of(bucket: int) -> str:
    """Return the prefix of all keys of a bucket."""
    return f"ridges:{{{bucket}}}"
