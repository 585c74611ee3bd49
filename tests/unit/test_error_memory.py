"""An error of a shared step leaves nothing in memory: neither its own frames nor those of its callers.

The frames of a call have the body of its request. A cycle would keep it until the next garbage collection.
"""

from __future__ import annotations

import gc
import sqlite3
import weakref
from contextlib import closing, contextmanager
from socket import gaierror
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import BudgetExhaustedError, LedgerUnavailableError
from ridges_proxy.ledger import Kind, Run, SqliteLedger
from ridges_proxy.ledger.factory import open_ledger
from ridges_proxy.ledger.redis import client
from ridges_proxy.ledger.sqlite import database
from ridges_proxy.runtime import shared_lookups
from ridges_proxy.runtime.shared_lookups import SharedLookups
from tests.support.app import settings_of
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ridges_proxy.ledger import Ledger


class Body:
    """Stands for the body of a request, to which a frame of the caller refers."""


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def failed(step: Callable[[], object], error: type[Exception]) -> Body | None:
    """Return what is left of the caller of a step that has failed."""

    def call() -> weakref.ref[Body]:
        body = Body()
        with pytest.raises(error):
            step()
        return weakref.ref(body)

    return call()()


def reserve(ledger: Ledger) -> object:
    return ledger.reserve(Run("run", 1), Kind.INFERENCE, 10, 10, 60.0)


@contextmanager
def sqlite(folder: Path) -> Iterator[Ledger]:
    yield SqliteLedger(folder / "ledger.db", 600.0)


@contextmanager
def locked_sqlite(folder: Path) -> Iterator[Ledger]:
    ledger = SqliteLedger(folder / "ledger.db", 600.0)
    with closing(sqlite3.connect(folder / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield ledger


@contextmanager
def absent_redis(_folder: Path) -> Iterator[Ledger]:
    yield open_ledger(settings_of(LEDGER_URL=f"redis://127.0.0.1:{free_port()}/0"))


@pytest.mark.parametrize(
    ("ledger", "error"),
    [
        (sqlite, BudgetExhaustedError),
        (locked_sqlite, LedgerUnavailableError),
        (absent_redis, LedgerUnavailableError),
    ],
)
def test_a_hold_that_a_ledger_does_not_make_leaves_no_cycle(
    ledger: Callable[[Path], AbstractContextManager[Ledger]],
    error: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT_SECONDS", 0.01)
    monkeypatch.setattr(client, "RETRY_SECONDS", 0.0)  # the Redis is asked each time
    with ledger(tmp_path) as opened:
        assert [failed(lambda: reserve(opened), error) for _ in range(3)] == [None] * 3


def test_a_host_name_that_is_not_found_leaves_no_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise gaierror(-2, "Name or service not known")

    monkeypatch.setattr(shared_lookups, "_getaddrinfo", unknown)
    lookups = SharedLookups()
    assert failed(lambda: lookups.getaddrinfo("unknown", 443), gaierror) is None
