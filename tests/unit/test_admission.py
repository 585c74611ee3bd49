from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.calls.admission import Admission, InFlightCall
from ridges_proxy.errors import (
    ClientGoneError,
    DeadlineExceededError,
    DrainedError,
    DrainingError,
    OverloadedError,
    RunClosedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG_SECONDS = 60.0
SHORT_SECONDS = 0.01
PATIENCE_SECONDS = 5.0


class FakeClient:
    """Keeps what it was given to interrupt with, and counts its watches."""

    def __init__(self, *, gone_already: bool = False, cannot_be_watched: bool = False) -> None:
        self.opened = 0
        self.closed = 0
        self.hung_up = False
        self._gone_already = gone_already
        self._cannot_be_watched = cannot_be_watched

    @contextmanager
    def watch(self, interrupt: Callable[[Exception], None]) -> Iterator[None]:
        if self._cannot_be_watched:
            raise ZeroDivisionError
        self.opened += 1
        if self._gone_already:
            interrupt(ClientGoneError())
        try:
            yield
        finally:
            self.closed += 1

    def hang_up(self) -> None:
        self.hung_up = True


class Call:
    """A greenlet that waits for the upstream, and afterwards for something else: as settling may."""

    def __init__(self, flight: InFlightCall, seconds: float = LONG_SECONDS) -> None:
        self.client = FakeClient()
        self.answer = Event()
        self.settled = Event()
        self.waits = Event()
        self.settles = Event()
        self.interruption: BaseException | None = None
        self._greenlet = gevent.spawn(self._run, flight, seconds)
        assert self.waits.wait(PATIENCE_SECONDS)

    def _run(self, flight: InFlightCall, seconds: float) -> None:
        try:
            with flight.waiting(seconds, self.client):
                self.waits.set()
                self.answer.wait()
        except Exception as error:  # noqa: BLE001 - whatever it is, the tests look at it
            self.interruption = error
        self.settles.set()
        self.settled.wait()

    def end(self) -> BaseException | None:
        """Settle, and return what interrupted the wait for the upstream."""
        assert self.settles.wait(PATIENCE_SECONDS)
        turn_the_hub()
        self.settled.set()
        self._greenlet.join(PATIENCE_SECONDS)
        assert self._greenlet.successful(), "settling was interrupted"
        assert self.client.opened == self.client.closed == 1
        return self.interruption


def turn_the_hub() -> None:
    """Let all that is scheduled run."""
    for _ in range(3):
        gevent.sleep(0)


# --- how many


def test_as_many_calls_as_the_limit_are_admitted_and_not_one_more() -> None:
    admission = Admission(most_calls=3)
    with ExitStack() as stack:
        for index in range(3):
            stack.enter_context(admission.enter(f"run-{index}"))
        with pytest.raises(OverloadedError), admission.enter("run-3"):
            pass
        assert admission.in_flight == 3
    assert admission.in_flight == 0


def test_a_call_that_ends_makes_room_for_the_next() -> None:
    admission = Admission(most_calls=1)
    for _ in range(3):
        with admission.enter("run"):
            assert admission.in_flight == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, gevent.GreenletExit])
def test_counts_return_to_zero_when_a_call_raises(error: type[BaseException]) -> None:
    admission = Admission(most_calls=1)
    with pytest.raises(error), admission.enter("run"):
        raise error
    assert admission.in_flight == 0
    assert dict(admission._by_run) == {}


def test_no_run_is_remembered_once_its_calls_have_ended() -> None:
    admission = Admission(most_calls=2)
    with admission.enter("a"):
        with admission.enter("b"), pytest.raises(OverloadedError), admission.enter("c"):
            pass
        assert {run: len(flights) for run, flights in admission._by_run.items()} == {"a": 1}
    assert admission._by_run == {}


def test_a_draining_process_admits_no_call_and_leaves_those_in_flight_alone() -> None:
    admission = Admission(most_calls=9)
    with admission.enter("run") as flight:
        call = Call(flight)
        admission.drain()
        assert admission.draining
        with pytest.raises(DrainingError), admission.enter("run"):
            pass
        assert admission.in_flight == 1
        call.answer.set()
        assert call.end() is None


