"""The stores on which the tests of the ledger run. Each test opens an empty one."""

from __future__ import annotations

import atexit
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol, TypeVar

from ridges_proxy.config.ledger_url import redis_url
from ridges_proxy.ledger import Hold, Kind, Ledger, MemoryLedger, Run, RunUsage, SqliteLedger, SweptSlice
from ridges_proxy.ledger.alert_rules import NO_ALERTS
from ridges_proxy.ledger.factory import disconnecting
from ridges_proxy.ledger.redis.client import RedisClient, client_of
from ridges_proxy.ledger.redis.ledger import RedisLedger
from tests.support.clock import Clock
from tests.support.redis_kinds import redis_cluster, redis_with_tls
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ridges_proxy.billing.levels import Level
    from ridges_proxy.ledger.alert_rules import AlertRules

    class OpenLedger(Protocol):
        """Opens an empty ledger with this clock, which forgets runs after TTL_SECONDS."""

        def __call__(
            self,
            clock: Callable[[], float],
            alert_rules: AlertRules = NO_ALERTS,
            *,
            keeps_calls: bool = False,
        ) -> AbstractContextManager[Ledger]: ...


T = TypeVar("T")

TTL_SECONDS = 1200.0
EXPIRY_SECONDS = 330.0
BUDGET_NANOUSD = 1_000
RECEIPT_DAYS = 30
BUCKETS = 3
"""Few, because many tests visit all buckets of a Redis ledger again and again."""

PATIENCE_SECONDS = 20.0


@contextmanager
def open_memory(
    clock: Callable[[], float], alert_rules: AlertRules = NO_ALERTS, *, keeps_calls: bool = False
) -> Iterator[Ledger]:
    yield MemoryLedger(TTL_SECONDS, clock, RECEIPT_DAYS, alert_rules, keeps_calls=keeps_calls)


@contextmanager
def open_sqlite(
    clock: Callable[[], float], alert_rules: AlertRules = NO_ALERTS, *, keeps_calls: bool = False
) -> Iterator[Ledger]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        opened = SqliteLedger(path, TTL_SECONDS, RECEIPT_DAYS, clock, alert_rules, keeps_calls=keeps_calls)
        with disconnecting(opened) as ledger:
            yield ledger


@cache
def for_the_session(open_server: Callable[[], AbstractContextManager[T]]) -> T:
    """Enter the context once, and close it when the process ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(open_server())


@contextmanager
def tls_server() -> Iterator[str]:
    with TemporaryDirectory() as folder, redis_with_tls(Path(folder)) as url:
        yield url


@contextmanager
def redis_ledger(
    url: str, clock: Callable[[], float], alert_rules: AlertRules = NO_ALERTS, *, keeps_calls: bool = False
) -> Iterator[Ledger]:
    client = RedisClient(lambda: client_of(redis_url(url), PATIENCE_SECONDS), PATIENCE_SECONDS)
    client.do(lambda connection: connection.flushall())
    ledger = RedisLedger(
        client,
        TTL_SECONDS,
        RECEIPT_DAYS,
        clock,
        buckets=BUCKETS,
        alert_rules=alert_rules,
        keeps_calls=keeps_calls,
    )
    try:
        yield ledger
    finally:
        ledger.disconnect()


def open_redis(
    clock: Callable[[], float], alert_rules: AlertRules = NO_ALERTS, *, keeps_calls: bool = False
) -> AbstractContextManager[Ledger]:
    return redis_ledger(for_the_session(RedisServer).url, clock, alert_rules, keeps_calls=keeps_calls)


def open_tls(
    clock: Callable[[], float], alert_rules: AlertRules = NO_ALERTS, *, keeps_calls: bool = False
) -> AbstractContextManager[Ledger]:
    return redis_ledger(for_the_session(tls_server), clock, alert_rules, keeps_calls=keeps_calls)


def open_cluster(
    clock: Callable[[], float], alert_rules: AlertRules = NO_ALERTS, *, keeps_calls: bool = False
) -> AbstractContextManager[Ledger]:
    return redis_ledger(for_the_session(redis_cluster)[0], clock, alert_rules, keeps_calls=keeps_calls)


STORES: dict[str, OpenLedger] = {
    "memory": open_memory,
    "sqlite": open_sqlite,
    "redis": open_redis,
    "redis_tls": open_tls,
    "redis_cluster": open_cluster,
}


class Reports:
    """Receives how far a move is."""

    def __init__(self) -> None:
        self.last: dict[str, tuple[int, int | None]] = {}
        """The last report of each kind: how many are done, and of how many."""

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Keep a report."""
        self.last[what] = done, total


@dataclass(frozen=True)
class LedgerSteps:
    """Short forms of the most frequent steps of a test."""

    ledger: Ledger
    clock: Clock

    def reserve(  # noqa: PLR0913 - all but the amount have a default
        self,
        requested: int,
        minimum: int | None = None,
        run: str = "run",
        *,
        budget: int = BUDGET_NANOUSD,
        kind: Kind = Kind.INFERENCE,
        expiry: float = EXPIRY_SECONDS,
        levels: tuple[Level, ...] = (),
        reserved: int = 0,
        model: str = "",
    ) -> Hold:
        """Reserve the amount. Without a minimum, nothing less is accepted."""
        least = requested if minimum is None else minimum
        named = Run(run, budget, reserved_nanousd=reserved, levels=levels)
        return self.ledger.reserve(named, kind, requested, least, expiry, model=model)

    def spend(self, cost: int, run: str = "run", *, kind: Kind = Kind.INFERENCE) -> None:
        """Reserve the cost and settle at it."""
        assert self.ledger.settle(self.reserve(cost, run=run, kind=kind), cost)

    def usage(self, run: str = "run") -> RunUsage:
        """Return the usage of a run that must be known."""
        usage = self.ledger.usage(run)
        assert usage
        return usage

    def sweep(self, limit: int = 100) -> SweptSlice:
        """Sweep in slices until nothing is left. Return all results together."""
        result = SweptSlice([], [], more=True)
        while result.more:
            swept = self.ledger.sweep(limit)
            result = SweptSlice(result.receipts + swept.receipts, result.expired + swept.expired, swept.more)
        return result


@contextmanager
def new_ledger(open_ledger: OpenLedger) -> Iterator[LedgerSteps]:
    """Open an empty ledger with a clock of its own."""
    clock = Clock()
    with open_ledger(clock) as ledger:
        yield LedgerSteps(ledger, clock)
