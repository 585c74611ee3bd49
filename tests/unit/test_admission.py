"""The limit of calls in flight, and how all calls, or those of one run, are ended."""

from __future__ import annotations

from contextlib import ExitStack

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.calls.admission import Admission
from ridges_proxy.errors import DrainedError, DrainingError, OverloadedError, RunClosedError
from tests.support.waiting_call import LONG_SECONDS, PATIENCE_SECONDS, FakeClient, WaitingCall

# --- the limit


def test_calls_up_to_the_limit_are_admitted_and_no_more() -> None:
    admission = Admission(max_calls=3)
    with ExitStack() as stack:
        for index in range(3):
            stack.enter_context(admission.enter(f"run-{index}"))
        with pytest.raises(OverloadedError), admission.enter("run-3"):
            pass
        assert admission.in_flight == 3
    assert admission.in_flight == 0


def test_a_call_that_ends_admits_the_next() -> None:
    admission = Admission(max_calls=1)
    for _ in range(3):
        with admission.enter("run"):
            assert admission.in_flight == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, gevent.GreenletExit])
def test_counts_return_to_zero_when_a_call_raises(error: type[BaseException]) -> None:
    admission = Admission(max_calls=1)
    with pytest.raises(error), admission.enter("run"):
        raise error
    assert admission.in_flight == 0
    assert dict(admission._calls_by_run) == {}


def test_a_run_without_calls_is_not_remembered() -> None:
    admission = Admission(max_calls=2)
    with admission.enter("a"):
        with admission.enter("b"), pytest.raises(OverloadedError), admission.enter("c"):
            pass
        assert {run: len(calls) for run, calls in admission._calls_by_run.items()} == {"a": 1}
    assert admission._calls_by_run == {}


def test_a_draining_process_says_so_and_admits_calls_until_it_is_closed() -> None:
    admission = Admission(max_calls=9)
    admission.drain()
    assert admission.draining
    with admission.enter("run"):
        admission.close()
    assert admission.draining
    with pytest.raises(DrainingError):
        admission.check()


def test_a_closed_process_admits_no_call_and_does_not_interrupt_those_in_flight() -> None:
    admission = Admission(max_calls=9)
    assert admission.draining is False, "it is in the JSON of /ready"
    with admission.enter("run") as in_flight:
        call = WaitingCall(in_flight)
        admission.close()
        assert admission.draining
        with pytest.raises(DrainingError), admission.enter("run"):
            pass
        assert admission.in_flight == 1
        call.answer.set()
        assert call.end() is None


# --- the drain


def test_cutting_all_interrupts_each_wait() -> None:
    admission = Admission(max_calls=9)
    with ExitStack() as stack:
        in_flight = [stack.enter_context(admission.enter(f"run-{index % 2}")) for index in range(5)]
        calls = [WaitingCall(call) for call in in_flight]
        admission.cut_all()
        assert {type(call.end()) for call in calls} == {DrainedError}


def test_cutting_all_stops_calls_before_their_wait_and_does_not_interrupt_settlements() -> None:
    admission = Admission(max_calls=9)
    with admission.enter("run") as settling, admission.enter("run") as early:
        call = WaitingCall(settling)
        call.answer.set()
        assert call.settles.wait(PATIENCE_SECONDS)
        admission.cut_all()
        assert call.end() is None
        with pytest.raises(DrainedError), early.waiting(LONG_SECONDS, FakeClient()):
            pytest.fail("the wait began")


# --- ending calls


def test_ending_a_run_ends_its_calls_and_no_others() -> None:
    admission = Admission(max_calls=9)
    with ExitStack() as stack:
        others = WaitingCall(stack.enter_context(admission.enter("other")))

        def make_call() -> BaseException | None:
            with admission.enter("run") as in_flight:
                call = WaitingCall(in_flight)
                return call.end()

        greenlets = [gevent.spawn(make_call) for _ in range(3)]
        gevent.idle()
        assert admission.in_flight == 4
        admission.end_run("run")
        assert admission.in_flight == 1, "it returns when they have ended"
        assert [type(each.get()) for each in greenlets] == [RunClosedError] * 3
        others.answer.set()
        assert others.end() is None


def test_ending_a_run_without_calls_returns_at_once() -> None:
    Admission(max_calls=1).end_run("run")


def test_a_call_that_writes_to_a_client_that_does_not_read_loses_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ridges_proxy.calls.in_flight.END_SECONDS", 0.05)
    admission = Admission(max_calls=9)
    client, written = FakeClient(), Event()

    def write() -> None:
        with admission.enter("run") as in_flight:
            with in_flight.waiting(LONG_SECONDS, client):
                pass
            written.wait()

    writer = gevent.spawn(write)
    gevent.idle()
    admission.end_run("run")
    assert client.hung_up
    assert admission.in_flight == 1, "it does not wait any longer"
    written.set()
    writer.join(PATIENCE_SECONDS)
    assert admission.in_flight == 0


def test_ending_a_run_waits_for_the_calls_whose_connections_it_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ridges_proxy.calls.in_flight.END_SECONDS", 0.01)
    admission = Admission(max_calls=9)
    written = Event()

    class WritingClient(FakeClient):
        def hang_up(self) -> None:
            gevent.spawn(written.set)

    def write() -> None:
        with admission.enter("run") as in_flight:
            with in_flight.waiting(LONG_SECONDS, WritingClient()):
                pass
            written.wait()

    writer = gevent.spawn(write)
    gevent.idle()
    admission.end_run("run")
    assert admission.in_flight == 0
    writer.join(PATIENCE_SECONDS)


def test_a_call_that_ends_in_time_keeps_its_connection() -> None:
    admission = Admission(max_calls=9)
    client = FakeClient()

    def wait() -> None:
        with admission.enter("run") as in_flight, in_flight.waiting(LONG_SECONDS, client):
            Event().wait()

    waiter = gevent.spawn(wait)
    gevent.idle()
    admission.end_all()
    assert (admission.in_flight, client.hung_up) == (0, False)
    with pytest.raises(DrainedError):
        waiter.get()
