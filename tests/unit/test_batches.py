"""Requests of one turn of the hub are served together, and each gets its own outcome."""

from __future__ import annotations

import gc
import time
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import gevent
import pytest

from ridges_proxy.errors import LedgerUnavailableError, TooManyInFlightError
from ridges_proxy.ledger import Hold, Kind, Run, SqliteLedger
from ridges_proxy.runtime import batches
from ridges_proxy.runtime.batches import Batches
from tests.support.one_turn import TIMEOUT_SECONDS, outcomes_in_one_turn, patch_as_gevent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(autouse=True)
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_as_gevent(monkeypatch)


def test_requests_of_one_turn_are_served_together_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH", 3)
    served: list[list[int]] = []

    def serve(numbers: Sequence[int]) -> list[int | Exception]:
        served.append(list(numbers))
        return [number * 2 if number % 2 else ValueError(number) for number in numbers]

    shared = Batches(serve)
    results = outcomes_in_one_turn([partial(shared.do, number) for number in range(4)])
    assert [*map(repr, results)] == ["ValueError(0)", "2", "ValueError(2)", "6"]
    assert served == [[0, 1, 2], [3]]
    assert shared.do(5) == 10, "a request of a later turn is in a batch of its own"
    assert served[2:] == [[5]]


def test_an_error_of_a_whole_batch_is_that_of_each_request() -> None:
    def serve(_: Sequence[int]) -> list[int]:
        raise LedgerUnavailableError

    shared = Batches(serve)
    results = outcomes_in_one_turn([partial(shared.do, number) for number in range(3)])
    assert [type(result) for result in results] == [LedgerUnavailableError] * 3


def test_an_error_is_freed_without_the_garbage_collector() -> None:
    """Refusals are frequent, and each would keep all requests of its batch."""

    class StepError(ValueError):
        pass

    errors: list[weakref.ref[StepError]] = []

    def serve(numbers: Sequence[int]) -> list[StepError]:
        made = [StepError() for _ in numbers]
        errors.extend(map(weakref.ref, made))
        return made

    gc.disable()
    try:
        with suppress(StepError):
            Batches[int, int](serve).do(1)
        assert errors[0]() is None
    finally:
        gc.enable()


def test_a_batch_is_served_also_if_its_first_greenlet_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: gevent.sleep(TIMEOUT_SECONDS))
    shared = Batches[int, int](lambda numbers: [number + 1 for number in numbers])
    first, second = (gevent.spawn(shared.do, number) for number in (1, 2))
    gevent.spawn(first.kill, block=False)
    assert second.get(timeout=TIMEOUT_SECONDS) == 3
    assert isinstance(first.value, gevent.GreenletExit)


def test_a_request_is_served_again_if_the_greenlet_that_served_it_is_killed() -> None:
    served: list[list[int]] = []

    def serve(numbers: Sequence[int]) -> list[int]:
        served.append(list(numbers))
        if len(served) == 1:
            gevent.sleep(TIMEOUT_SECONDS)
        return [number + 1 for number in numbers]

    shared = Batches(serve)
    first, second = (gevent.spawn(shared.do, number) for number in (1, 2))
    while not served:
        gevent.sleep(0.001)
    first.kill()
    assert second.get(timeout=TIMEOUT_SECONDS) == 3
    assert served == [[1, 2], [2]]


def test_calls_of_one_moment_share_a_commit_and_get_their_own_outcomes(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", 600.0)
    statements: list[str] = []
    ledger._connection.set_trace_callback(statements.append)
    run = Run("run", 1_000, max_in_flight=2)
    reserve = partial(ledger.reserve, run, Kind.INFERENCE, 10, 10, 60.0)
    one, two, three = outcomes_in_one_turn([reserve] * 3)
    assert isinstance(one, Hold)
    assert isinstance(two, Hold)
    assert isinstance(three, TooManyInFlightError)
    assert statements.count("COMMIT") == 1
    outcomes_in_one_turn([partial(ledger.settle, one, 3), partial(ledger.release, two)])
    assert statements.count("COMMIT") == 2
    usage = ledger.usage("run")
    assert usage
    assert (usage.spent_nanousd, usage.held_nanousd, usage.calls, usage.in_flight) == (3, 0, 1, 0)


def test_a_call_that_fails_does_not_touch_the_calls_of_the_same_moment(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", 600.0)
    ledger._connection.execute(
        "CREATE TEMP TRIGGER broken BEFORE INSERT ON open_holds WHEN NEW.run_id = 'bad'"
        " BEGIN SELECT RAISE(ABORT, ''); END"
    )
    runs = [Run(name, 1_000) for name in ("good", "bad", "good")]
    results = outcomes_in_one_turn(
        [partial(ledger.reserve, run, Kind.INFERENCE, 10, 10, 60.0) for run in runs]
    )
    assert [type(result) for result in results] == [Hold, LedgerUnavailableError, Hold]
    usage = ledger.usage("good")
    assert usage
    assert (usage.held_nanousd, usage.in_flight) == (20, 2)
    assert ledger.usage("bad") is None
