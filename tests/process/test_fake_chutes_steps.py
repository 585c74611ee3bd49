"""Steps: permits with which a test lets the fake Chutes send one event at a time."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

import pytest

from ridges_proxy.fake_chutes.books import Books
from ridges_proxy.fake_chutes.connection import ClientGoneError, Connection
from ridges_proxy.fake_chutes.gates import Steps
from tests.process.fake_chutes_client import ask, look, receive, sending, understand
from tests.process.fake_chutes_control import directive

if TYPE_CHECKING:
    import socket

    from gevent.event import Event

    from tests.process.fake_chutes_control import Upstream

WHOLE_STREAM = (5, True, True, True, "clean")


def read_until(sock: socket.socket, text: bytes) -> bytes:
    received = b""
    while text not in received:
        data = sock.recv(65536)
        assert data, "the stream ended early"
        received += data
    return received


def test_each_permit_releases_one_content_event(chutes: Upstream) -> None:
    with sending(chutes, ask(content=directive(step="a"))) as sock:
        received = b""
        for number in range(1, 6):
            assert chutes.wait(at_gate=1)["at_gate"] == 1
            assert chutes.calls()[0]["completion_tokens"] == number - 1
            chutes.step("a")
            received += read_until(sock, b'"word%d "' % number)
            assert b'"word%d "' % (number + 1) not in received
        rest, end = receive(sock)
    assert understand(received + rest, end).shape() == WHOLE_STREAM


def test_a_call_that_got_a_permit_is_not_counted_as_waiting(chutes: Upstream) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(sending(chutes, ask(content=directive(step="a", events=1))))
        chutes.wait(at_gate=2)
        chutes.step("a")
        with pytest.raises(TimeoutError):
            chutes.wait(at_gate=2, timeout_seconds=0)
        assert chutes.wait(finished=1)["at_gate"] == 1


def test_early_permits_are_kept_and_counted(chutes: Upstream) -> None:
    for _ in range(3):
        chutes.step("b")
    with sending(chutes, ask(content=directive(step="b"))):
        chutes.wait(at_gate=1)
        assert chutes.calls()[0]["completion_tokens"] == 3


def test_a_json_answer_needs_permits_too(chutes: Upstream) -> None:
    with sending(chutes, ask(stream=False, content=directive(step="c", events=1))) as sock:
        chutes.wait(at_gate=1)
        chutes.step("c")
        received, end = receive(sock)
    assert understand(received, end).status == 200


def test_a_step_with_another_name_releases_no_event(chutes: Upstream) -> None:
    with sending(chutes, ask(content=directive(step="d"))):
        chutes.wait(at_gate=1)
        chutes.step("other")
        assert chutes.wait(at_gate=1)["finished"] == 0


def test_a_reset_lets_a_call_finish_and_removes_the_permits(chutes: Upstream) -> None:
    with sending(chutes, ask(content=directive(step="e"))) as sock:
        chutes.wait(at_gate=1)
        chutes.reset()
        assert understand(*receive(sock)).shape() == WHOLE_STREAM
    chutes.step("e")
    chutes.reset()
    with sending(chutes, ask(content=directive(step="e"))):
        assert chutes.wait(at_gate=1)["in_flight"] == 1
        assert chutes.calls()[0]["completion_tokens"] == 0


def test_a_closed_connection_uses_no_permit(chutes: Upstream) -> None:
    with sending(chutes, ask(content=directive(step="f"))):
        chutes.wait(at_gate=1)
    assert chutes.wait(client_gone=1, idle=1)["at_gate"] == 0
    chutes.step("f")
    with sending(chutes, ask(content=directive(step="f", events=1))) as sock:
        assert understand(*receive(sock)).end == "clean"


class ClosingClient(Connection):
    """A client that closes its connection at the moment at which it gets its permit."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.waits = 0

    def wait_for(self, event: Event, seconds: float) -> NoReturn:
        self.waits += 1
        self._steps.give()
        assert (event.is_set(), seconds) == (True, 60)
        raise ClientGoneError


def test_the_permit_of_a_closed_connection_goes_to_the_next_call() -> None:
    books = Books()
    steps = Steps(books)
    client = ClosingClient(steps)
    with pytest.raises(ClientGoneError):
        steps.take(client)
    steps.take(client)
    assert (client.waits, books.counters()["at_gate"]) == (1, 0)


def test_a_step_needs_a_name(chutes: Upstream) -> None:
    assert look(chutes, {}, "/fake-chutes/step").status == 404
    with pytest.raises(ValueError, match="no such control"):
        chutes.step("")
