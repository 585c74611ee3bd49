"""Ledgers for benchmarks: their URLs, the runs that they already know, and the two steps of a call."""

from __future__ import annotations

import tempfile
import time
import zlib
from typing import TYPE_CHECKING, Any

from bench.servers import redis
from ridges_proxy.config import LedgerSettings, load_settings
from ridges_proxy.ledger import Kind, Run, SqliteLedger, open_ledger
from ridges_proxy.ledger.redis.ledger import BUCKETS, RedisLedger, key_of

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterator

    from ridges_proxy.ledger import Hold, Ledger

BUDGET_NANOUSD = 2_000_000_000
REQUESTED_NANOUSD = 300_000
COST_NANOUSD = 1_000
HOLD_SECONDS = 330.0
RUNS_PER_PIPELINE = 10_000
EMPTY_REDIS_RUN = dict.fromkeys(
    ("inference", "embedding", "held", "calls", "in_flight", "remembered_until", "closed"), 0
)


def ledger_urls(stack: contextlib.ExitStack, cores: set[int]) -> Iterator[tuple[str, str]]:
    """The name and the URL of each store. A Redis is stopped before the next store is yielded."""
    yield "memory", "memory://"
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    yield "sqlite", f"sqlite:///{folder}/ledger.db"
    for name, append_only in (("redis", False), ("redis, appendfsync everysec", True)):
        with redis(cores, append_only=append_only) as url:
            if url is None:
                return
            yield name, url


def open_ledger_url(url: str) -> Ledger:
    return open_ledger(load_settings(LedgerSettings, {"LEDGER_URL": url}))


def run_id(index: int) -> str:
    return f"run-{index:09}"


def numbered_run(index: int) -> Run:
    return Run(run_id(index), BUDGET_NANOUSD)


def reserve(ledger: Ledger, run: Run) -> Hold:
    return ledger.reserve(run, Kind.INFERENCE, REQUESTED_NANOUSD, COST_NANOUSD, HOLD_SECONDS)


def reserve_and_settle(ledger: Ledger, run: Run) -> None:
    """The two steps of a call."""
    ledger.settle(reserve(ledger, run), COST_NANOUSD)


def add_runs(ledger: Ledger, count: int) -> None:
    """Add runs to the ledger. Written straight into its store, as a million calls would take minutes."""
    if isinstance(ledger, SqliteLedger):
        with ledger._writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO runs (run_id, cap_nanousd, inference_nanousd, embedding_nanousd,"
                " held_nanousd, calls, in_flight, active_at, looked_at, remembered_until, closed)"
                " VALUES (?, ?, 0, 0, 0, 0, 0, ?, ?, 0, 0)",
                ((run_id(index), BUDGET_NANOUSD, time.time(), time.time()) for index in range(count)),
            )
        ledger.maintain()
    elif isinstance(ledger, RedisLedger):
        for first in range(0, count, RUNS_PER_PIPELINE):
            indexes = range(first, min(count, first + RUNS_PER_PIPELINE))
            ledger._client.do(lambda client, indexes=indexes: _add_redis_runs(client, indexes))  # type: ignore[misc] # mypy#12557
    else:
        for index in range(count):
            reserve_and_settle(ledger, numbered_run(index))


def _add_redis_runs(client: Any, indexes: range) -> None:  # noqa: ANN401 - redis-py's clients have no common type
    with client.pipeline(transaction=False) as pipeline:
        for name in map(run_id, indexes):
            prefix = key_of(zlib.crc32(name.encode()) % BUCKETS)
            fields = {**EMPTY_REDIS_RUN, "cap": BUDGET_NANOUSD, "active_at": time.time()}
            pipeline.hset(f"{prefix}:run:{name}", mapping=fields)
            pipeline.zadd(f"{prefix}:idle", {name: time.time()})
        pipeline.execute()
