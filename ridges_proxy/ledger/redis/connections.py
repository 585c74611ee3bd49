"""A Redis' connections, and how a question goes over one."""

from __future__ import annotations

from typing import Any, TypeGuard

from redis import ConnectionPool
from redis.exceptions import ResponseError


class Connections:
    """Connections of a pool's making, the one that was used last first.

    The pool itself looks for a reply that nobody asked for whenever it gives one out, and redis-py's packer
    is made for values of any kind: 45 of the 125 µs that a question takes (bench/stores.py). Here no reply is
    ever left behind: whatever a question fails by, its connection is closed.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._idle: list[Any] = []

    @staticmethod
    def fit(pool: object) -> TypeGuard[ConnectionPool]:
        """Whether the pool's connections are all alike; one of Sentinel's may be to yesterday's master."""
        return type(pool) is ConnectionPool

    def ask(self, command: tuple[str | float, ...]) -> Any:  # noqa: ANN401 - a reply of any form
        """Send a command and read the reply. Raises RedisError."""
        connection = self._idle.pop() if self._idle else self._pool.make_connection()
        try:
            connection.send_packed_command([packed(command)])  # connects, where it has been closed
            return connection.read_response()
        except ResponseError:  # a reply like any other
            raise
        except BaseException:
            connection.disconnect()
            self.close()  # a server that is gone has left them all
            raise
        finally:
            self._idle.append(connection)

    def close(self) -> None:
        """Close those that nobody uses; they are used again."""
        for connection in self._idle:
            connection.disconnect()


def packed(command: tuple[str | float, ...]) -> bytes:
    """A command as Redis reads it: the number of its words, and each with its length in bytes.

    (https://redis.io/docs/latest/develop/reference/protocol-spec/)
    """
    parts = [b"*%d\r\n" % len(command)]
    for word in command:
        data = word.encode() if isinstance(word, str) else repr(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)
