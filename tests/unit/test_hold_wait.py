"""Calls that wait while other calls of their run hold what they need."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.calls import hold_wait
from ridges_proxy.calls.call import Call
from ridges_proxy.calls.stream_relay import HEARTBEAT
from ridges_proxy.errors import (
    BudgetExhaustedError,
    ClientGoneError,
    DrainingError,
    LedgerUnavailableError,
    RunBusyError,
    RunClosedError,
)
from ridges_proxy.ledger import Hold, Kind, Run, Ticket
from tests.support.call_fixture import (
    FULL_HOLD,
    MINIMUM_HOLD,
    PROMPT_NANOUSD,
    USAGE,
    USAGE_NANOUSD,
    CallFixture,
    GoneClient,
    answer,
    chat_of,
)
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.upstream import Attempt

BURST = 60
PATIENCE_SECONDS = 10.0
LONG_SECONDS = 1_000.0
BUDGET_NANOUSD = FULL_HOLD + BURST * USAGE_NANOUSD


def hold_of(calls: CallFixture, budget: int = FULL_HOLD) -> Hold:
    """Hold the whole budget of the run, as a call of another process does."""
    return calls.ledger.reserve(Run("run", budget), Kind.INFERENCE, budget, budget, LONG_SECONDS)


class Waits:
    """Calls in greenlets of their own, of which the tests know how each ends."""

    def __init__(self, calls: CallFixture) -> None:
        self.calls = calls
        self.ended: list[str] = []
        self.errors: dict[str, type[BaseException]] = {}
        self._greenlets: list[gevent.Greenlet[..., None]] = []

    def start(self, name: str, make: Callable[[], object] | None = None, *, waits: bool = True) -> None:
        """Start a call, and return once it waits."""
        before = self.calls.service.hold_waits.waiting
        self._greenlets.append(gevent.spawn(partial(self._run, name, make or self.infer)))
        if waits:
            with gevent.Timeout(PATIENCE_SECONDS):
                while self.calls.service.hold_waits.waiting == before:
                    gevent.sleep(0.001)

    def infer(self) -> object:
        return self.calls.infer(self.calls.call(budget=FULL_HOLD))

    def end(self) -> list[str]:
        """Wait until all have ended. Return their names in the order of their ends."""
        gevent.joinall(self._greenlets, timeout=PATIENCE_SECONDS, raise_error=True)
        assert all(each.dead for each in self._greenlets)
        assert nothing_waits(self.calls)
        return self.ended

    def _run(self, name: str, make: Callable[[], object]) -> None:
        try:
            make()
        except Exception as error:  # noqa: BLE001 - the tests check it
            self.errors[name] = type(error)
        self.ended.append(name)


def nothing_waits(calls: CallFixture) -> bool:
    """Whether neither the process nor the ledger has a waiting call."""
    return calls.service.hold_waits.waiting == 0 and not calls.ledger._queues._queues


def waiting_call(calls: CallFixture) -> tuple[Waits, Hold]:
    hold = hold_of(calls)
    waits = Waits(calls)
    waits.start("waits")
    return waits, hold


@pytest.fixture
def calls() -> CallFixture:
    return CallFixture()


@pytest.fixture
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting call asks again only when something wakes it."""
    for name in ("FIRST_POLL_SECONDS", "MAX_POLL_SECONDS", "LATER_POLL_SECONDS"):
        monkeypatch.setattr(hold_wait, name, LONG_SECONDS)


# --- a burst


def test_of_60_calls_at_once_that_all_fit_one_after_the_other_60_are_answered(calls: CallFixture) -> None:
    """Each holds so much that no other fits beside it."""
    order: list[int] = []

    def script(attempt: Attempt, put: Callable[[bytes], None]) -> None:
        assert calls.usage().in_flight == 1
        gevent.sleep(0.001)
        answer(usage=USAGE, complete=True)(attempt, put)

    def make(number: int) -> Callable[[], object]:
        def call() -> object:
            found = calls.service.infer(calls.call(budget=BUDGET_NANOUSD), chat_of(1_000_000))
            order.append(number)
            return found

        return call

    calls.upstream.script = script
    waits = Waits(calls)
    first = hold_of(calls, BUDGET_NANOUSD)
    for number in range(BURST):
        waits.start(str(number), make(number))
    assert calls.admission.in_flight == BURST
    calls.ledger.release(first)
    waits.end()
    assert (waits.errors, order) == ({}, list(range(BURST))), "first come, first served"
    usage = calls.usage()
    assert (usage.spent_nanousd, usage.calls, usage.held_nanousd) == (BURST * USAGE_NANOUSD, BURST, 0)


