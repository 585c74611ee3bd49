"""The way to a Redis ledger: a limit on every wait, and no waiting for a server that is known to be away."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import AskError, ClusterError, MovedError, NoScriptError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger.redis.connections import Connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ridges_proxy.config.ledger_url import RedisUrl
    from ridges_proxy.ledger.redis.scripts import Script

MOST_CONNECTIONS = 64
"""To one server, of one process. A question takes well under a millisecond: so many are never busy at once
unless the server is slow, and then more would not help."""

AWAY_SECONDS = 1.0
"""How long nobody asks a server that did not answer. Then one call tries; the others still do not wait."""

HEALTH_CHECK_SECONDS = 30
"""A connection that was idle for so long is tried before it is used."""

logger = logging.getLogger(__name__)


class _Cluster(RedisCluster):
    """Looks at most once where a slot is, and never asks who is only about to have it (ASK).

    While a slot moves, some of a run's keys are at one node and some at the other: a script would find
    no books, and give the run its cap again. KEYS[1] of our scripts, which only names the bucket, is
    never there, so from the first step of the move to the last the old node answers ASK, to all of them.
    """

    RedisClusterRequestTTL = 1


MOVING = (AskError, TryAgainError, ClusterError)
"""The server is there, but not for this run now. A MOVED ends in a ClusterError, as it is not followed."""


class AwayError(LedgerUnavailableError):
    """The server was not asked: it did not answer a moment ago."""


def client_of(url: RedisUrl, timeout_seconds: float) -> Any:  # noqa: ANN401 - redis-py's clients have no type in common
    """A client that has not connected yet. It tries nothing again by itself (redis-py does, by default)."""
    never_again: Any = Retry(NoBackoff(), 0)
    tls = {name: value for name, value in url.options.items() if name.startswith("ssl_")}
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"].lower() not in {"0", "no", "false"}  # type: ignore[assignment] # redis-py wants a bool
    common: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_SECONDS,
        "max_connections": 2 * MOST_CONNECTIONS,  # of our own keeping, and of the client's
        "protocol": 2,
        "retry": never_again,
        "username": url.username,
        "password": url.password,
        **({"ssl": True, **tls} if url.tls else {}),
    }
    if url.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in url.nodes]  # type: ignore[no-untyped-call] # redis-py's
        return _Cluster(startup_nodes=nodes, **common)
    if url.kind == "sentinel":
        logins = {
            name.removeprefix("sentinel_"): value
            for name, value in url.options.items()
            if name.startswith("sentinel_")
        }
        watchers = {**common, "username": None, "password": None, **logins}  # nosec B105 # None is none
        del watchers["max_connections"]
        sentinel: Any = Sentinel(url.nodes, sentinel_kwargs=watchers, db=url.database, **common)  # type: ignore[no-untyped-call] # redis-py's
        return sentinel.master_for(url.service)
    ((host, port),) = url.nodes
    return redis.Redis(host=host, port=port, db=url.database, **common)


class RedisClient:
    """Asks the server. Whatever fails is a LedgerUnavailableError, and logged once until it answers."""

    def __init__(
        self,
        connect: Callable[[], Any],
        timeout_seconds: float,
        wait_replicas: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._client: Any = None
        self._connections: Connections | None = None
        self._timeout_seconds = timeout_seconds
        self._wait_replicas = wait_replicas
        self._clock = clock
        self._slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._away = False
        self._next_try_at = 0.0

    def run(self, script: Script, key: str, *arguments: str | float, on_replicas: bool = False) -> Any:  # noqa: ANN401 - a reply of any form
        """Run the script, once more if the connection breaks: every script may be run twice.

        With `on_replicas`, its effects are on as many replicas as are asked for before this returns.
        """
        ask = self._ask_and_wait if on_replicas and self._wait_replicas else self._ask

        def ask_twice() -> Any:  # noqa: ANN401 - a reply of any form
            try:
                return ask(script, key, arguments)
            except RedisTimeoutError:
                raise
            except (RedisConnectionError, ClusterError):
                return ask(script, key, arguments)

        return self.do(lambda _: ask_twice())

    def do(self, ask: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - a reply of any form
        """Ask the client for something. Raises LedgerUnavailableError."""
        with self._slot():
            if self._away:
                if self._clock() < self._next_try_at:
                    raise AwayError
                self._next_try_at = self._clock() + self._timeout_seconds + AWAY_SECONDS
            try:
                if self._client is None:
                    self._use(self._connect())
                reply = ask(self._client)
            except MOVING as error:
                raise LedgerUnavailableError from error
            except (RedisError, OSError) as error:
                self._give_up(error)
        if self._away:
            self._away = False
            logger.info("the ledger answers again")
        return reply

    def close(self) -> None:
        """Close its connections."""
        if self._connections is not None:
            self._connections.close()
        if self._client is not None:
            self._client.close()

    def _use(self, client: Any) -> None:  # noqa: ANN401 - redis-py's clients have no type in common
        pool = getattr(client, "connection_pool", None)  # a Cluster's client has none
        self._connections = Connections(pool) if Connections.fit(pool) else None
        self._client = client

    def _give_up(self, error: Exception) -> NoReturn:
        self._next_try_at = self._clock() + AWAY_SECONDS
        if not self._away:
            self._away = True
            # Its kind alone: the text may have an address, and a server's may quote what it was sent.
            logger.error("the ledger does not answer", extra={"error": type(error).__name__})
        raise LedgerUnavailableError from error

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(timeout=self._timeout_seconds):
            raise AwayError
        try:
            yield
        finally:
            self._slots.release()

    def _ask(self, script: Script, key: str, arguments: tuple[str | float, ...]) -> Any:  # noqa: ANN401 - a reply of any form
        try:
            return self._execute("EVALSHA", script.sha, 1, key, *arguments)
        except NoScriptError:  # new, or restarted
            return self._execute("EVAL", script.text, 1, key, *arguments)

    def _execute(self, *command: str | float) -> Any:  # noqa: ANN401 - a reply of any form
        """Send it, and read the reply."""
        if self._connections is None:
            return self._client.execute_command(*command)
        return self._connections.ask(command)

    def _ask_and_wait(self, script: Script, key: str, arguments: tuple[str | float, ...]) -> Any:  # noqa: ANN401 - a reply of any form
        """WAIT counts what its own connection has written, so both go over one."""
        with self._node(key).pipeline(transaction=False) as pipeline:
            pipeline.eval(script.text, 1, key, *arguments)
            pipeline.execute_command("WAIT", self._wait_replicas, int(self._timeout_seconds * 500))
            try:
                reply, replicas = pipeline.execute()
            except MovedError as error:
                self._client.nodes_manager.move_slot(error)
                raise ClusterError from error
        if replicas < self._wait_replicas:
            raise RedisError("too few replicas have it")
        return reply

    def _node(self, key: str) -> Any:  # noqa: ANN401 - redis-py's clients have no type in common
        client = self._client
        if not isinstance(client, RedisCluster):
            return client
        return client.get_redis_connection(client.get_node_from_key(key))  # type: ignore[no-untyped-call] # redis-py's
