"""Connections to a Redis, with less work for each command than in redis-py."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeGuard

from redis import ConnectionPool
from redis.exceptions import ResponseError

from ridges_proxy.ledger.redis.failures import FAILURES
from ridges_proxy.runtime.tracebacks import drop_tracebacks

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_SECONDS = 0.001
"""Time limit of a reply when the time of all is over. A limit of 0 has another meaning for a socket."""


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
        """Send a command and read the reply. Raises the errors of FAILURES."""
        (reply,) = self.execute_together([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def execute_together(self, commands: Sequence[tuple[str | float, ...]]) -> list[Any]:
        """Send all commands in one write, and read their replies. An error stands in place of a reply.

        All replies together have the time limit of one. If it passes, or if the connection breaks, that error
        stands for all replies from there on.
        """
        connection: Any = self._idle.pop() if self._idle else self._pool.make_connection()
        replies: list[Any] = []
        try:
            connection.send_packed_command([b"".join(map(packed, commands))])  # connects if it was closed
            give_up_at = time.monotonic() + connection.socket_timeout
            while len(replies) < len(commands):
                replies.append(_reply_on(connection, give_up_at - time.monotonic()))
        except BaseException as error:
            connection.disconnect()
            self.close()  # if the server is gone, so are all of them
            if not isinstance(error, FAILURES):
                raise
            drop_tracebacks(error)
            replies += [error] * (len(commands) - len(replies))
        finally:
            self._idle.append(connection)
        return replies

    def close(self) -> None:
        """Close the idle connections. They connect again when they are used."""
        for connection in self._idle:
            connection.disconnect()


def _reply_on(connection: Any, seconds: float) -> Any:  # noqa: ANN401 - redis-py's
    """Read the next reply. An error of the server is a complete reply, too.

    A reply that has arrived is read even if the time is over.
    """
    try:
        return connection.read_response(timeout=max(seconds, LEAST_SECONDS))
    except ResponseError as error:
        return error


def packed(command: tuple[str | float, ...]) -> bytes:
    """Encode a command for Redis: the number of its parts, then each part after its length in bytes.

    Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
    """
    parts = [b"*%d\r\n" % len(command)]
    for part in command:
        data = part.encode() if isinstance(part, str) else repr(part).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)
