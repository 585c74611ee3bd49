"""The relay of a stream: the pieces arrive at once and in order, and no greenlet remains."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from gevent.event import Event
from gevent.queue import Queue
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.calls.stream_relay import HEARTBEAT, MAX_WAITING_BYTES, relayed
from ridges_proxy.errors import ClientStalledError, InterruptedCallError, UpstreamBrokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    Put = Callable[[bytes], None]

LONG = 30.0
"""Seconds without a heartbeat, for tests of other things."""


@pytest.fixture(autouse=True)
def no_leftovers(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check after each test that gevent printed nothing and that no reader is left."""
    readers: list[gevent.Greenlet[..., object]] = []
    spawn = gevent.spawn

    def record(*args: Any) -> Any:  # noqa: ANN401 - as gevent.spawn
        readers.append(spawn(*args))
        return readers[-1]

    monkeypatch.setattr("ridges_proxy.calls.stream_relay.gevent.spawn", record)
    yield
    gevent.idle()
    assert [reader for reader in readers if not reader.dead] == []
    assert capfd.readouterr().err == ""


class Source:
    """A `read` that puts each step when the test hands it over. Sets `ended` at its end."""

    def __init__(self) -> None:
        self.steps: Queue[bytes | Exception | None] = Queue()
        self.put_count = 0
        self.started = False
        self.ended = Event()

    def __call__(self, put: Put) -> None:
        self.started = True
        try:
            while (step := self.steps.get()) is not None:
                if isinstance(step, Exception):
                    raise step
                put(step)
                self.put_count += 1
        finally:
            self.ended.set()

    def hand(self, step: bytes | Exception | None) -> None:
        """Hand over a step, and let the source put it."""
        self.steps.put(step)
        gevent.idle()


@pytest.fixture
def source() -> Source:
    return Source()


def started(source: Source) -> Generator[bytes]:
    """A relay whose first piece has been taken."""
    pieces = relayed(source, LONG)
    source.steps.put(b"first ")
    assert next(pieces) == b"first "
    return pieces


# --- order


def test_a_piece_can_be_taken_before_the_next_is_put(source: Source) -> None:
    pieces = started(source)
    for number in range(5):
        source.hand(b"%d" % number)
        assert (next(pieces), source.put_count) == (b"%d" % number, number + 2)
    source.hand(None)
    assert list(pieces) == []


def test_events_that_arrive_together_are_one_piece(source: Source) -> None:
    pieces = started(source)
    for number in range(5):
        source.hand(b"%d" % number)
    source.hand(None)
    assert list(pieces) == [b"01234"]


def test_an_empty_piece_is_a_piece(source: Source) -> None:
    pieces = relayed(source, LONG)
    source.steps.put(b"")
    assert next(pieces) == b""
    pieces.close()


def test_a_read_that_puts_nothing_yields_nothing() -> None:
    assert list(relayed(lambda _: None, LONG)) == []


@given(
    events=st.lists(st.tuples(st.binary(max_size=3), st.booleans()), max_size=200),
    pauses=st.lists(st.booleans(), max_size=50),
    fails=st.booleans(),
)
def test_the_bytes_are_the_same_in_any_order_of_turns(
    events: list[tuple[bytes, bool]], pauses: list[bool], *, fails: bool
) -> None:
    def read(put: Put) -> None:
        for event, waits in events:
            put(event)
            if waits:
                gevent.sleep(0)
        if fails:
            raise UpstreamBrokenError

    taken: list[bytes] = []
    turns = iter(pauses)
    with pytest.raises(UpstreamBrokenError) if fails else nullcontext():
        for piece in relayed(read, LONG):
            taken.append(piece)
            if next(turns, False):
                gevent.sleep(0)
    assert b"".join(taken) == b"".join(event for event, _ in events)


# --- silence


def test_heartbeats_fill_the_silence_until_the_next_piece(source: Source) -> None:
    pieces = relayed(source, 0.01)
    assert [next(pieces) for _ in range(3)] == [HEARTBEAT] * 3
    source.hand(b"at last")
    assert next(pieces) == b"at last"
    assert next(pieces) == HEARTBEAT
    source.hand(None)
    assert list(pieces) == []


def test_a_heartbeat_is_a_comment_and_not_an_event() -> None:
    assert HEARTBEAT.startswith(b":")
    assert HEARTBEAT.endswith(b"\n\n")
    assert HEARTBEAT.count(b"\n") == 2


