"""Client of a Redis ledger: each wait has a limit, and a server that fails is left alone for a while."""

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
from ridges_proxy.ledger.redis.failures import FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ridges_proxy.config.ledger_url import RedisUrl
    from ridges_proxy.ledger.redis.scripts import Script

MAX_CONNECTIONS = 64
"""Limit of connections of one process to one server. A request takes well under 1 ms, so 64 are busy at once
only if the server is slow, and then more would not help."""

RETRY_SECONDS = 1.0
"""Pause after a server did not answer. Then one call tries again; the others still fail at once."""

HEALTH_CHECK_SECONDS = 30
"""A connection that was idle for longer is checked before it is used."""

logger = logging.getLogger(__name__)


class _Cluster(RedisCluster):
    """A Cluster client that does not follow redirections: neither MOVED nor ASK.

    While a slot moves, some keys of a run are on one node and some on the other. A script on the new node
    would not find the run's account, and would grant its budget a second time. KEYS[1] of the scripts is only
    a prefix and never exists as a key, so the old node answers ASK to every script until the move is over.
    """

    RedisClusterRequestTTL = 1


SLOT_MOVES = (AskError, TryAgainError, ClusterError)
"""The server answers, but not for this run now. MOVED becomes a ClusterError, because it is not followed."""


class AwayError(LedgerUnavailableError):
    """The request was not sent: the server did not answer shortly before, or all connections were busy."""


def client_of(url: RedisUrl, timeout_seconds: float) -> Any:  # noqa: ANN401 - redis-py's clients have no type in common
    """Return a client that has not connected yet. It never retries by itself, as redis-py does by default."""
    no_retries: Any = Retry(NoBackoff(), 0)
    tls = {name: value for name, value in url.options.items() if name.startswith("ssl_")}
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"].lower() not in {"0", "no", "false"}  # type: ignore[assignment] # redis-py wants a bool
    common: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_SECONDS,
        "max_connections": 2 * MAX_CONNECTIONS,  # those of Connections, and those of the client
        "protocol": 2,
        "retry": no_retries,
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
        sentinel_options = {**common, "username": None, "password": None, **logins}  # nosec B105 # None is none
        del sentinel_options["max_connections"]
        sentinel: Any = Sentinel(url.nodes, sentinel_kwargs=sentinel_options, db=url.database, **common)  # type: ignore[no-untyped-call] # redis-py's
        return sentinel.master_for(url.service)
    ((host, port),) = url.nodes
    return redis.Redis(host=host, port=port, db=url.database, **common)


class RedisClient:
    """Sends commands and scripts. Every failure is a LedgerUnavailableError; a series is logged once."""

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
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._away = False
        self._next_try_at = 0.0

    def run(
        self,
        script: Script,
        key: str,
        *arguments: str | float,
        on_replicas: bool = False,
        second_key: str = "",
    ) -> Any:  # noqa: ANN401 - a reply of any form
        """Run the script. Repeat it once if the connection breaks: every script may run twice.

        In a Cluster, both keys must have the same slot. With `on_replicas`, wait until its effects are on
        `wait_replicas` replicas.

        Raises LedgerUnavailableError.
        """
        keys = (key, second_key) if second_key else (key,)
        send = self._send_and_wait if on_replicas and self._wait_replicas else self._send

        def send_twice() -> Any:  # noqa: ANN401 - a reply of any form
            try:
                return send(script, keys, arguments)
            except RedisTimeoutError:
                raise
            except (RedisConnectionError, ClusterError):
                return send(script, keys, arguments)

        return self.do(lambda _: send_twice())

    def do(self, request: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - a reply of any form
        """Call `request` with redis-py's client. Raises LedgerUnavailableError."""
        with self._slot():
            if self._away:
                if self._clock() < self._next_try_at:
                    raise AwayError
                self._next_try_at = self._clock() + self._timeout_seconds + RETRY_SECONDS
            try:
                if self._client is None:
                    self._set_client(self._connect())
                reply = request(self._client)
            except SLOT_MOVES as error:
                raise LedgerUnavailableError from error
            except FAILURES as error:
                self._give_up(error)
        if self._away:
            self._away = False
            logger.info("the ledger answers again")
        return reply

    def is_cluster(self) -> bool:
        """Return whether the keys are on several nodes. Raises LedgerUnavailableError."""
        if self._client is None:
            self.do(lambda _: None)
        return isinstance(self._client, RedisCluster)

    def close(self) -> None:
        """Close all connections."""
        if self._connections is not None:
            self._connections.close()
        if self._client is not None:
            self._client.close()

    def _set_client(self, client: Any) -> None:  # noqa: ANN401 - redis-py's clients have no type in common
        pool = getattr(client, "connection_pool", None)  # the client of a Cluster has none
        self._connections = Connections(pool) if Connections.can_use(pool) else None
        self._client = client

    def _give_up(self, error: Exception) -> NoReturn:
        self._next_try_at = self._clock() + RETRY_SECONDS
        if not self._away:
            self._away = True
            # Only the type: the text may contain the server's address, or quote what was sent.
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

    def _send(self, script: Script, keys: tuple[str, ...], arguments: tuple[str | float, ...]) -> Any:  # noqa: ANN401 - a reply of any form
        try:
            return self._execute("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # a new or restarted server does not have the script
            return self._execute("EVAL", script.text, len(keys), *keys, *arguments)

    def _execute(self, *command: str | float) -> Any:  # noqa: ANN401 - a reply of any form
        """Send the command and read the reply."""
        if self._connections is None:
            return self._client.execute_command(*command)
        return self._connections.execute(command)

    def _send_and_wait(
        self, script: Script, keys: tuple[str, ...], arguments: tuple[str | float, ...]
    ) -> Any:  # noqa: ANN401 - a reply of any form
        """Run the script, then WAIT on the same connection: it counts only writes of its own connection."""
        with self._node(keys[0]).pipeline(transaction=False) as pipeline:
            pipeline.eval(script.text, len(keys), *keys, *arguments)
            pipeline.execute_command("WAIT", self._wait_replicas, int(self._timeout_seconds * 500))
            try:
                reply, replicas = pipeline.execute()
            except MovedError as error:
                self._client.nodes_manager.move_slot(error)
                raise ClusterError from error
        if replicas < self._wait_replicas:
            raise RedisError("too few replicas confirmed the write")
        return reply

    def _node(self, key: str) -> Any:  # noqa: ANN401 - redis-py's clients have no type in common
        client = self._client
        if not isinstance(client, RedisCluster):
            return client
        return client.get_redis_connection(client.get_node_from_key(key))  # type: ignore[no-untyped-call] # redis-py's