# --- cut short from outside


def test_a_wait_that_nobody_interrupts_ends_by_itself() -> None:
    call = Call(InFlightCall())
    call.answer.set()
    assert call.end() is None


def test_an_interrupt_before_the_wait_prevents_it() -> None:
    flight, client, error = InFlightCall(), FakeClient(), ClientGoneError()
    flight.interrupt(error)
    with pytest.raises(ClientGoneError) as raised, flight.waiting(LONG_SECONDS, client):
        pytest.fail("the wait began")
    assert raised.value is error
    assert client.opened == 0
    turn_the_hub()


def test_an_interrupt_during_the_wait_is_raised_inside_it() -> None:
    flight = InFlightCall()
    call, error = Call(flight), ClientGoneError()
    flight.interrupt(error)
    assert call.end() is error


def test_an_interrupt_after_the_wait_does_nothing() -> None:
    flight = InFlightCall()
    call = Call(flight)
    call.answer.set()
    assert call.settles.wait(PATIENCE_SECONDS)
    flight.interrupt(ClientGoneError())
    assert call.end() is None


def test_an_interrupt_that_was_not_delivered_before_the_wait_ended_does_nothing() -> None:
    flight, client = InFlightCall(), FakeClient()
    with flight.waiting(LONG_SECONDS, client):
        flight.interrupt(ClientGoneError())
    turn_the_hub()
    assert client.closed == 1


@pytest.mark.parametrize("answer_first", [True, False], ids=["answer first", "interrupt first"])
def test_an_answer_and_an_interrupt_at_the_same_moment_leave_settling_undisturbed(
    *, answer_first: bool
) -> None:
    flight = InFlightCall()
    call, error = Call(flight), ClientGoneError()
    steps: list[Callable[[], object]] = [call.answer.set, lambda: flight.interrupt(error)]
    for step in steps if answer_first else reversed(steps):
        step()
    assert call.end() is (None if answer_first else error)


def test_of_two_interrupts_the_first_wins() -> None:
    flight = InFlightCall()
    call, first = Call(flight), DrainedError()
    flight.interrupt(first)
    flight.interrupt(ClientGoneError())
    assert call.end() is first


def test_of_two_interrupts_before_the_wait_the_first_prevents_it() -> None:
    flight = InFlightCall()
    flight.interrupt(DrainedError())
    flight.interrupt(ClientGoneError())
    with pytest.raises(DrainedError), flight.waiting(LONG_SECONDS, FakeClient()):
        pytest.fail("the wait began")


def test_a_second_interrupt_leaves_alone_what_the_upstream_does_to_end_the_first() -> None:
    flight, ended = InFlightCall(), Event()

    def end_the_wait() -> None:
        flight.interrupt(ClientGoneError())
        turn_the_hub()
        ended.set()

    def wait_and_end() -> None:
        flight.interrupt(DrainedError())
        try:
            Event().wait(PATIENCE_SECONDS)
        finally:
            gevent.spawn(end_the_wait)
            assert ended.wait(PATIENCE_SECONDS)

    with pytest.raises(DrainedError), flight.waiting(LONG_SECONDS, FakeClient()):
        wait_and_end()


def test_a_second_interrupt_does_not_reach_a_call_that_settles_after_the_first() -> None:
    flight = InFlightCall()
    call, first = Call(flight), ClientGoneError()
    flight.interrupt(first)
    assert call.settles.wait(PATIENCE_SECONDS)
    flight.interrupt(DrainedError())
    assert call.end() is first


def test_a_client_that_had_gone_already_interrupts_the_first_wait_of_the_call() -> None:
    client = FakeClient(gone_already=True)
    with pytest.raises(ClientGoneError), InFlightCall().waiting(LONG_SECONDS, client):
        Event().wait(PATIENCE_SECONDS)
    assert client.closed == 1


def test_the_deadline_is_raised_inside_the_wait() -> None:
    call = Call(InFlightCall(), SHORT_SECONDS)
    assert isinstance(call.end(), DeadlineExceededError)