# --- failures


def test_a_failure_is_raised_after_the_pieces_before_it(source: Source) -> None:
    pieces = started(source)
    source.hand(b"one")
    source.hand(b"two")
    source.hand(UpstreamBrokenError())
    assert next(pieces) == b"onetwo"
    with pytest.raises(UpstreamBrokenError):
        next(pieces)
    assert list(pieces) == []


def test_a_failure_before_any_piece_is_raised_instead_of_one(source: Source) -> None:
    pieces = relayed(source, LONG)
    source.steps.put(UpstreamBrokenError())
    with pytest.raises(UpstreamBrokenError):
        next(pieces)


def test_the_raised_error_is_the_one_that_the_read_raised(source: Source) -> None:
    error = ZeroDivisionError("a bug")
    pieces = started(source)
    source.hand(error)
    with pytest.raises(ZeroDivisionError) as raised:
        next(pieces)
    assert raised.value is error


def test_a_read_that_is_killed_is_a_failure_and_not_an_end() -> None:
    def read(put: Put) -> None:
        put(b"half")
        raise gevent.GreenletExit

    pieces = relayed(read, LONG)
    assert next(pieces) == b"half"
    with pytest.raises(InterruptedCallError):
        next(pieces)


# --- the taker closes the relay


def test_a_relay_that_is_closed_before_it_starts_reads_nothing(source: Source) -> None:
    relayed(source, LONG).close()
    gevent.idle()
    assert not source.started


def test_a_relay_that_is_interrupted_before_its_reader_starts_leaves_no_reader(source: Source) -> None:
    pieces = relayed(source, LONG)
    throw = gevent.getcurrent().throw
    gevent.get_hub().loop.run_callback(throw, ZeroDivisionError())  # before the reader's first turn
    with pytest.raises(ZeroDivisionError):
        next(pieces)
    gevent.idle()
    assert not source.started


def test_a_reader_that_waits_for_the_upstream_has_ended_when_close_returns(source: Source) -> None:
    pieces = started(source)
    pieces.close()
    assert source.ended.is_set()
    assert list(pieces) == []


def test_close_waits_for_a_reader_that_ends_slowly() -> None:
    steps: list[str] = []

    def read(put: Put) -> None:
        try:
            put(b"x")
            Event().wait()
        finally:
            gevent.sleep(0.01)
            steps.append("the upstream is closed")

    pieces = relayed(read, LONG)
    next(pieces)
    pieces.close()
    assert steps == ["the upstream is closed"]


def test_close_after_the_end_of_the_reader_does_nothing(source: Source) -> None:
    pieces = started(source)
    source.hand(b"unread")
    source.hand(None)
    assert source.ended.is_set()
    pieces.close()
    assert list(pieces) == []


def test_close_after_a_failure_that_was_not_taken_raises_nothing(source: Source) -> None:
    pieces = started(source)
    source.hand(ZeroDivisionError())
    pieces.close()


def test_a_taker_that_is_interrupted_ends_the_reader(source: Source) -> None:
    pieces = started(source)
    throw = gevent.getcurrent().throw
    gevent.get_hub().loop.run_callback(throw, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        next(pieces)
    assert source.ended.is_set()


# --- a slow taker


def test_a_reader_never_waits_for_the_taker_and_fails_if_it_is_too_far_behind() -> None:
    put_bytes = 0

    def flood(put: Put) -> None:
        nonlocal put_bytes
        while True:
            put_bytes += 1024
            put(b"x" * 1024)

    pieces = relayed(flood, LONG)
    assert next(pieces) == b"x" * put_bytes, "no bytes are lost"
    assert put_bytes == MAX_WAITING_BYTES + 1024
    with pytest.raises(ClientStalledError):
        next(pieces)


def test_a_taker_that_keeps_up_may_take_any_amount(source: Source) -> None:
    pieces = started(source)
    for _ in range(5):
        source.hand(b"x" * MAX_WAITING_BYTES)
        assert next(pieces) == b"x" * MAX_WAITING_BYTES
    pieces.close()


def test_a_slow_taker_does_not_delay_another(source: Source) -> None:
    def flood(put: Put) -> None:
        while True:
            put(b"x")
            gevent.sleep(0)

    slow = relayed(flood, LONG)
    next(slow)
    pieces = started(source)
    source.hand(b"at once")
    assert next(pieces) == b"at once"
    slow.close()
    pieces.close()