@pytest.mark.usefixtures("no_polls")
def test_a_call_of_this_process_that_ends_wakes_the_next_without_a_poll(calls: CallFixture) -> None:
    end = Event()

    def script(attempt: Attempt, put: Callable[[bytes], None]) -> None:
        end.wait(PATIENCE_SECONDS)
        answer(usage=USAGE, complete=True)(attempt, put)

    calls.upstream.script = script
    waits = Waits(calls)
    budget = FULL_HOLD + 4 * USAGE_NANOUSD

    def infer() -> object:
        return calls.infer(calls.call(budget=budget))

    other = calls.ledger.reserve(Run("run", budget), Kind.INFERENCE, budget - FULL_HOLD, 1, LONG_SECONDS)
    waits.start("first", infer, waits=False)
    gevent.sleep(0.01)
    calls.ledger.release(other)
    calls.ledger.reserve(Run("run", budget), Kind.INFERENCE, budget - FULL_HOLD, 1, LONG_SECONDS)
    for name in ("second", "third"):
        waits.start(name, infer)
    end.set()
    assert waits.end() == ["first", "second", "third"]
    assert waits.errors == {}


@pytest.mark.usefixtures("no_polls")
def test_a_call_that_waits_is_in_the_queue_of_the_ledger_since_its_first_question(calls: CallFixture) -> None:
    waits, hold = waiting_call(calls)
    assert calls.ledger.waiting("run") == 1
    calls.ledger.release(hold)
    calls.service.hold_waits.wake("run", None)
    waits.end()
    assert waits.errors == {}


