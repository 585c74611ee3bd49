"""Connections to a real Redis: what is sent is what redis-py would send, and no reply is anybody else's."""

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

WORDS = st.one_of(st.text(st.characters(codec="utf-8")), st.integers(), st.floats(allow_nan=False))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.fixture
def connections(server: RedisServer) -> Iterator[Connections]:
    made = Connections(pool_of(server.url, timeout_seconds=0.2))
    yield made
    made.close()


def pool_of(url: str, timeout_seconds: float) -> Any:  # noqa: ANN401 - redis-py's
    return client_of(redis_url(url), timeout_seconds).connection_pool


@given(st.lists(WORDS, min_size=1))
def test_a_command_is_packed_as_by_the_library(command: list[str | float]) -> None:
    connection: Any = redis.Connection  # connects to nothing
    theirs = connection().pack_command("SET", *command)
    assert packed(("SET", *command)) == b"".join(theirs)


def test_one_after_another_goes_over_one_connection(server: RedisServer, connections: Connections) -> None:
    before = server.client.info("clients")["connected_clients"]
    numbers = [str(number) for number in range(20)]
    assert [connections.execute(("ECHO", number)).decode() for number in numbers] == numbers
    assert server.client.info("clients")["connected_clients"] == before + 1


def test_a_reply_that_comes_too_late_is_nobodys(server: RedisServer, connections: Connections) -> None:
    connections.execute(("ECHO", "before"))
    server.freeze()
    with pytest.raises(redis.exceptions.TimeoutError):
        connections.execute(("ECHO", "late"))
    server.thaw()
    assert connections.execute(("ECHO", "after")) == b"after"


def test_a_reply_that_somebody_was_called_away_from_is_nobodys(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections.execute(("ECHO", "before"))
    (connection,) = connections._idle

    def called_away() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(connection, "read_response", called_away)
        with pytest.raises(KeyboardInterrupt):
            connections.execute(("ECHO", "never read"))
    assert connections.execute(("ECHO", "after")) == b"after"
    assert connections._idle == [connection]


def test_an_error_of_the_server_is_a_reply(connections: Connections) -> None:
    with pytest.raises(ResponseError):
        connections.execute(("NO-SUCH-COMMAND",))
    (connection,) = connections._idle
    assert connection.is_connected
    assert connections.execute(("ECHO", "after")) == b"after"


def test_of_a_server_that_was_away_no_connection_is_used_again() -> None:
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
    """The replies to questions that wait for a while, and so need a connection each."""
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda _: connections.execute(("BLPOP", "nothing", 0.2)), range(8)))
