"""`redis://…`: the books in a Redis or Valkey, for several machines."""

from __future__ import annotations

import bisect
import uuid
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any

from ridges_proxy.errors import (
    BudgetExhaustedError,
    BudgetHeldError,
    LedgerUnavailableError,
    RunClosedError,
    TooManyInFlightError,
)
from ridges_proxy.ledger.interface import CLOSINGS_KEPT, check_amounts, check_reservation
from ridges_proxy.ledger.models import (
    SORT_KEYS,
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
from ridges_proxy.ledger.redis.rows import books_of, hold_of, receipt_of, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger.models import Run
    from ridges_proxy.ledger.redis.client import RedisClient
    from ridges_proxy.ledger.redis.scripts import Script

BUCKETS = 1024
"""Enough to spread over 100 nodes, few enough to walk through. Never changed: it says where runs stand."""

CLOSINGS = "ridges:closings"

DONE_SECONDS = 60
"""How long it is remembered who resolved a hold: an answer that was lost is asked for again within it."""

NEVER_SECONDS = 600
"""How long a hold that was given up before it was there must not be made: its reservation may yet arrive."""

MOST_UNSURE = 10_000

MAX_EXACT = 2**53 - 1
"""Lua's numbers are doubles. No cap is as large, so that no reservation means another for it."""

DAY_SECONDS = 86_400

REFUSALS = {
    b"closed": RunClosedError,
    b"too_many": TooManyInFlightError,
    b"exhausted": BudgetExhaustedError,
    b"budget_held": BudgetHeldError,
    b"done": LedgerUnavailableError,  # its answer was lost, and it has been given up
}

_Receipts = list[Receipt]  # the contract has a verb named list: inside the class, the word means that


class RedisLedger:
    """The contract of `ledger.contract`. Each verb is one script, and may be run twice by its hold's id."""

    def __init__(
        self,
        link: RedisClient,
        run_ttl_seconds: float,
        receipt_days: int = 0,
        clock: Callable[[], float] | None = None,
        buckets: int = BUCKETS,
    ) -> None:
        """Connects to nothing yet. The clock is the server's, unless a test gives one."""
        self._link = link
        self._run_ttl_seconds = run_ttl_seconds
        self._receipt_seconds = receipt_days * DAY_SECONDS
        self._clock = clock
        self._buckets = buckets
        self._swept_bucket = 0
        self._unsure: deque[Hold] = deque(maxlen=MOST_UNSURE)

    def reserve(
        self, run: Run, kind: Kind, requested_nanousd: int, minimum_nanousd: int, expires_in_seconds: float
    ) -> Hold:
        check_reservation(run, requested_nanousd, minimum_nanousd)
        hold_id = uuid.uuid4().hex
        try:
            verdict, *granted = self._link.run(
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
                "" if run.most_in_flight is None else run.most_in_flight,
                on_replicas=True,
            )
        except AwayError:
            raise
        except LedgerUnavailableError:
            self._unsure.append(Hold(hold_id, run.id, kind, 0, 0.0))  # it may have been made all the same
            raise
        if verdict in REFUSALS:
            raise REFUSALS[verdict]
        amount_nanousd, expires_at = granted
        return Hold(hold_id, run.id, kind, int(amount_nanousd), float(expires_at))

    def settle(self, hold: Hold, cost_nanousd: int) -> RunUsage | None:
        check_amounts(cost_nanousd)
        return self._resolve(hold, cost_nanousd)

    def release(self, hold: Hold) -> RunUsage | None:
        return self._resolve(hold, "")

    def usage(self, run_id: str) -> RunUsage | None:
        return books_of(self._ask(scripts.USAGE, run_id))

    def list(self, query: RunQuery) -> RunPage:
        total = 0
        best: list[RunUsage] = []
        most, flag = query.offset + query.limit, "" if query.in_flight is None else int(query.in_flight)
        asked = query.search, query.min_spent_nanousd, flag, query.sort.value, most
        for bucket in range(self._buckets):
            found, rows = self._link.run(scripts.LIST, key_of(bucket), self._now(), *asked)
            total += found
            for row in rows:
                bisect.insort(best, usage_of(row), key=SORT_KEYS[query.sort])
            del best[most:]
        return RunPage(best[query.offset :], total)

    def reset(self, run_id: str) -> RunUsage | None:
        return books_of(self._ask(scripts.RESET, run_id))

    def close(self, run: Run) -> RunUsage:
        reply = self._ask(scripts.CLOSE, run.id, run.budget_nanousd, run.remember_seconds)
        self._link.do(lambda client: client.xadd(CLOSINGS, {"run": run.id}, maxlen=CLOSINGS_KEPT))
        return usage_of(reply)

    def closed_runs_since(self, cursor: str | None) -> ClosedRuns:
        if cursor is None:
            latest = self._link.do(lambda client: client.xrevrange(CLOSINGS, count=1))
            return ClosedRuns([], latest[0][0].decode() if latest else "0-0")
        streams = self._link.do(lambda client: client.xread({CLOSINGS: cursor}))
        entries = streams[0][1] if streams else []
        run_ids = [fields[b"run"].decode() for _, fields in entries]
        return ClosedRuns(run_ids, entries[-1][0].decode() if entries else cursor)

    def sweep(self, limit: int) -> SweptSlice:
        """Go on where the last slice ended, bucket by bucket."""
        whole = SweptSlice([], [], more=True)
        left = limit
        while left > 0:
            overdue, forgotten, more, looked_at = self._link.run(
                scripts.SWEEP,
                key_of(self._swept_bucket),
                self._now(),
                self._run_ttl_seconds,
                left,
                self._receipt_seconds,
            )
            whole.overdue.extend(hold_of(row) for row in overdue)
            whole.receipts.extend(usage_of(row) for row in forgotten)
            if more:
                return whole
            left -= len(overdue) + looked_at
            self._swept_bucket = (self._swept_bucket + 1) % self._buckets
            if self._swept_bucket == 0:
                return SweptSlice(whole.receipts, whole.overdue, more=False)
        return whole

    def history(self, since: float, cursor: str | None, limit: int) -> ReceiptPage:
        """The mark is a bucket and how many of its receipts to pass over."""
        bucket, passed = (int(word) for word in (cursor or "0:0").split(":"))
        receipts: list[Receipt] = []
        while bucket < self._buckets:
            found = self._receipts(bucket, since, passed, limit - len(receipts))
            receipts.extend(found)
            if len(receipts) == limit:
                return ReceiptPage(receipts, f"{bucket}:{passed + len(found)}")
            bucket, passed = bucket + 1, 0
        return ReceiptPage(receipts, None)

    def maintain(self) -> None:
        """Give up the reservations whose answers were lost."""
        while self._unsure:
            self.release(self._unsure[0])
            self._unsure.popleft()

    def count(self) -> int:
        return sum(self._link.do(self._runs_by_bucket))

    def ping(self) -> None:
        self._link.do(lambda client: client.set("ridges:ping", "", px=DONE_SECONDS * 1000))

    def disconnect(self) -> None:
        self._link.close()

    def _resolve(self, hold: Hold, cost_nanousd: int | str) -> RunUsage | None:
        return books_of(
            self._link.run(
                scripts.RESOLVE,
                self._key_of(hold.run_id),
                self._now(),
                hold.id,
                cost_nanousd,
                uuid.uuid4().hex,
                hold.run_id,
                DONE_SECONDS * 1000,
                NEVER_SECONDS * 1000,
            )
        )

    def _receipts(self, bucket: int, since: float, passed: int, limit: int) -> _Receipts:
        name, window = f"{key_of(bucket)}:receipts", {"start": passed, "num": limit}
        members = self._link.do(lambda client: client.zrangebyscore(name, since, "+inf", **window))
        return [receipt_of(member) for member in members]

    def _ask(self, script: Script, run_id: str, *arguments: str | float) -> Any:  # noqa: ANN401 - a reply of any form
        return self._link.run(script, self._key_of(run_id), self._now(), run_id, *arguments)

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
    """What the names of a bucket's keys begin with."""
    return f"ridges:{{{bucket}}}"
