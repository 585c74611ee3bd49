"""How a call in flight is interrupted: only while it waits for the upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.calls.in_flight import InFlightCall
from ridges_proxy.errors import ClientGoneError, DeadlineExceededError, DrainedError
from tests.support.waiting_call import (
    LONG_SECONDS,
    PATIENCE_SECONDS,
    SHORT_SECONDS,
    FakeClient,
    WaitingCall,
    run_scheduled,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_wait_without_an_interruption_ends_with_the_answer() -> None:
    call = WaitingCall(InFlightCall())
    call.answer.set()
    assert call.end() is None


def test_an_interruption_before_the_wait_prevents_it(capsys: pytest.CaptureFixture[str]) -> None:
    in_flight, client, error = InFlightCall(), FakeClient(), ClientGoneError()
    in_flight.interrupt(error)
    with pytest.raises(ClientGoneError) as raised, in_flight.waiting(LONG_SECONDS, client):
        pytest.fail("the wait began")
    assert raised.value is error
    assert client.opened == 0
    run_scheduled()
    assert capsys.readouterr().err == "", "the hub reports no error"


def test_an_interruption_during_the_wait_is_raised_inside_it() -> None:
    in_flight = InFlightCall()
    call, error = WaitingCall(in_flight), ClientGoneError()
    in_flight.interrupt(error)
    assert call.end() is error


def test_hanging_up_closes_the_connection_of_a_call_that_has_waited() -> None:
    in_flight, client = InFlightCall(), FakeClient()
    in_flight.hang_up()
    with in_flight.waiting(LONG_SECONDS, client):
        assert not client.hung_up
    in_flight.hang_up()
    assert client.hung_up


def test_an_interruption_after_the_wait_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    in_flight = InFlightCall()
    call = WaitingCall(in_flight)
    call.answer.set()
    assert call.settles.wait(PATIENCE_SECONDS)
    in_flight.interrupt(ClientGoneError())
    assert call.end() is None
    assert capsys.readouterr().err == "", "the hub reports no error"


def test_an_interruption_that_comes_too_late_for_the_wait_does_nothing() -> None:
    in_flight, client = InFlightCall(), FakeClient()
    with in_flight.waiting(LONG_SECONDS, client):
        in_flight.interrupt(ClientGoneError())
    run_scheduled()
    assert client.closed == 1


@pytest.mark.parametrize("answer_first", [True, False], ids=["answer first", "interruption first"])
def test_an_answer_and_an_interruption_at_the_same_time_do_not_interrupt_the_settlement(
    *, answer_first: bool
) -> None:
    in_flight = InFlightCall()
    call, error = WaitingCall(in_flight), ClientGoneError()
    steps: list[Callable[[], object]] = [call.answer.set, lambda: in_flight.interrupt(error)]
    for step in steps if answer_first else reversed(steps):
        step()
    assert call.end() is (None if answer_first else error)


def test_the_first_of_two_interruptions_is_raised() -> None:
    in_flight = InFlightCall()
    call, first = WaitingCall(in_flight), DrainedError()
    in_flight.interrupt(first)
    in_flight.interrupt(ClientGoneError())
    assert call.end() is first


def test_the_first_of_two_interruptions_before_the_wait_prevents_it() -> None:
    in_flight = InFlightCall()
    in_flight.interrupt(DrainedError())
    in_flight.interrupt(ClientGoneError())
    with pytest.raises(DrainedError), in_flight.waiting(LONG_SECONDS, FakeClient()):
        pytest.fail("the wait began")


def test_a_second_interruption_does_not_disturb_the_cleanup_after_the_first() -> None:
    in_flight, ended = InFlightCall(), Event()

    def end_the_wait() -> None:
        in_flight.interrupt(ClientGoneError())
        run_scheduled()
        ended.set()

    def wait_and_end() -> None:
        in_flight.interrupt(DrainedError())
        try:
            Event().wait(PATIENCE_SECONDS)
        finally:
            gevent.spawn(end_the_wait)
            assert ended.wait(PATIENCE_SECONDS)

    with pytest.raises(DrainedError), in_flight.waiting(LONG_SECONDS, FakeClient()):
        wait_and_end()


def test_a_second_interruption_does_not_reach_a_call_that_settles_after_the_first() -> None:
    in_flight = InFlightCall()
    call, first = WaitingCall(in_flight), ClientGoneError()
    in_flight.interrupt(first)
    assert call.settles.wait(PATIENCE_SECONDS)
    in_flight.interrupt(DrainedError())
    assert call.end() is first


def test_a_client_that_has_hung_up_interrupts_the_wait_at_once() -> None:
    client = FakeClient(has_hung_up=True)
    with pytest.raises(ClientGoneError), InFlightCall().waiting(LONG_SECONDS, client):
        Event().wait(PATIENCE_SECONDS)
    assert client.closed == 1


def test_the_deadline_is_raised_inside_the_wait() -> None:
    call = WaitingCall(InFlightCall(), SHORT_SECONDS)
    assert isinstance(call.end(), DeadlineExceededError)


def test_the_deadline_of_a_wait_that_has_ended_is_never_raised() -> None:
    with InFlightCall().waiting(SHORT_SECONDS, FakeClient()):
        pass
    gevent.sleep(2 * SHORT_SECONDS)


def test_an_interruption_before_the_deadline_cancels_it() -> None:
    in_flight = InFlightCall()
    call, error = WaitingCall(in_flight, SHORT_SECONDS), ClientGoneError()
    in_flight.interrupt(error)
    assert call.settles.wait(PATIENCE_SECONDS)
    gevent.sleep(2 * SHORT_SECONDS)
    assert call.end() is error


def test_a_client_that_cannot_be_watched_leaves_no_wait_and_no_deadline_behind() -> None:
    in_flight = InFlightCall()
    client = FakeClient(cannot_be_watched=True)
    with pytest.raises(ZeroDivisionError), in_flight.waiting(SHORT_SECONDS, client):
        pytest.fail("the wait began")
    in_flight.interrupt(ClientGoneError())
    gevent.sleep(2 * SHORT_SECONDS)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, gevent.GreenletExit])
def test_the_watch_of_the_client_ends_after_any_error(error: type[BaseException]) -> None:
    client = FakeClient()
    with pytest.raises(error), InFlightCall().waiting(LONG_SECONDS, client):
        raise error
    assert client.opened == client.closed == 1
