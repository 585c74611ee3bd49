"""Open the store that LEDGER_URL names."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from ridges_proxy.config.ledger_url import MEMORY, SQLITE, redacted, redis_url
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger.alert_rules import NO_ALERTS
from ridges_proxy.ledger.interface import LedgerOpeningError
from ridges_proxy.ledger.memory import MemoryLedger
from ridges_proxy.ledger.outbox import Outbox
from ridges_proxy.ledger.sessions import MemorySessions
from ridges_proxy.ledger.sqlite.admin import SqliteAdmin
from ridges_proxy.ledger.sqlite.ledger import SqliteLedger
from ridges_proxy.ledger.sqlite.sessions import SqliteSessions
from ridges_proxy.runtime.sliding_window import SlidingWindows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.config import LedgerSettings
    from ridges_proxy.ledger.alert_rules import AlertRules
    from ridges_proxy.ledger.interface import Ledger
    from ridges_proxy.ledger.migration import LedgerAdmin
    from ridges_proxy.ledger.redis.client import RedisClient
    from ridges_proxy.ledger.redis.sliding_window import RedisSlidingWindows
    from ridges_proxy.ledger.sessions import Sessions


def open_ledger(settings: LedgerSettings, alert_rules: AlertRules = NO_ALERTS) -> Ledger:
    """Open the ledger. Raises LedgerOpeningError for a SQLite file. Does not connect to a Redis yet."""
    url, ttl_seconds, days = settings.ledger_url, settings.run_ttl_seconds, settings.receipt_days
    keeps_calls = settings.receipt_calls
    if url == MEMORY:
        return MemoryLedger(ttl_seconds, receipt_days=days, alert_rules=alert_rules, keeps_calls=keeps_calls)
    if url.startswith(SQLITE):
        path = Path(url.removeprefix(SQLITE))
        return SqliteLedger(path, ttl_seconds, days, alert_rules=alert_rules, keeps_calls=keeps_calls)
    from ridges_proxy.ledger.redis.ledger import RedisLedger  # noqa: PLC0415 - see _redis_client

    client = _redis_client(settings)
    return RedisLedger(client, ttl_seconds, days, alert_rules=alert_rules, keeps_calls=keeps_calls)


def open_store(settings: LedgerSettings) -> LedgerAdmin:
    """Open the ledger for `ridges-proxy ledger check`, `verify` and `migrate`.

    Does not connect to a Redis yet. Raises LedgerOpeningError for a SQLite file, and ValueError for memory://.
    """
    url = settings.ledger_url
    if url.startswith(SQLITE):
        return SqliteAdmin(Path(url.removeprefix(SQLITE)))
    if url == MEMORY:
        raise ValueError("memory:// exists only inside one process")
    from ridges_proxy.ledger.redis.admin import RedisAdmin  # noqa: PLC0415 - see _redis_client

    return RedisAdmin(_redis_client(settings))


def _redis_client(settings: LedgerSettings) -> RedisClient:
    """Return a client that has not connected yet.

    redis-py is imported only here: it takes 0.2 s and 15 MB, which other ledgers do not need.
    """
    from ridges_proxy.ledger.redis.client import RedisClient, client_of  # noqa: PLC0415 - see the docstring

    address, timeout_seconds = redis_url(settings.ledger_url), settings.ledger_timeout_seconds
    return RedisClient(
        lambda: client_of(address, timeout_seconds), timeout_seconds, settings.ledger_wait_replicas
    )


def open_sliding_windows(settings: LedgerSettings) -> SlidingWindows | RedisSlidingWindows:
    """Open the counters of the rate limits: of one process, or of all servers that share a Redis."""
    if settings.ledger_url == MEMORY or settings.ledger_url.startswith(SQLITE):
        return SlidingWindows()
    from ridges_proxy.ledger.redis.sliding_window import RedisSlidingWindows  # noqa: PLC0415 - see _redis_client

    return RedisSlidingWindows(_redis_client(settings))


def open_sessions(settings: LedgerSettings) -> Sessions:
    """Open the sessions of operators: in the ledger's store, so that all workers and machines share them."""
    url = settings.ledger_url
    if url == MEMORY:
        return MemorySessions()
    if url.startswith(SQLITE):
        return SqliteSessions(Path(url.removeprefix(SQLITE)))
    from ridges_proxy.ledger.redis.sessions import RedisSessions  # noqa: PLC0415 - see _redis_client

    return RedisSessions(_redis_client(settings))


def open_outbox(settings: LedgerSettings, ledger: Ledger) -> Outbox:
    """Open the outbox, which keeps settlements while the ledger does not answer.

    Raises LedgerOpeningError.
    """
    path = settings.ledger_outbox
    try:
        return Outbox(ledger, None if path is None else Path(path))
    except LedgerOpeningError as error:
        raise LedgerOpeningError(f"LEDGER_OUTBOX: {error}") from error


def check_ledger_store(settings: LedgerSettings) -> list[str]:
    """Open the ledger and the outbox, write to the ledger, and close both. Return warnings about the store.

    Raises LedgerOpeningError. Leaves nothing open, so the process may fork afterwards.
    """
    with disconnecting(open_ledger(settings)) as ledger, disconnecting(open_outbox(settings, ledger)):
        pass
    if settings.ledger_url == MEMORY:
        return []
    try:
        with disconnecting(open_store(settings)) as store:
            _, warnings = store.inspect()
    except LedgerUnavailableError as error:
        raise LedgerOpeningError(unavailable_text(settings.ledger_url, error)) from error
    return warnings


def unavailable_text(url: str, error: LedgerUnavailableError) -> str:
    """Return the text for an operator: the ledger's URL, and why the ledger cannot be used."""
    if url.startswith(SQLITE):
        return f"{redacted(url)} cannot be used: {error.__cause__}"
    from ridges_proxy.ledger.redis.failures import reason_of  # noqa: PLC0415 - see _redis_client

    return f"{redacted(url)} cannot be used: {reason_of(error)}"


class _Disconnects(Protocol):
    def disconnect(self) -> None: ...


T = TypeVar("T", bound=_Disconnects)


@contextmanager
def disconnecting(opened: T) -> Iterator[T]:
    """Disconnect it at the end of the block, also after an error."""
    try:
        yield opened
    finally:
        opened.disconnect()
