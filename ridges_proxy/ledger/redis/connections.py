"""Connections to a Redis, with less work for each command than in redis-py."""

from __future__ import annotations

from typing import Any, TypeGuard

from redis import ConnectionPool
from redis.exceptions import ResponseError


class Connections:
    """Connections that a pool creates. The one that was used last is used first.

    redis-py's pool checks each connection for unread replies before it is used, and redis-py packs values of
    any type: 45 of the 125 µs that a command takes (bench/stores.py). Neither is needed here, because a
    connection is closed after any error, so no reply is ever left unread.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._idle: list[Any] = []

    @staticmethod
    def can_use(pool: object) -> TypeGuard[ConnectionPool]:
        """Return whether all connections of the pool go to one server. A Sentinel pool changes its master."""
        return type(pool) is ConnectionPool

    def execute(self, command: tuple[str | float, ...]) -> Any:  # noqa: ANN401 - a reply of any form
        """Send a command and read the reply. Raises RedisError."""
        connection = self._idle.pop() if self._idle else self._pool.make_connection()
        try:
            connection.send_packed_command([packed(command)])  # connects again if it was closed
            return connection.read_response()
        except ResponseError:  # a complete reply
            raise
        except BaseException:
            connection.disconnect()
            self.close()  # if the server is gone, so are all of them
            raise
        finally:
            self._idle.append(connection)

    def close(self) -> None:
        """Close the idle connections. They connect again when they are used."""
        for connection in self._idle:
            connection.disconnect()


def packed(command: tuple[str | float, ...]) -> bytes:
    """Encode a command for Redis: the number of its parts, then each part after its length in bytes.

    Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
    """
    parts = [b"*%d\r\n" % len(command)]
    for part in command:
        data = part.encode() if isinstance(part, str) else repr(part).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)
