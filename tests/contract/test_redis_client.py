"""The client of a Redis ledger: failures and recovery, repeated requests, replicas, sentinels."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import redis

from ridges_proxy.config.ledger_url import redis_url
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Kind, Run
from ridges_proxy.ledger.redis.client import (
    MAX_CONNECTIONS,
    RETRY_SECONDS,
    AwayError,
    RedisClient,
    client_of,
)
from ridges_proxy.ledger.redis.ledger import RedisLedger
from tests.contract.stores import BUCKETS, PATIENCE_SECONDS, TTL_SECONDS
from tests.support.clock import Clock
from tests.support.redis_server import RedisSentinel, RedisServer
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RUN = Run("run", 1_000)
TIMEOUT_SECONDS = 0.2
IDLE = 7
"""Index of the idle time in a reply. It grows, so replies are compared without it."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


def ledger_of(
    url: str,
    timeout: float = PATIENCE_SECONDS,
    clock: Clock | None = None,
    **options: Any,  # noqa: ANN401 - passed on
) -> RedisLedger:
    if clock is not None:
        options["clock"] = clock
    return RedisLedger(
        RedisClient(lambda: client_of(redis_url(url), timeout), timeout, **options),
        TTL_SECONDS,
        buckets=BUCKETS,
    )


def spend(ledger: RedisLedger, cost: int = 10) -> None:
    assert ledger.settle(ledger.reserve(RUN, Kind.INFERENCE, cost, cost, 60.0), cost)


# --- failures and recovery


def test_a_failed_server_is_not_asked_until_the_pause_is_over(server: RedisServer) -> None:
    clock = Clock()
    ledger = ledger_of(server.url, TIMEOUT_SECONDS, clock)
    spend(ledger)
    server.kill()
    with pytest.raises(LedgerUnavailableError) as first:
        spend(ledger)
    assert not isinstance(first.value, AwayError)
    for _ in range(100):
        with pytest.raises(AwayError):
            spend(ledger)
    server.start()
    with pytest.raises(AwayError):
        spend(ledger)
    clock.advance(RETRY_SECONDS)
    spend(ledger)


def test_a_server_that_starts_after_the_client_is_used(server: RedisServer) -> None:
    server.kill()
    clock = Clock()
    ledger = ledger_of(server.url, TIMEOUT_SECONDS, clock)
    with pytest.raises(LedgerUnavailableError):
        spend(ledger)
    server.start()
    clock.advance(RETRY_SECONDS)
    spend(ledger)


