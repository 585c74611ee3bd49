"""A stream's way through: what is put comes out at once and in order, and nothing is left behind."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from gevent.event import Event
from gevent.queue import Queue
from hypothesis import given, settings
from hypothesis import strategies as st

from ridges_proxy.calls.stream_relay import HEARTBEAT, MAX_WAITING_BYTES, relayed
from ridges_proxy.errors import ClientStalledError, InterruptedCallError, UpstreamBrokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    Put = Callable[[bytes], None]

LONG = 30.0
"""No heartbeat in a test that is about something else."""


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever ends, gevent has nothing to print about it, and no reader goes on."""
    readers: list[gevent.Greenlet[..., object]] = []
    spawn = gevent.spawn

    def note(*args: Any) -> Any:  # noqa: ANN401 - gevent's own
        readers.append(spawn(*args))
        return readers[-1]

    monkeypatch.setattr("ridges_proxy.calls.stream_relay.gevent.spawn", note)
    yield
    gevent.idle()
    assert [reader for reader in readers if not reader.dead] == []
    assert capfd.readouterr().err == ""


class Source:
    """A read that puts what it is handed, when it is handed it; `ended` once it is over."""

    def __init__(self) -> None:
        self.steps: Queue[bytes | Exception | None] = Queue()
        self.put_count = 0
        self.begun = False
        self.ended = Event()

    def __call__(self, put: Put) -> None:
        self.begun = True
        try:
            while (step := self.steps.get()) is not None:
                if isinstance(step, Exception):
                    raise step
                put(step)
                self.put_count += 1
        finally:
            self.ended.set()

    def hand(self, step: bytes | Exception | None) -> None:
        """Hand it over, and let it be put."""
        self.steps.put(step)
        gevent.idle()


@pytest.fixture
def source() -> Source:
    return Source()


def begun(source: Source) -> Generator[bytes]:
    """A relay whose first piece has been taken."""
    pieces = relayed(source, LONG)
    source.steps.put(b"first ")
    assert next(pieces) == b"first "
    return pieces


# --- order and time ----------------------------------------------------------------------------------------


def test_a_piece_comes_out_before_the_next_is_put(source: Source) -> None:
    pieces = begun(source)
    for number in range(5):
        source.hand(b"%d" % number)
        assert (next(pieces), source.put_count) == (b"%d" % number, number + 2)
    source.hand(None)
    assert list(pieces) == []


def test_what_was_put_in_one_go_comes_in_one_piece(source: Source) -> None:
    pieces = begun(source)
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


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(
    events=st.lists(st.tuples(st.binary(max_size=3), st.booleans()), max_size=200),
    pauses=st.lists(st.booleans(), max_size=50),
    fails=st.booleans(),
)
def test_however_both_sides_take_turns_the_bytes_are_the_same(
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


# --- silence -----------------------------------------------------------------------------------------------


def test_silence_is_filled_with_heartbeats_until_something_comes(source: Source) -> None:
    pieces = relayed(source, 0.01)
    assert [next(pieces) for _ in range(3)] == [HEARTBEAT] * 3
    source.hand(b"at last")
    assert next(pieces) == b"at last"
    assert next(pieces) == HEARTBEAT
    source.hand(None)
    assert list(pieces) == []


def test_a_heartbeat_is_a_comment_which_is_an_event_to_nobody() -> None:
    assert HEARTBEAT.startswith(b":")
    assert HEARTBEAT.endswith(b"\n\n")
    assert HEARTBEAT.count(b"\n") == 2


# --- failures ----------------------------------------------------------------------------------------------


def test_a_failure_is_raised_after_the_pieces_before_it(source: Source) -> None:
    pieces = begun(source)
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


def test_the_failure_that_is_raised_is_the_one_of_the_read(source: Source) -> None:
    error = ZeroDivisionError("of ours")
    pieces = begun(source)
    source.hand(error)
    with pytest.raises(ZeroDivisionError) as raised:
        next(pieces)
    assert raised.value is error


def test_a_read_that_is_killed_from_outside_is_no_end_but_a_failure() -> None:
    def read(put: Put) -> None:
        put(b"half")
        raise gevent.GreenletExit

    pieces = relayed(read, LONG)
    assert next(pieces) == b"half"
    with pytest.raises(InterruptedCallError):
        next(pieces)


# --- the taker leaves --------------------------------------------------------------------------------------


def test_a_relay_that_is_closed_before_it_begins_reads_nothing(source: Source) -> None:
    relayed(source, LONG).close()
    gevent.idle()
    assert not source.begun


def test_a_relay_that_is_interrupted_before_its_reader_begins_leaves_none(source: Source) -> None:
    pieces = relayed(source, LONG)
    throw = gevent.getcurrent().throw
    gevent.get_hub().loop.run_callback(throw, ZeroDivisionError())  # ahead of the reader's first turn
    with pytest.raises(ZeroDivisionError):
        next(pieces)
    gevent.idle()
    assert not source.begun


def test_a_reader_that_waits_for_the_upstream_has_ended_when_close_returns(source: Source) -> None:
    pieces = begun(source)
    pieces.close()
    assert source.ended.is_set()
    assert list(pieces) == []


def test_a_reader_that_takes_its_time_to_end_is_waited_for() -> None:
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


def test_a_reader_that_is_over_has_nothing_to_end(source: Source) -> None:
    pieces = begun(source)
    source.hand(b"unread")
    source.hand(None)
    assert source.ended.is_set()
    pieces.close()
    assert list(pieces) == []


def test_a_reader_that_failed_unseen_is_closed_in_silence(source: Source) -> None:
    pieces = begun(source)
    source.hand(ZeroDivisionError())
    pieces.close()


def test_a_taker_that_is_interrupted_ends_the_reader(source: Source) -> None:
    pieces = begun(source)
    throw = gevent.getcurrent().throw
    gevent.get_hub().loop.run_callback(throw, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        next(pieces)
    assert source.ended.is_set()


# --- a slow taker ------------------------------------------------------------------------------------------


def test_a_reader_never_waits_for_the_taker_and_gives_up_on_one_too_far_behind() -> None:
    put_bytes = 0

    def flood(put: Put) -> None:
        nonlocal put_bytes
        while True:
            put_bytes += 1024
            put(b"x" * 1024)

    pieces = relayed(flood, LONG)
    assert next(pieces) == b"x" * put_bytes, "nothing that came is lost"
    assert put_bytes == MAX_WAITING_BYTES + 1024
    with pytest.raises(ClientStalledError):
        next(pieces)


def test_a_taker_that_keeps_up_may_take_any_amount(source: Source) -> None:
    pieces = begun(source)
    for _ in range(5):
        source.hand(b"x" * MAX_WAITING_BYTES)
        assert next(pieces) == b"x" * MAX_WAITING_BYTES
    pieces.close()


def test_a_slow_taker_does_not_hold_up_another(source: Source) -> None:
    def flood(put: Put) -> None:
        while True:
            put(b"x")
            gevent.sleep(0)

    slow = relayed(flood, LONG)
    next(slow)
    pieces = begun(source)
    source.hand(b"at once")
    assert next(pieces) == b"at once"
    slow.close()
    pieces.close()
