"""The stores that the contract suite and the races run over, each opened fresh for one test."""

from __future__ import annotations

import atexit
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from ridges_proxy.config.ledger_url import redis_url
from ridges_proxy.ledger import Hold, Kind, Ledger, MemoryLedger, Run, SqliteLedger, SweptSlice
from ridges_proxy.ledger.redis.client import RedisClient, client_of
from ridges_proxy.ledger.redis.ledger import RedisLedger
from tests.support.redis_kinds import redis_cluster, redis_with_tls
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    OpenLedger = Callable[[Callable[[], float]], AbstractContextManager[Ledger]]
    """Opens an empty ledger that reads the given clock and forgets after TTL_SECONDS."""

T = TypeVar("T")

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
def for_the_session(open_server: Callable[[], AbstractContextManager[T]]) -> T:
    """What the context gives, opened once and closed at the end of all."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(open_server())


@contextmanager
def tls_server() -> Iterator[str]:
    with TemporaryDirectory() as folder, redis_with_tls(Path(folder)) as url:
        yield url


@contextmanager
def of_redis(url: str, clock: Callable[[], float]) -> Iterator[Ledger]:
    link = RedisClient(lambda: client_of(redis_url(url), PATIENCE_SECONDS), PATIENCE_SECONDS)
    link.do(lambda client: client.flushall())
    yield RedisLedger(link, TTL_SECONDS, RECEIPT_DAYS, clock, buckets=BUCKETS)


def open_redis(clock: Callable[[], float]) -> AbstractContextManager[Ledger]:
    return of_redis(for_the_session(RedisServer).url, clock)


def open_tls(clock: Callable[[], float]) -> AbstractContextManager[Ledger]:
    return of_redis(for_the_session(tls_server), clock)


def open_cluster(clock: Callable[[], float]) -> AbstractContextManager[Ledger]:
    return of_redis(for_the_session(redis_cluster)[0], clock)


STORES: dict[str, OpenLedger] = {
    "memory": open_memory,
    "sqlite": open_sqlite,
    "redis": open_redis,
    "redis_tls": open_tls,
    "redis_cluster": open_cluster,
}


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
