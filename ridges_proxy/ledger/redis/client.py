"""Client of a Redis ledger: each wait has a limit, and a server that fails is left alone for a while."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import AskError, ClusterError, MovedError, NoScriptError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from redis.sentinel import Sentinel

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger.redis.connections import Connections
from ridges_proxy.ledger.redis.failures import FAILURES
from ridges_proxy.runtime.batches import Batches
from ridges_proxy.runtime.tracebacks import drop_tracebacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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


BROKEN = (RedisConnectionError, ClusterError)
"""After these errors, a script is sent once more. It may have run: a second run changes nothing."""


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


class _Request(NamedTuple):
    """A script that is to run."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[str | float, ...]
    waits: bool
    """Whether to wait until its effects are on replicas."""

    def by_sum(self) -> tuple[str | float, ...]:
        """Return the command that names the script by its SHA-1 sum."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)

    def by_text(self) -> tuple[str | float, ...]:
        """Return the command with the text of the script."""
        return ("EVAL", self.script.text, len(self.keys), *self.keys, *self.arguments)


class RedisClient:
    """Sends commands and scripts. Every failure is a LedgerUnavailableError; a series is logged once.

    Scripts that calls run in the same moment are sent in one write, if all keys are on one server.
    """

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
        self._batches = Batches[_Request, Any](self._run_together)
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
        request = _Request(script, keys, arguments, on_replicas and bool(self._wait_replicas))
        if self._connections is not None and not request.waits:
            return self._batches.do(request)
        (reply,) = self._run_together([request])
        if isinstance(reply, Exception):
            raise reply
        return reply

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
                drop_tracebacks(error)
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
        drop_tracebacks(error)
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

    def _run_together(self, requests: Sequence[_Request]) -> Sequence[Any]:
        """Return the replies. In place of those that failed, there is a LedgerUnavailableError."""
        replies: list[Any] = []

        def send_twice(_: object) -> None:
            replies.extend(self._send(requests))
            _repeat(BROKEN, requests, replies, self._send)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply

        try:
            self.do(send_twice)
        except LedgerUnavailableError as error:
            if not replies:
                raise
            return [error if isinstance(reply, Exception) else reply for reply in replies]
        return replies

    def _send(self, requests: Sequence[_Request]) -> list[Any]:
        """Return the replies. An error stands in place of a reply."""
        if requests[0].waits:
            return [_outcome_of(partial(self._send_and_wait, request)) for request in requests]
        replies = self._execute([request.by_sum() for request in requests])
        # A new or restarted server does not have the scripts.
        _repeat(
            NoScriptError, requests, replies, lambda some: self._execute([each.by_text() for each in some])
        )
        return replies

    def _execute(self, commands: Sequence[tuple[str | float, ...]]) -> list[Any]:
        """Send the commands and read the replies. An error stands in place of a reply."""
        if self._connections is not None:
            return self._connections.execute_together(commands)
        return [_outcome_of(partial(self._client.execute_command, *command)) for command in commands]

    def _send_and_wait(self, request: _Request) -> Any:  # noqa: ANN401 - a reply of any form
        """Run the script, then WAIT on the same connection: it counts only writes of its own connection."""
        with self._node(request.keys[0]).pipeline(transaction=False) as pipeline:
            pipeline.execute_command(*request.by_text())
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


def _outcome_of(request: Callable[[], Any]) -> Any:  # noqa: ANN401 - a reply of any form
    """Return the reply to a request, or its error."""
    try:
        return request()
    except FAILURES as error:
        drop_tracebacks(error)
        return error


def _repeat(
    failures: type[Exception] | tuple[type[Exception], ...],
    requests: Sequence[_Request],
    replies: list[Any],
    send: Callable[[Sequence[_Request]], Sequence[Any]],
) -> None:
    """Send the requests that have failed in this way again, and replace their replies."""
    places = [place for place, reply in enumerate(replies) if isinstance(reply, failures)]
    if places:
        for place, reply in zip(places, send([requests[place] for place in places]), strict=True):
            replies[place] = reply
