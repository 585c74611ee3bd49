"""The stores that the contract suite and the races run over, each opened fresh for one test."""

from __future__ import annotations

import atexit
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ridges_proxy.ledger import Hold, Kind, Ledger, MemoryLedger, Run, SqliteLedger, SweptSlice
from ridges_proxy.ledger.redis import RedisLedger
from ridges_proxy.ledger.redis_link import RedisLink, client_of
from ridges_proxy.ledger_url import redis_url
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    OpenLedger = Callable[[Callable[[], float]], AbstractContextManager[Ledger]]
    """Opens an empty ledger that reads the given clock and forgets after TTL_SECONDS."""

TTL_SECONDS = 1200.0
EXPIRY_SECONDS = 330.0
CAP_NANOUSD = 1_000
RECEIPT_DAYS = 30
BUCKETS = 3
"""Of a Redis ledger here: a test walks through all of them again and again."""

PATIENCE_SECONDS = 20.0


@contextmanager
def open_memory(clock: Callable[[], float]) -> Iterator[Ledger]:
    yield MemoryLedger(TTL_SECONDS, clock)


@contextmanager
def open_sqlite(clock: Callable[[], float]) -> Iterator[Ledger]:
    with TemporaryDirectory() as folder:
        yield SqliteLedger(Path(folder) / "ledger.db", TTL_SECONDS, RECEIPT_DAYS, clock)


@cache
def redis_server() -> RedisServer:
    """One for the whole session."""
    server = RedisServer()
    server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    return server


@contextmanager
def open_redis(clock: Callable[[], float]) -> Iterator[Ledger]:
    server = redis_server()
    server.client.flushall()
    link = RedisLink(lambda: client_of(redis_url(server.url), PATIENCE_SECONDS), PATIENCE_SECONDS)
    yield RedisLedger(link, TTL_SECONDS, RECEIPT_DAYS, clock, buckets=BUCKETS)


STORES: dict[str, OpenLedger] = {"memory": open_memory, "sqlite": open_sqlite, "redis": open_redis}


@dataclass(frozen=True)
class Till:
    """Short words for what tests do most."""

    ledger: Ledger

    def reserve(  # noqa: PLR0913 - all but the amounts have a default
        self,
        want: int,
        floor: int | None = None,
        run: str = "run",
        *,
        cap: int = CAP_NANOUSD,
        kind: Kind = Kind.INFERENCE,
        expiry: float = EXPIRY_SECONDS,
    ) -> Hold:
        """Reserve all of what is wanted, unless a floor is given."""
        return self.ledger.reserve(Run(run, cap), kind, want, want if floor is None else floor, expiry)

    def spend(self, cost: int, run: str = "run", *, kind: Kind = Kind.INFERENCE) -> None:
        """Make a call that costs what it held."""
        assert self.ledger.settle(self.reserve(cost, run=run, kind=kind), cost)

    def sweep(self, limit: int = 100) -> SweptSlice:
        """Sweep slice after slice until nothing is left to do."""
        whole = SweptSlice([], [], more=True)
        while whole.more:
            swept = self.ledger.sweep(limit)
            whole = SweptSlice(whole.receipts + swept.receipts, whole.overdue + swept.overdue, swept.more)
        return whole