def test_the_deadline_of_a_wait_that_has_ended_is_never_raised() -> None:
    with InFlightCall().waiting(SHORT_SECONDS, FakeClient()):
        pass
    gevent.sleep(2 * SHORT_SECONDS)


def test_an_interrupt_that_came_first_leaves_no_deadline_behind() -> None:
    flight = InFlightCall()
    call, error = Call(flight, SHORT_SECONDS), ClientGoneError()
    flight.interrupt(error)
    assert call.settles.wait(PATIENCE_SECONDS)
    gevent.sleep(2 * SHORT_SECONDS)
    assert call.end() is error


def test_a_client_that_cannot_be_watched_leaves_no_wait_and_no_deadline_behind() -> None:
    flight = InFlightCall()
    client = FakeClient(cannot_be_watched=True)
    with pytest.raises(ZeroDivisionError), flight.waiting(SHORT_SECONDS, client):
        pytest.fail("the wait began")
    flight.interrupt(ClientGoneError())
    gevent.sleep(2 * SHORT_SECONDS)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, gevent.GreenletExit])
def test_the_clients_watch_is_closed_whatever_the_wait_raises(error: type[BaseException]) -> None:
    client = FakeClient()
    with pytest.raises(error), InFlightCall().waiting(LONG_SECONDS, client):
        raise error
    assert client.opened == client.closed == 1


# --- the drain's end


def test_cutting_all_ends_every_wait_in_flight() -> None:
    admission = Admission(most_calls=9)
    with ExitStack() as stack:
        flights = [stack.enter_context(admission.enter(f"run-{index % 2}")) for index in range(5)]
        calls = [Call(flight) for flight in flights]
        admission.cut_all()
        assert {type(call.end()) for call in calls} == {DrainedError}


def test_cutting_all_leaves_calls_alone_that_settle_and_stops_those_that_have_yet_to_wait() -> None:
    admission = Admission(most_calls=9)
    with admission.enter("run") as settling, admission.enter("run") as early:
        call = Call(settling)
        call.answer.set()
        assert call.settles.wait(PATIENCE_SECONDS)
        admission.cut_all()
        assert call.end() is None
        with pytest.raises(DrainedError), early.waiting(LONG_SECONDS, FakeClient()):
            pytest.fail("the wait began")


# --- ending calls from outside


def test_to_end_a_run_ends_its_calls_and_no_others() -> None:
    admission = Admission(most_calls=9)
    with ExitStack() as stack:
        others = Call(stack.enter_context(admission.enter("other")))

        def fly() -> BaseException | None:
            with admission.enter("run") as flight:
                call = Call(flight)
                return call.end()

        flying = [gevent.spawn(fly) for _ in range(3)]
        gevent.idle()
        assert admission.in_flight == 4
        admission.end_run("run")
        assert admission.in_flight == 1, "returned when they had ended"
        assert [type(each.get()) for each in flying] == [RunClosedError] * 3
        others.answer.set()
        assert others.end() is None


def test_to_end_a_run_without_calls_returns_at_once() -> None:
    Admission(most_calls=1).end_run("run")


def test_who_writes_on_to_a_client_that_does_not_read_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ridges_proxy.calls.admission.END_SECONDS", 0.05)
    admission = Admission(most_calls=9)
    client, written = FakeClient(), Event()

    def write() -> None:
        with admission.enter("run") as flight:
            with flight.waiting(LONG_SECONDS, client):
                pass
            written.wait()

    writer = gevent.spawn(write)
    gevent.idle()
    admission.end_run("run")
    assert client.hung_up
    assert admission.in_flight == 1, "and no more is waited for than is fit"
    written.set()
    writer.join(PATIENCE_SECONDS)
    assert admission.in_flight == 0


def test_who_ends_in_time_is_not_hung_up_on() -> None:
    admission = Admission(most_calls=9)
    client = FakeClient()

    def wait() -> None:
        with admission.enter("run") as flight, flight.waiting(LONG_SECONDS, client):
            Event().wait()

    waiter = gevent.spawn(wait)
    gevent.idle()
    admission.end_all()
    assert (admission.in_flight, client.hung_up) == (0, False)
    with pytest.raises(DrainedError):
        waiter.get()
