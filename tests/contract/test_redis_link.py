"""The way to a Redis: away and back, answers that come twice, replicas, sentinels."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis

from ridges_proxy.config.ledger_url import redis_url
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Kind, Run
from ridges_proxy.ledger.redis.client import RETRY_SECONDS, AwayError, RedisClient, client_of
from ridges_proxy.ledger.redis.ledger import RedisLedger
from tests.contract.stores import BUCKETS, PATIENCE_SECONDS, TTL_SECONDS
from tests.support.clock import Clock
from tests.support.redis_server import RedisSentinel, RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = Run("run", 1_000)
TIMEOUT_SECONDS = 0.2
IDLE = 7
"""Where books tell how long the run has been idle, which grows."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


def ledger_of(
    url: str,
    timeout: float = PATIENCE_SECONDS,
    clock: Clock | None = None,
    **link: Any,  # noqa: ANN401 - passed on
) -> RedisLedger:
    if clock is not None:
        link["clock"] = clock
    return RedisLedger(
        RedisClient(lambda: client_of(redis_url(url), timeout), timeout, **link), TTL_SECONDS, buckets=BUCKETS
    )


def spend(ledger: RedisLedger, cost: int = 10) -> None:
    assert ledger.settle(ledger.reserve(RUN, Kind.INFERENCE, cost, cost, 60.0), cost)


# --- away and back


def test_while_a_server_is_away_nobody_asks_it_and_then_one_does(server: RedisServer) -> None:
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


def test_a_server_that_was_never_there_is_found_when_it_comes(server: RedisServer) -> None:
    server.kill()
    clock = Clock()
    ledger = ledger_of(server.url, TIMEOUT_SECONDS, clock)
    with pytest.raises(LedgerUnavailableError):
        spend(ledger)
    server.start()
    clock.advance(RETRY_SECONDS)
    spend(ledger)


