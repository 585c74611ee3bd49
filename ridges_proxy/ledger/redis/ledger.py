"""`redis://…`: a ledger in Redis or Valkey, for several machines."""

from __future__ import annotations

import bisect
import uuid
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any

from ridges_proxy.errors import (
    BudgetExhaustedError,
    LedgerUnavailableError,
    ProxyError,
    RunBusyError,
    RunClosedError,
    TooManyInFlightError,
)
from ridges_proxy.ledger.interface import CLOSED_RUNS_KEPT, DAY_SECONDS, check_amounts, check_reservation
from ridges_proxy.ledger.models import (
    SORT_KEYS,
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
from ridges_proxy.ledger.redis import scripts
from ridges_proxy.ledger.redis.client import AwayError
from ridges_proxy.ledger.redis.rows import hold_of, optional_usage_of, receipt_of, run_of_receipt, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ridges_proxy.ledger.models import Run, Ticket
    from ridges_proxy.ledger.redis.client import RedisClient
    from ridges_proxy.ledger.redis.scripts import Script

BUCKETS = 1024
"""Enough to spread over 100 nodes, few enough to visit one by one. Never change it: keys depend on it."""

CLOSED_RUNS_KEY = "ridges:closings"

PING_KEY = "ridges:ping"

RESOLVED_SECONDS = 60
"""Time for which a resolution can be repeated with the same reply, in case the first reply was lost."""

ABANDONED_SECONDS = 600
"""Time for which an abandoned reservation is refused: its request may still arrive after its release."""

MAX_UNANSWERED = 10_000
"""Limit of unanswered reservations that are kept for release. The holds of older ones expire."""

MAX_EXACT = 2**53 - 1
"""Largest exact integer in Lua, whose numbers are doubles. Budgets are smaller: amounts may be cut to it."""

REFUSALS: dict[bytes, type[ProxyError]] = {
    b"closed": RunClosedError,
    b"too_many": TooManyInFlightError,
    b"exhausted": BudgetExhaustedError,
    b"busy": RunBusyError,  # its place in the queue of its run follows, if it has one
    b"done": LedgerUnavailableError,  # the reservation was abandoned because its reply was lost
}

_ReceiptList = list[Receipt]  # inside the class, `list` is the method of that name


class RedisLedger:
    """Implementation of `Ledger`. Each method is one script; the hold's id makes it safe to run twice."""

    def __init__(
        self,
        client: RedisClient,
        run_ttl_seconds: float,
        receipt_days: int = 0,
        clock: Callable[[], float] | None = None,
        buckets: int = BUCKETS,
    ) -> None:
        """Does not connect yet. The clock is that of Redis, except in tests."""
        self._client = client
        self._run_ttl_seconds = run_ttl_seconds
        self._receipt_seconds = receipt_days * DAY_SECONDS
        self._clock = clock
        self._buckets = buckets
        self._swept_bucket = 0
        self._unanswered: deque[Hold] = deque(maxlen=MAX_UNANSWERED)

    def reserve(  # noqa: PLR0913, PLR0917 - as in the interface
        self,
        run: Run,
        kind: Kind,
        requested_nanousd: int,
        minimum_nanousd: int,
        expires_in_seconds: float,
        ticket: Ticket | None = None,
    ) -> Hold:
        check_reservation(run, requested_nanousd, minimum_nanousd)
        hold_id = uuid.uuid4().hex
        try:
            result, *granted = self._client.run(
                scripts.RESERVE,
                self._key_of(run.id),
                self._now(),
                hold_id,
                run.id,
                kind.value,
                run.budget_nanousd,
                min(requested_nanousd, MAX_EXACT),
                min(minimum_nanousd, MAX_EXACT),
                expires_in_seconds,
                run.remember_seconds,
                "" if run.max_in_flight is None else run.max_in_flight,
                int(run.own_budget),
                "" if ticket is None else ticket.id,
                TICKET_SECONDS,
                on_replicas=True,
            )
        except AwayError:
            raise
        except LedgerUnavailableError:
            self._unanswered.append(Hold(hold_id, run.id, kind, 0, 0.0))  # Redis may have created it
            raise
        if result in REFUSALS:
            raise _refusal(result, granted)
        amount_nanousd, expires_at = granted
        return Hold(hold_id, run.id, kind, int(amount_nanousd), float(expires_at))

    def leave(self, ticket: Ticket) -> None:
        self._run(scripts.LEAVE, ticket.run_id, ticket.id)

    def waiting(self, run_id: str) -> int:
        return int(self._run(scripts.WAITING, run_id, TICKET_SECONDS))

    def settle(self, hold: Hold, cost_nanousd: int) -> RunUsage | None:
        check_amounts(cost_nanousd)
        return self._resolve(hold, cost_nanousd)

    def release(self, hold: Hold) -> RunUsage | None:
        return self._resolve(hold, "")

    def usage(self, run_id: str) -> RunUsage | None:
        return optional_usage_of(self._run(scripts.USAGE, run_id))

    def list(self, query: RunQuery) -> RunPage:
        total = 0
        first_rows: list[RunUsage] = []
        needed, flag = query.offset + query.limit, "" if query.in_flight is None else int(query.in_flight)
        arguments = query.search, query.min_spent_nanousd, flag, query.sort.value, needed
        for bucket in range(self._buckets):
            found, rows = self._client.run(scripts.LIST, key_of(bucket), self._now(), *arguments)
            total += found
            for row in rows:
                bisect.insort(first_rows, usage_of(row), key=SORT_KEYS[query.sort])
            del first_rows[needed:]
        return RunPage(first_rows[query.offset :], total)

    def reset(self, run_id: str) -> RunUsage | None:
        return optional_usage_of(self._run(scripts.RESET, run_id))

    def close(self, run: Run) -> RunUsage:
        reply = self._run(scripts.CLOSE, run.id, run.budget_nanousd, run.remember_seconds)
        self._client.do(lambda client: client.xadd(CLOSED_RUNS_KEY, {"run": run.id}, maxlen=CLOSED_RUNS_KEPT))
        return usage_of(reply)

    def closed_runs_since(self, cursor: str | None) -> ClosedRuns:
        if cursor is None:
            latest = self._client.do(lambda client: client.xrevrange(CLOSED_RUNS_KEY, count=1))
            return ClosedRuns([], latest[0][0].decode() if latest else "0-0")
        streams = self._client.do(lambda client: client.xread({CLOSED_RUNS_KEY: cursor}))
        entries = streams[0][1] if streams else []
        run_ids = [fields[b"run"].decode() for _, fields in entries]
        return ClosedRuns(run_ids, entries[-1][0].decode() if entries else cursor)

    def sweep(self, limit: int) -> SweptSlice:
        """Continue with the bucket where the last slice ended."""
        swept = SweptSlice([], [], more=True)
        left = limit
        while left > 0:
            expired, forgotten, more, examined, lost = self._client.run(
                scripts.SWEEP,
                key_of(self._swept_bucket),
                self._now(),
                self._run_ttl_seconds,
                left,
                self._receipt_seconds,
            )
            swept.expired.extend(hold_of(row) for row in expired)
            swept.receipts.extend(usage_of(row) for row in forgotten)
            swept.lost.extend(run_id.decode() for run_id in lost)
            if more:
                return swept
            left -= len(expired) + examined
            self._swept_bucket = (self._swept_bucket + 1) % self._buckets
            if self._swept_bucket == 0:
                return SweptSlice(swept.receipts, swept.expired, more=False, lost=swept.lost)
        return swept

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

    def maintain(self) -> None:
        """Release the holds of reservations that got no reply: Redis may have created them."""
        while self._unanswered:
            self.release(self._unanswered[0])
            self._unanswered.popleft()

    def count(self) -> int:
        return sum(self._client.do(self._runs_by_bucket))

    def ping(self) -> None:
        # First a command of its own: its error has a type, which that of a script has only since Redis 7.
        self._client.do(lambda client: client.set(PING_KEY, "", px=RESOLVED_SECONDS * 1000))
        self._client.run(scripts.PING, PING_KEY, RESOLVED_SECONDS * 1000, on_replicas=True)

    def disconnect(self) -> None:
        self._client.close()

    def _resolve(self, hold: Hold, cost_nanousd: int | str) -> RunUsage | None:
        return optional_usage_of(
            self._client.run(
                scripts.RESOLVE,
                self._key_of(hold.run_id),
                self._now(),
                hold.id,
                cost_nanousd,
                uuid.uuid4().hex,
                hold.run_id,
                RESOLVED_SECONDS * 1000,
                ABANDONED_SECONDS * 1000,
            )
        )

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


def _refusal(result: bytes, place: Sequence[bytes]) -> ProxyError:
    refusal = REFUSALS[result]()
    if isinstance(refusal, RunBusyError) and place:
        refusal.place = int(place[0])
    return refusal


def key_of(bucket: int) -> str:
    """Return the prefix of all keys of a bucket."""
    return f"ridges:{{{bucket}}}"
