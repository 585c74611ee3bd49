"""Sessions of operators, on every store."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.config import LedgerSettings, load_settings
from ridges_proxy.config.ledger_url import redis_url
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Session, SqliteLedger, open_sessions
from ridges_proxy.ledger import sessions as sessions_module
from ridges_proxy.ledger.redis import sessions as redis_sessions
from ridges_proxy.ledger.redis.client import RedisClient, client_of
from ridges_proxy.ledger.redis.sessions import RedisSessions
from ridges_proxy.ledger.sessions import MemorySessions
from ridges_proxy.ledger.sqlite import sessions as sqlite_sessions
from ridges_proxy.ledger.sqlite.admin import SqliteAdmin
from ridges_proxy.ledger.sqlite.sessions import SqliteSessions
from tests.contract.stores import for_the_session
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ridges_proxy.ledger import Sessions
    from tests.support.clock import Clock

    Open = Callable[[Clock], AbstractContextManager[tuple[Sessions, Sessions]]]
    """Opens the sessions of two workers."""


@contextmanager
def in_memory(clock: Clock) -> Iterator[tuple[Sessions, Sessions]]:
    only_worker = MemorySessions(clock)
    yield only_worker, only_worker


@contextmanager
def in_sqlite(clock: Clock) -> Iterator[tuple[Sessions, Sessions]]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        SqliteLedger(path, 60.0)
        yield SqliteSessions(path, clock), SqliteSessions(path, clock)


@contextmanager
def in_redis(clock: Clock) -> Iterator[tuple[Sessions, Sessions]]:
    url = redis_url(for_the_session(RedisServer).url)
    clients = [RedisClient(lambda: client_of(url, 20.0), 20.0) for _ in range(2)]
    clients[0].do(lambda client: client.flushall())
    yield RedisSessions(clients[0], clock), RedisSessions(clients[1], clock)
    for each in clients:
        each.close()


@pytest.fixture(params=[in_memory, in_sqlite, in_redis])
def workers(request: pytest.FixtureRequest, clock: Clock) -> Iterator[tuple[Sessions, Sessions]]:
    opened: Open = request.param
    with opened(clock) as pair:
        yield pair


def session_of(name: str, clock: Clock, seconds: float = 60.0) -> Session:
    return Session(name, "203.0.113.9", clock(), clock() + seconds)


def test_a_session_is_valid_for_all_workers_until_one_ends_it(
    workers: tuple[Sessions, Sessions], clock: Clock
) -> None:
    first, second = workers
    first.add(session_of("a", clock))
    assert first.has("a")
    assert second.has("a")
    assert not second.has("b")
    assert second.end("a")
    assert not first.has("a")
    assert not second.has("a")
    assert not first.end("a")
    assert first.valid() == []


def test_a_session_ends_when_it_expires(workers: tuple[Sessions, Sessions], clock: Clock) -> None:
    first, second = workers
    first.add(session_of("a", clock))
    first.add(session_of("b", clock, 90))
    clock.advance(59)
    assert second.has("a")
    clock.advance(1)
    assert not second.has("a")
    assert [session.id for session in second.valid()] == ["b"]
    assert not second.end("a")


def test_sessions_are_listed_oldest_first_with_all_fields(
    workers: tuple[Sessions, Sessions], clock: Clock
) -> None:
    first, second = workers
    added = []
    for name in ("c", "a", "b"):
        added.append(replace(session_of(name, clock), address="2001:db8::1 \u00e4\U0001f600"))
        first.add(added[-1])
        clock.advance(1)
    assert second.valid() == added


def test_above_the_limit_the_oldest_session_ends(
    workers: tuple[Sessions, Sessions], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sessions_module, sqlite_sessions, redis_sessions):
        monkeypatch.setattr(module, "MAX_SESSIONS", 2)
    first, second = workers
    for name in ("a", "b", "c"):
        first.add(session_of(name, clock))
        clock.advance(1)
    assert [session.id for session in second.valid()] == ["b", "c"]
    assert not second.has("a")


def test_expired_sessions_leave_the_store(clock: Clock) -> None:
    with in_redis(clock) as (sessions, _):
        assert isinstance(sessions, RedisSessions)
        sessions.add(session_of("a", clock))
        clock.advance(60)
        sessions.add(session_of("b", clock))
        assert list(sessions._stored()) == ["b"]


def test_a_store_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    for url in (f"redis://127.0.0.1:{free_port()}", f"sqlite:///{tmp_path}/none/ledger.db"):
        sessions = open_sessions(load_settings(LedgerSettings, {"LEDGER_URL": url}))
        with pytest.raises(LedgerUnavailableError):
            sessions.has("a")
        with pytest.raises(LedgerUnavailableError):
            sessions.end("a")
        with pytest.raises(LedgerUnavailableError):
            sessions.valid()


def test_the_table_changes_neither_the_version_of_a_sqlite_file_nor_its_audit(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "ledger.db"
    SqliteLedger(path, 60.0).disconnect()
    settings = load_settings(LedgerSettings, {"LEDGER_URL": f"sqlite:///{path}"})
    open_sessions(settings).add(session_of("a", clock))
    SqliteLedger(path, 60.0).disconnect()
    admin = SqliteAdmin(path)
    assert admin.audit().problems == []
    admin.disconnect()
