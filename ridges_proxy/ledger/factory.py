"""Which store a URL of LEDGER_URL names."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from ridges_proxy.config.ledger_url import MEMORY, SQLITE, redis_url, shown
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger.interface import LedgerOpeningError
from ridges_proxy.ledger.memory import MemoryLedger
from ridges_proxy.ledger.outbox import Outbox
from ridges_proxy.ledger.sqlite.admin import SqliteAdmin
from ridges_proxy.ledger.sqlite.ledger import SqliteLedger
from ridges_proxy.runtime.sliding_window import SlidingWindows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.config import LedgerSettings
    from ridges_proxy.ledger.interface import Ledger
    from ridges_proxy.ledger.migration import LedgerAdmin
    from ridges_proxy.ledger.redis.client import RedisClient
    from ridges_proxy.ledger.redis.sliding_window import RedisSlidingWindows


def open_ledger(settings: LedgerSettings) -> Ledger:
    """Open the books. Raises LedgerOpeningError for a file; a server is asked for nothing yet."""
    url = settings.ledger_url
    if url == MEMORY:
        return MemoryLedger(settings.run_ttl_seconds)
    if url.startswith(SQLITE):
        path = Path(url.removeprefix(SQLITE))
        return SqliteLedger(path, settings.run_ttl_seconds, settings.receipt_days)
    from ridges_proxy.ledger.redis.ledger import RedisLedger  # noqa: PLC0415 - see _link

    return RedisLedger(_link(settings), settings.run_ttl_seconds, settings.receipt_days)


def open_store(settings: LedgerSettings) -> LedgerAdmin:
    """Open the books for the command line. Raises LedgerOpeningError, and for memory:// ValueError."""
    url = settings.ledger_url
    if url.startswith(SQLITE):
        return SqliteAdmin(Path(url.removeprefix(SQLITE)))
    if url == MEMORY:
        raise ValueError("memory:// is in one process alone")
    from ridges_proxy.ledger.redis.admin import RedisAdmin  # noqa: PLC0415 - see _link

    return RedisAdmin(_link(settings))


def _link(settings: LedgerSettings) -> RedisClient:
    """Imports redis-py only here: 0.2 s and 15 MB that who needs no Redis need not pay at every start."""
    from ridges_proxy.ledger.redis.client import RedisClient, client_of  # noqa: PLC0415 - as said

    address, timeout_seconds = redis_url(settings.ledger_url), settings.ledger_timeout_seconds
    return RedisClient(
        lambda: client_of(address, timeout_seconds), timeout_seconds, settings.ledger_wait_replicas
    )


def open_sliding_windows(settings: LedgerSettings) -> SlidingWindows | RedisSlidingWindows:
    """Open what rate limits are counted in: of one process, or of all servers that share a Redis."""
    if settings.ledger_url == MEMORY or settings.ledger_url.startswith(SQLITE):
        return SlidingWindows()
    from ridges_proxy.ledger.redis.sliding_window import RedisSlidingWindows  # noqa: PLC0415 - see _link

    return RedisSlidingWindows(_link(settings))


def open_outbox(settings: LedgerSettings, ledger: Ledger) -> Outbox:
    """Open what keeps settlements that the ledger cannot take. Raises LedgerOpeningError."""
    path = settings.ledger_outbox
    return Outbox(ledger, None if path is None else Path(path))


def check_ledger_store(settings: LedgerSettings) -> list[str]:
    """Open the books, write to them, and let go of them; what should be mended about their store.

    Raises LedgerOpeningError. Leaves nothing open: the process may fork.
    """
    with disconnecting(open_ledger(settings)) as ledger, disconnecting(open_outbox(settings, ledger)):
        pass
    if settings.ledger_url == MEMORY:
        return []
    try:
        with disconnecting(open_store(settings)) as store:
            _, worries = store.inspect()
    except LedgerUnavailableError as error:
        reason = f": {error.__cause__}" if settings.ledger_url.startswith(SQLITE) else ""
        raise LedgerOpeningError(f"{shown(settings.ledger_url)} does not answer{reason}") from error
    return worries


class _Disconnects(Protocol):
    def disconnect(self) -> None: ...


T = TypeVar("T", bound=_Disconnects)


@contextmanager
def disconnecting(opened: T) -> Iterator[T]:
    """Let go of it in the end, whatever happens."""
    try:
        yield opened
    finally:
        opened.disconnect()
