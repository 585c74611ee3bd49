"""Connections to a real Redis: commands are encoded as by redis-py, and each command gets its own reply."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from ridges_proxy.config.ledger_url import redis_url
from ridges_proxy.ledger.redis.client import client_of
from ridges_proxy.ledger.redis.connections import Connections, packed
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = st.one_of(st.text(st.characters(codec="utf-8")), st.integers(), st.floats(allow_nan=False))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.fixture
def connections(server: RedisServer) -> Iterator[Connections]:
    opened = Connections(pool_of(server.url, timeout_seconds=0.2))
    yield opened
    opened.close()


def pool_of(url: str, timeout_seconds: float) -> Any:  # noqa: ANN401 - redis-py's
    return client_of(redis_url(url), timeout_seconds).connection_pool


@given(st.lists(PARTS, min_size=1))
def test_a_command_is_encoded_as_by_redis_py(command: list[str | float]) -> None:
    connection: Any = redis.Connection  # does not connect
    expected = connection().pack_command("SET", *command)
    assert packed(("SET", *command)) == b"".join(expected)


def test_sequential_commands_use_one_connection(server: RedisServer, connections: Connections) -> None:
    before = server.client.info("clients")["connected_clients"]
    numbers = [str(number) for number in range(20)]
    assert [connections.execute(("ECHO", number)).decode() for number in numbers] == numbers
    assert server.client.info("clients")["connected_clients"] == before + 1


def test_a_late_reply_is_discarded(server: RedisServer, connections: Connections) -> None:
    connections.execute(("ECHO", "before"))
    server.freeze()
    with pytest.raises(redis.exceptions.TimeoutError):
        connections.execute(("ECHO", "late"))
    server.thaw()
    assert connections.execute(("ECHO", "after")) == b"after"


def test_the_replies_of_one_write_have_one_time_limit(connections: Connections) -> None:
    """A slow server could answer each of many scripts just in time."""
    connections.execute(("ECHO", "before"))
    (connection,) = connections._idle
    pause = ("BLPOP", "no-such-list", connection.socket_timeout / 8)
    replies = connections.execute_together([pause] * 16)
    assert replies[0] is None
    assert isinstance(replies[-1], redis.exceptions.TimeoutError)
    assert connections.execute(("ECHO", "after")) == b"after"


def test_the_reply_of_an_interrupted_command_is_discarded(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections.execute(("ECHO", "before"))
    (connection,) = connections._idle

    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(connection, "read_response", interrupt)
        with pytest.raises(KeyboardInterrupt):
            connections.execute(("ECHO", "never read"))
    assert connections.execute(("ECHO", "after")) == b"after"
    assert connections._idle == [connection]


def test_an_error_reply_keeps_the_connection_open(connections: Connections) -> None:
    with pytest.raises(ResponseError):
        connections.execute(("NO-SUCH-COMMAND",))
    (connection,) = connections._idle
    assert connection.is_connected
    assert connections.execute(("ECHO", "after")) == b"after"


def test_commands_in_one_write_get_their_own_replies_and_errors(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections.execute(("ECHO", "before"))
    (connection,) = connections._idle
    send, writes = connection.send_packed_command, list[bytes]()

    def record(parts: list[bytes]) -> None:
        writes.extend(parts)
        send(parts)

    monkeypatch.setattr(connection, "send_packed_command", record)
    first, error, last = connections.execute_together([("ECHO", "1"), ("NO-SUCH-COMMAND",), ("ECHO", "2")])
    assert (first, last) == (b"1", b"2")
    assert isinstance(error, ResponseError)
    assert len(writes) == 1
    assert connections._idle == [connection]
    assert connection.is_connected


def test_replies_before_a_break_are_kept(connections: Connections) -> None:
    first, *rest = connections.execute_together([("ECHO", "1"), ("QUIT",), ("ECHO", "2"), ("ECHO", "3")])
    assert first == b"1"
    assert [type(reply) for reply in rest] == [bytes, *[redis.exceptions.ConnectionError] * 2]
    assert connections.execute(("ECHO", "after")) == b"after"


def test_after_a_restart_of_the_server_all_connections_are_made_again() -> None:
    with RedisServer() as server:
        connections = Connections(pool_of(server.url, 5.0))
        assert eight_at_once(connections) == [None] * 8
        server.kill()
        server.start()
        with pytest.raises(redis.exceptions.ConnectionError):
            connections.execute(("ECHO", "broken"))
        assert eight_at_once(connections) == [None] * 8
        connections.close()


def eight_at_once(connections: Connections) -> list[Any]:
    """Send eight blocking commands, which need a connection each. Return the replies."""
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda _: connections.execute(("BLPOP", "nothing", 0.2)), range(8)))