@pytest.mark.usefixtures("no_polls")
def test_the_first_call_of_the_queue_is_woken_even_if_its_reply_came_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows: how often the second call asks again before the first one has its reply."""

    def check(repeats: int) -> None:
        calls = CallFixture()
        hold, waits = hold_of(calls), Waits(calls)
        reserve, questions, reply = calls.ledger.reserve, list[object](), Event()

        def reply_to_the_first_one_late(*args: Any) -> Hold:  # noqa: ANN401 - passed on
            questions.append(args)
            is_first = len(questions) == 1
            try:
                return reserve(*args)
            finally:
                if is_first:
                    reply.wait(PATIENCE_SECONDS)

        monkeypatch.setattr(calls.ledger, "reserve", reply_to_the_first_one_late)
        waits.start("first", waits=False)
        gevent.idle()
        waits.start("second")
        for _ in range(repeats):
            calls.service.hold_waits.wake("run", None)
            gevent.idle()
        assert len(questions) == 2 + repeats
        reply.set()
        gevent.idle()
        assert calls.service.hold_waits.waiting == 2
        calls.ledger.release(hold)
        calls.service.hold_waits.wake("run", None)
        assert waits.end() == ["first", "second"]
        assert "first" not in waits.errors

    check_rows([0, 1], check)


# --- the ends of a wait


@pytest.mark.usefixtures("no_polls")
def test_the_wait_ends_with_run_busy_without_a_poll() -> None:
    calls = CallFixture(HOLD_WAIT_SECONDS="0.1")
    waits, hold = waiting_call(calls)
    waits.end()
    assert waits.errors == {"waits": RunBusyError}
    assert costs_nothing(calls, hold)


def costs_nothing(calls: CallFixture, hold: Hold) -> bool:
    """Whether the run has only this hold, and nothing was sent."""
    usage = calls.usage()
    amounts = (usage.spent_nanousd, usage.held_nanousd, usage.in_flight, usage.calls)
    return amounts == (0, hold.amount_nanousd, 1, 0) and calls.upstream.bodies == []


def test_a_client_that_leaves_costs_nothing(calls: CallFixture) -> None:
    hold = hold_of(calls)
    call = calls.call(budget=FULL_HOLD)
    call.client = GoneClient()
    with pytest.raises(ClientGoneError):
        calls.infer(call)
    assert nothing_waits(calls)
    assert costs_nothing(calls, hold)


@pytest.mark.usefixtures("no_polls")
def test_a_drain_ends_the_wait_at_once(calls: CallFixture) -> None:
    waits, hold = waiting_call(calls)
    calls.admission.close()
    waits.end()
    assert waits.errors == {"waits": DrainingError}
    assert costs_nothing(calls, hold)


@pytest.mark.usefixtures("no_polls")
def test_a_call_that_gives_up_wakes_the_next_without_a_poll(calls: CallFixture) -> None:
    hold = hold_of(calls)
    waits = Waits(calls)
    first = gevent.spawn(waits.infer)
    gevent.sleep(0.01)
    waits.start("second")
    calls.ledger.release(hold)  # without a wake, as by another process
    first.kill()
    assert waits.end() == ["second"]
    assert waits.errors == {}


def test_a_queue_that_cannot_be_left_does_not_hide_the_end_of_the_wait(
    calls: CallFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise LedgerUnavailableError

    monkeypatch.setattr(calls.ledger, "leave", fail)
    hold_of(calls)
    with pytest.raises(ClientGoneError):
        calls.infer(Call(Run("run", FULL_HOLD), GoneClient()))
    assert calls.service.hold_waits.waiting == 0


def test_a_drain_does_not_interrupt_a_call_that_has_its_hold(calls: CallFixture) -> None:
    waits, hold = waiting_call(calls)
    end = Event()

    def script(attempt: Attempt, put: Callable[[bytes], None]) -> None:
        end.wait(PATIENCE_SECONDS)
        answer(usage=USAGE, complete=True)(attempt, put)

    calls.upstream.script = script
    calls.ledger.release(hold)
    while not calls.upstream.bodies:
        gevent.sleep(0.001)
    calls.admission.close()
    gevent.sleep(0.01)
    end.set()
    waits.end()
    assert waits.errors == {}


def test_closing_the_run_ends_the_wait(calls: CallFixture) -> None:
    waits, hold = waiting_call(calls)
    calls.ledger.close(Run("run", FULL_HOLD))
    calls.admission.end_run("run")
    waits.end()
    assert waits.errors == {"waits": RunClosedError}
    assert costs_nothing(calls, hold)


@pytest.mark.usefixtures("no_polls")
def test_a_call_that_can_never_fit_any_more_is_refused_while_others_wait_before_it() -> None:
    for kept_nanousd in (0, 5_000):
        refuse_what_never_fits(CallFixture(), kept_nanousd)


def refuse_what_never_fits(calls: CallFixture, kept_nanousd: int) -> None:
    """Let a call wait that has to leave a part of the budget, until the rest cannot pay for it."""
    ended, other = (
        calls.ledger.reserve(Run("run", FULL_HOLD), Kind.INFERENCE, amount, amount, LONG_SECONDS)
        for amount in (FULL_HOLD - MINIMUM_HOLD + 1, MINIMUM_HOLD - 1)
    )
    large = calls.call(budget=FULL_HOLD + kept_nanousd)
    large.run = replace(large.run, reserved_nanousd=kept_nanousd)
    waits = Waits(calls)
    waits.start("small", lambda: calls.infer(calls.call(budget=FULL_HOLD + PROMPT_NANOUSD)))
    waits.start("large", lambda: calls.infer(large))
    calls.service.hold_waits.wake("run", calls.ledger.settle(ended, ended.amount_nanousd))
    with gevent.Timeout(PATIENCE_SECONDS):
        while not waits.ended:
            gevent.sleep(0.001)
    calls.ledger.release(other)
    calls.service.hold_waits.wake("run", None)
    assert waits.end() == ["large", "small"]
    assert waits.errors == {"large": BudgetExhaustedError}


def test_a_call_leaves_the_queue_only_if_the_ledger_has_not_taken_it_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows: how the wait ends, what of the hold before it is spent, and how often the queue is left."""

    def check(row: tuple[type[Exception] | None, int | None, int]) -> None:
        error, spent, left = row
        calls = CallFixture(HOLD_WAIT_SECONDS="0.1" if spent is None else "60")
        leave, tickets = calls.ledger.leave, list[Ticket]()

        def record(ticket: Ticket) -> None:
            tickets.append(ticket)
            leave(ticket)

        monkeypatch.setattr(calls.ledger, "leave", record)
        waits, hold = waiting_call(calls)
        if spent is not None:
            calls.ledger.settle(hold, spent)
        waits.end()
        assert waits.errors == ({} if error is None else {"waits": error})
        assert len(tickets) == left

    check_rows([(None, 0, 0), (BudgetExhaustedError, FULL_HOLD, 0), (RunBusyError, None, 1)], check)