def test_callers_do_not_pile_up_before_a_server_that_stands_still(server: RedisServer) -> None:
    ledger = ledger_of(server.url, TIMEOUT_SECONDS, Clock())
    spend(ledger)
    server.freeze()
    began = time.monotonic()
    outcomes: list[bool] = []

    def call() -> None:
        try:
            spend(ledger)
        except LedgerUnavailableError as error:
            outcomes.append(isinstance(error, AwayError))

    threads = [threading.Thread(target=call) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    server.thaw()
    assert len(outcomes) == 200
    assert sum(outcomes) > 100, "most did not even ask"
    assert seconds < 200 * TIMEOUT_SECONDS / 10


def test_a_reservation_whose_answer_was_lost_is_given_back(server: RedisServer) -> None:
    ledger = ledger_of(server.url, TIMEOUT_SECONDS, clock := Clock())
    spend(ledger)
    server.freeze()
    with pytest.raises(LedgerUnavailableError):
        ledger.reserve(RUN, Kind.INFERENCE, 700, 700, 60.0)
    server.thaw()
    clock.advance(RETRY_SECONDS)
    ledger.ping()
    ledger.maintain()
    books = ledger.usage("run")
    assert books
    assert (books.held_nanousd, books.in_flight, books.spent_nanousd) == (0, 0, 10)


def test_a_reservation_that_arrives_after_it_was_given_up_is_not_made(server: RedisServer) -> None:
    ledger = ledger_of(server.url)
    seen: list[tuple[Any, ...]] = []
    run = ledger._client.run

    def note(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - passed on
        seen.append(arguments)
        return run(*arguments, **options)

    ledger._client.run = note  # type: ignore[method-assign] # to hear what is asked
    hold = ledger.reserve(RUN, Kind.INFERENCE, 50, 50, 60.0)
    server.client.flushall()  # as if it had not arrived yet
    assert ledger.release(hold) is None
    assert run(*seen[0]) == [b"done"]
    assert ledger.usage("run") is None


@pytest.mark.parametrize("verb", ["reserve", "settle", "release"])
def test_a_question_that_is_asked_twice_is_answered_twice_and_done_once(
    server: RedisServer, verb: str
) -> None:
    ledger = ledger_of(server.url)
    run = ledger._client.run

    def twice(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - passed on
        first = run(*arguments, **options)
        again = run(*arguments, **options)
        assert (again and again[:IDLE]) == (first and first[:IDLE])
        return first

    hold = None if verb == "reserve" else ledger.reserve(RUN, Kind.INFERENCE, 50, 50, 60.0)
    ledger._client.run = twice  # type: ignore[method-assign] # as a connection that breaks would
    if hold is None:
        ledger.reserve(RUN, Kind.INFERENCE, 50, 50, 60.0)
    elif verb == "settle":
        assert ledger.settle(hold, 30)
        assert ledger.settle(hold, 30) is None, "another caller's"
    else:
        assert ledger.release(hold)
    books = ledger.usage("run")
    assert books
    expected = {"reserve": (0, 50, 0), "settle": (30, 0, 1), "release": (0, 0, 0)}
    assert (books.spent_nanousd, books.held_nanousd, books.calls) == expected[verb]


def test_an_error_of_the_server_is_one_of_ours(server: RedisServer) -> None:
    ledger = ledger_of(server.url, TIMEOUT_SECONDS, clock := Clock())
    spend(ledger)
    server.client.config_set("maxmemory", 1)
    with pytest.raises(LedgerUnavailableError):
        spend(ledger)
    server.client.config_set("maxmemory", 0)
    clock.advance(RETRY_SECONDS)
    spend(ledger)


def test_a_server_that_has_forgotten_the_scripts_is_given_them_again(server: RedisServer) -> None:
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
    """A server, and a replica that has all it has."""
    with RedisServer() as first, RedisServer("--replicaof", f"127.0.0.1 {first.port}") as second:
        end = time.monotonic() + PATIENCE_SECONDS
        while second.client.info("replication")["master_link_status"] != "up":
            assert time.monotonic() < end
            time.sleep(0.02)
        yield first, second


def test_a_hold_that_must_be_on_a_replica_is_refused_while_there_is_none_and_given_back() -> None:
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
        books = ledger.usage("run")
        assert books
        assert (books.spent_nanousd, books.held_nanousd) == (10, 0)
        spend(ledger)


def test_what_was_held_is_held_when_a_replica_takes_over() -> None:
    with replicated() as (first, second):
        ledger = ledger_of(first.url, wait_replicas=1)
        hold = ledger.reserve(RUN, Kind.INFERENCE, 600, 600, 60.0)
        first.kill()
        second.ask("REPLICAOF", "NO", "ONE")
        after = ledger_of(second.url)
        with pytest.raises(Exception, match="held"):
            after.reserve(RUN, Kind.INFERENCE, 600, 600, 60.0)
        books = after.settle(hold, 600)
        assert books
        assert books.spent_nanousd == 600
        first.start()


# --- sentinels


def test_the_server_that_the_sentinels_name_is_asked_and_its_successor_when_it_is_gone() -> None:
    with ExitStack() as stack:
        first, second = stack.enter_context(replicated())
        sentinel = stack.enter_context(RedisSentinel())
        sentinel.ask("SENTINEL", "MONITOR", "books", "127.0.0.1", first.port, 1)
        sentinel.ask("SENTINEL", "SET", "books", "down-after-milliseconds", "200")
        sentinel.ask("SENTINEL", "SET", "books", "failover-timeout", "2000")
        clock = Clock()
        ledger = ledger_of(f"redis+sentinel://127.0.0.1:{sentinel.port}/books", clock=clock)
        spend(ledger, 11)
        end = time.monotonic() + PATIENCE_SECONDS
        while not (known(sentinel) and ledger_of(second.url).usage("run")):
            assert time.monotonic() < end
            time.sleep(0.05)
        first.kill()
        while True:
            assert time.monotonic() < end
            clock.advance(RETRY_SECONDS)
            try:
                spend(ledger, 31)
                break
            except LedgerUnavailableError:
                time.sleep(0.05)
        books = ledger_of(second.url).usage("run")
        assert books
        assert books.spent_nanousd == 42
        first.start()


def known(sentinel: RedisServer) -> bool:
    """Whether the sentinel has heard of the replica."""
    return bool(sentinel.client.sentinel_slaves("books"))