def test_callers_do_not_queue_for_a_frozen_server(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(server.url, TIMEOUT_SECONDS, Clock())
    spend(ledger)
    connections: Any = ledger._client._connections
    send, writes = connections.execute_together, list[int]()

    def record(commands: Sequence[Any]) -> list[Any]:
        writes.append(len(commands))
        replies: list[Any] = send(commands)
        return replies

    monkeypatch.setattr(connections, "execute_together", record)
    server.freeze()
    started = time.monotonic()
    failed: list[int] = []

    def call() -> None:
        with suppress(LedgerUnavailableError):
            spend(ledger)
            return
        failed.append(1)

    threads = [threading.Thread(target=call) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - started
    server.thaw()
    assert len(failed) == 200
    assert len(writes) <= MAX_CONNECTIONS, "the others fail with one of these, or are not sent"
    assert seconds < 200 * TIMEOUT_SECONDS / 10


def test_a_reservation_without_a_reply_is_released(server: RedisServer) -> None:
    ledger = ledger_of(server.url, TIMEOUT_SECONDS, clock := Clock())
    spend(ledger)
    server.freeze()
    with pytest.raises(LedgerUnavailableError):
        ledger.reserve(RUN, Kind.INFERENCE, 700, 700, 60.0)
    server.thaw()
    clock.advance(RETRY_SECONDS)
    ledger.ping()
    ledger.maintain()
    usage = ledger.usage("run")
    assert usage
    assert (usage.held_nanousd, usage.in_flight, usage.spent_nanousd) == (0, 0, 10)


def test_a_reservation_that_arrives_after_its_release_is_refused(server: RedisServer) -> None:
    ledger = ledger_of(server.url)
    requests: list[tuple[Any, ...]] = []
    run = ledger._client.run

    def record(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - passed on
        requests.append(arguments)
        return run(*arguments, **options)

    ledger._client.run = record  # type: ignore[method-assign] # records the requests
    hold = ledger.reserve(RUN, Kind.INFERENCE, 50, 50, 60.0)
    server.client.flushall()  # as if the reservation had not arrived yet
    assert ledger.release(hold) is None
    assert run(*requests[0]) == [b"done"]
    assert ledger.usage("run") is None


def test_a_repeated_request_gets_the_same_reply_and_has_one_effect(server: RedisServer) -> None:
    def check(row: tuple[str, tuple[int, int, int]]) -> None:
        method, expected = row
        server.client.flushall()
        ledger = ledger_of(server.url)
        run = ledger._client.run

        def run_twice(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - passed on
            first = run(*arguments, **options)
            again = run(*arguments, **options)
            assert (again and again[:IDLE]) == (first and first[:IDLE])
            return first

        hold = None if method == "reserve" else ledger.reserve(RUN, Kind.INFERENCE, 50, 50, 60.0)
        ledger._client.run = run_twice  # type: ignore[method-assign] # as after a broken connection
        if hold is None:
            ledger.reserve(RUN, Kind.INFERENCE, 50, 50, 60.0)
        elif method == "settle":
            assert ledger.settle(hold, 30)
            assert ledger.settle(hold, 30) is None, "a second request is not a repetition"
        else:
            assert ledger.release(hold)
        usage = ledger.usage("run")
        assert usage
        assert (usage.spent_nanousd, usage.held_nanousd, usage.calls) == expected

    check_rows([("reserve", (0, 50, 0)), ("settle", (30, 0, 1)), ("release", (0, 0, 0))], check)


def test_an_error_of_redis_is_a_ledger_unavailable_error(server: RedisServer) -> None:
    ledger = ledger_of(server.url, TIMEOUT_SECONDS, clock := Clock())
    spend(ledger)
    server.client.config_set("maxmemory", 1)
    with pytest.raises(LedgerUnavailableError):
        spend(ledger)
    server.client.config_set("maxmemory", 0)
    clock.advance(RETRY_SECONDS)
    spend(ledger)


def test_a_server_that_lost_the_scripts_gets_them_again(server: RedisServer) -> None:
    ledger = ledger_of(server.url)
    spend(ledger)
    server.client.script_flush()
    spend(ledger)


def test_a_wrong_password_is_an_error(server: RedisServer) -> None:
    server.client.config_set("requirepass", "right")
    with pytest.raises(LedgerUnavailableError) as error:
        spend(ledger_of(f"redis://:wrong@127.0.0.1:{server.port}"))
    assert isinstance(error.value.__cause__, redis.AuthenticationError)
    spend(ledger_of(f"redis://:right@127.0.0.1:{server.port}"))


# --- replicas


@contextmanager
def replicated() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A server and a replica that is up to date."""
    with RedisServer() as first, RedisServer("--replicaof", f"127.0.0.1 {first.port}") as second:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while second.client.info("replication")["master_link_status"] != "up":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield first, second


def test_without_a_replica_a_hold_that_needs_one_is_refused_and_released() -> None:
    with replicated() as (first, second):
        ledger = ledger_of(first.url, clock=(clock := Clock()), wait_replicas=1)
        spend(ledger)
        second.freeze()
        ledger._client._timeout_seconds = 0.4  # of which WAIT gets half
        with pytest.raises(LedgerUnavailableError):
            ledger.reserve(RUN, Kind.INFERENCE, 100, 100, 60.0)
        second.thaw()
        clock.advance(RETRY_SECONDS)
        ledger.maintain()
        usage = ledger.usage("run")
        assert usage
        assert (usage.spent_nanousd, usage.held_nanousd) == (10, 0)
        spend(ledger)


def test_a_promoted_replica_has_the_holds() -> None:
    with replicated() as (first, second):
        ledger = ledger_of(first.url, wait_replicas=1)
        hold = ledger.reserve(RUN, Kind.INFERENCE, 600, 600, 60.0)
        first.kill()
        second.ask("REPLICAOF", "NO", "ONE")
        after = ledger_of(second.url)
        with pytest.raises(Exception, match="still in progress"):
            after.reserve(RUN, Kind.INFERENCE, 600, 600, 60.0)
        usage = after.settle(hold, 600)
        assert usage
        assert usage.spent_nanousd == 600
        first.start()


# --- sentinels


def test_the_master_that_a_sentinel_names_is_used_and_after_a_failover_the_new_one() -> None:
    with ExitStack() as stack:
        first, second = stack.enter_context(replicated())
        sentinel = stack.enter_context(RedisSentinel())
        sentinel.ask("SENTINEL", "MONITOR", "ledger", "127.0.0.1", first.port, 1)
        sentinel.ask("SENTINEL", "SET", "ledger", "down-after-milliseconds", "200")
        sentinel.ask("SENTINEL", "SET", "ledger", "failover-timeout", "2000")
        clock = Clock()
        ledger = ledger_of(f"redis+sentinel://127.0.0.1:{sentinel.port}/ledger", clock=clock)
        spend(ledger, 11)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (knows_the_replica(sentinel) and ledger_of(second.url).usage("run")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        first.kill()
        while True:
            assert time.monotonic() < deadline
            clock.advance(RETRY_SECONDS)
            try:
                spend(ledger, 31)
                break
            except LedgerUnavailableError:
                time.sleep(0.05)
        usage = ledger_of(second.url).usage("run")
        assert usage
        assert usage.spent_nanousd == 42
        first.start()


def knows_the_replica(sentinel: RedisServer) -> bool:
    """Return whether the sentinel knows the replica."""
    return bool(sentinel.client.sentinel_slaves("ledger"))