def test_a_ledger_that_fails_ends_the_wait(calls: CallFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, _ = waiting_call(calls)

    def fail(*_: object) -> None:
        raise LedgerUnavailableError

    reserve = calls.ledger._clock
    monkeypatch.setattr(calls.ledger, "_clock", fail)
    gevent.sleep(0.1)
    monkeypatch.setattr(calls.ledger, "_clock", reserve)
    waits.end()
    assert waits.errors == {"waits": LedgerUnavailableError}


# --- limits


def test_the_calls_of_one_run_that_wait_leave_places_for_other_runs() -> None:
    """Rows: MAX_CONCURRENT_CALLS, and how many calls of a run may wait."""

    def check(row: tuple[int, int]) -> None:
        limit, may_wait = row
        calls = CallFixture(MAX_CONCURRENT_CALLS=str(limit))
        hold = hold_of(calls)
        waits = Waits(calls)
        for number in range(may_wait):
            waits.start(str(number))
        with gevent.Timeout(PATIENCE_SECONDS), pytest.raises(RunBusyError):
            waits.infer()
        assert calls.service.hold_waits.waiting == may_wait
        calls.admission.close()
        waits.end()
        assert costs_nothing(calls, hold)

    check_rows([(8, 2), (7, 1), (3, 1)], check)


def test_the_wait_is_measured(calls: CallFixture) -> None:
    hold, call = hold_of(calls), calls.call(budget=FULL_HOLD)
    waits = Waits(calls)
    waits.start("waits", lambda: calls.infer(call))
    gevent.sleep(0.02)
    calls.ledger.release(hold)
    waits.end()
    text = calls.service.metrics.text().decode()
    assert "ridges_hold_wait_seconds_count 1.0" in text
    assert f"ridges_hold_wait_seconds_sum {call.hold_wait_seconds}" in text
    assert PATIENCE_SECONDS > call.hold_wait_seconds > 0.02
    at_once = calls.call()
    calls.infer(at_once)
    assert "ridges_hold_wait_seconds_count 1.0" in calls.service.metrics.text().decode(), "it did not wait"
    assert at_once.hold_wait_seconds == 0


def test_a_wait_that_ends_without_a_hold_is_measured_too() -> None:
    calls = CallFixture(HOLD_WAIT_SECONDS="0.1")
    hold_of(calls)
    call = calls.call(budget=FULL_HOLD)
    with pytest.raises(RunBusyError):
        calls.infer(call)
    assert call.hold_wait_seconds >= 0.1


def test_the_wait_is_no_part_of_the_deadline() -> None:
    """The call waits for longer than its deadline, and then needs most of it."""
    calls = CallFixture(DEADLINE_SECONDS="1")

    def script(attempt: Attempt, put: Callable[[bytes], None]) -> None:
        gevent.sleep(0.5)
        answer(usage=USAGE, complete=True)(attempt, put)

    calls.upstream.script = script
    waits, hold = waiting_call(calls)
    gevent.sleep(1.1)
    calls.ledger.release(hold)
    waits.end()
    assert waits.errors == {}


# --- streams


def test_a_stream_gets_heartbeats_while_it_waits() -> None:
    calls = CallFixture(HEARTBEAT_SECONDS="0.05")
    hold = hold_of(calls)
    stream = calls.relay(calls.call(budget=FULL_HOLD))
    assert [next(stream), next(stream)] == [HEARTBEAT, HEARTBEAT]
    calls.ledger.release(hold)
    assert list(stream)[-1].endswith(b"data: 2\n\n")
    assert nothing_waits(calls)


@pytest.mark.usefixtures("no_polls")
def test_a_heartbeat_does_not_wait_for_the_next_poll() -> None:
    calls = CallFixture(HEARTBEAT_SECONDS="0.05")
    hold_of(calls)
    stream = calls.relay(calls.call(budget=FULL_HOLD))
    with gevent.Timeout(PATIENCE_SECONDS):
        assert [next(stream), next(stream)] == [HEARTBEAT, HEARTBEAT]
    stream.close()


def test_heartbeats_have_their_interval_whatever_the_polls_are(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(hold_wait, "time", SimpleNamespace(monotonic=clock))
    calls = CallFixture(HEARTBEAT_SECONDS="10", HOLD_WAIT_SECONDS="30")
    hold_of(calls)
    reserve, asked = calls.ledger.reserve, list[float]()

    def ask_for_five_seconds(*args: Any) -> Hold:  # noqa: ANN401 - passed on
        clock.advance(5)
        asked.append(clock())
        return reserve(*args)

    monkeypatch.setattr(calls.ledger, "reserve", ask_for_five_seconds)
    begun = clock()
    stream, beats = calls.relay(calls.call(budget=FULL_HOLD)), list[float]()
    with pytest.raises(RunBusyError):
        beats.extend(asked[-1] - begun for _ in stream)
    assert beats == [15, 25], "the wait began after 5 s"
    assert asked[-1] - begun == 30, "the wait ends at its limit"


def test_a_stream_that_is_closed_or_refused_while_it_waits_leaves_nothing() -> None:
    def check(ending: str) -> None:
        calls = CallFixture(HEARTBEAT_SECONDS="0.05", HOLD_WAIT_SECONDS="0.2")
        hold = hold_of(calls)
        stream = calls.relay(calls.call(budget=FULL_HOLD))
        assert next(stream) == HEARTBEAT
        if ending == "closed":
            stream.close()
        else:
            with pytest.raises(RunBusyError):
                list(stream)
        assert nothing_waits(calls)
        assert calls.admission.in_flight == 0
        assert costs_nothing(calls, hold)

    check_rows(["closed", "refused"], check)
