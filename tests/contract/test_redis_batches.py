"""Scripts that calls run in the same moment share a write to Redis, and each gets its own outcome."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ridges_proxy.errors import LedgerUnavailableError, TooManyInFlightError
from ridges_proxy.ledger import Hold, Kind, Run, RunUsage
from ridges_proxy.ledger.redis.client import RETRY_SECONDS
from tests.contract.test_redis_client import ledger_of
from tests.support.clock import Clock
from tests.support.one_turn import outcomes_in_one_turn, patch_as_gevent
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ridges_proxy.ledger.redis.ledger import RedisLedger

RUN = Run("run", 1_000, max_in_flight=3)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    patch_as_gevent(monkeypatch)
    return Clock()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.fixture
def ledger(server: RedisServer, clock: Clock) -> Iterator[RedisLedger]:
    opened = ledger_of(server.url, clock=clock)
    opened.ping()
    yield opened
    opened.disconnect()


def reserve_in_one_turn(ledger: RedisLedger, calls: int) -> list[object]:
    return outcomes_in_one_turn([partial(ledger.reserve, RUN, Kind.INFERENCE, 10, 10, 60.0)] * calls)


def sums_of(ledger: RedisLedger) -> tuple[int, int, int]:
    usage = ledger.usage("run")
    assert usage
    return usage.spent_nanousd, usage.held_nanousd, usage.in_flight


class Writes:
    """Counts the commands of each write, and lets the replies of one fail from a place on."""

    def __init__(self, ledger: RedisLedger, error: Exception | None = None, fails_from: int = 0) -> None:
        connections: Any = ledger._client._connections
        self._execute = connections.execute_together
        self._error, self._fails_from = error, fails_from
        self.sizes: list[int] = []
        connections.execute_together = self.execute_together

    def execute_together(self, commands: Sequence[Any]) -> list[Any]:
        self.sizes.append(len(commands))
        replies: list[Any] = self._execute(commands)
        if self._error is not None and len(self.sizes) == 1:
            replies[self._fails_from :] = [self._error] * (len(replies) - self._fails_from)
        return replies


def test_calls_of_one_moment_share_a_write_and_get_their_own_outcomes(ledger: RedisLedger) -> None:
    writes = Writes(ledger)
    outcomes = reserve_in_one_turn(ledger, 4)
    assert [type(each) for each in outcomes] == [Hold, Hold, Hold, TooManyInFlightError]
    holds = [each for each in outcomes if isinstance(each, Hold)]
    assert len({hold.id for hold in holds}) == 3
    settled = outcomes_in_one_turn([partial(ledger.settle, hold, 2 + at) for at, hold in enumerate(holds)])
    assert [each.spent_nanousd for each in settled if isinstance(each, RunUsage)] == [2, 5, 9]
    assert writes.sizes == [4, 4, 3, 3], "the scripts, and once their texts"
    assert sums_of(ledger) == (9, 0, 0)


def test_after_a_broken_connection_only_the_calls_without_a_reply_are_repeated(ledger: RedisLedger) -> None:
    reserve_in_one_turn(ledger, 1)
    writes = Writes(ledger, RedisConnectionError(), fails_from=1)
    assert [type(each) for each in reserve_in_one_turn(ledger, 2)] == [Hold, Hold]
    assert writes.sizes == [2, 1]
    assert sums_of(ledger) == (0, 30, 3), "the repeated reservation holds its amount once"


def test_calls_without_a_reply_in_time_fail_and_their_holds_are_released(
    ledger: RedisLedger, clock: Clock
) -> None:
    reserve_in_one_turn(ledger, 1)
    writes = Writes(ledger, RedisTimeoutError(), fails_from=1)
    outcomes = reserve_in_one_turn(ledger, 2)
    assert [type(each) for each in outcomes] == [Hold, LedgerUnavailableError]
    assert writes.sizes == [2], "a late reply is not asked for again"
    clock.advance(RETRY_SECONDS)
    ledger._client._away = False
    assert sums_of(ledger) == (0, 30, 3)
    ledger.maintain()
    assert sums_of(ledger) == (0, 20, 2)
