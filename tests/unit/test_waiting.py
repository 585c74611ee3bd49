"""Who waits too long, or is the oldest of too many, goes; everybody else stays."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.errors import BodyTimeoutError, OverloadedError
from ridges_proxy.runtime.connection_limits import ConnectionLimit, for_bodies

if TYPE_CHECKING:
    from collections.abc import Iterator

FOR_EVER_SECONDS = 60.0


class Line:
    """Clients who wait until they are let go, and what became of them."""

    def __init__(self, waiting: ConnectionLimit) -> None:
        self.waiting = waiting
        self.let_go = Event()
        self.fates: dict[str, str] = {}

    def join(self, *names: str, holding: int = 0) -> None:
        for name in names:
            gevent.spawn(self._wait, name, holding)
            gevent.sleep(0)
        gevent.sleep(0)

    def _wait(self, name: str, holding: int) -> None:
        self.fates[name] = "waits"
        try:
            with self.waiting.turn(FOR_EVER_SECONDS) as turn:
                if holding:
                    turn.note_bytes(holding)
                self.let_go.wait()
                self.fates[name] = "served"
        except OverloadedError:
            self.fates[name] = "refused"
        else:
            if self.fates[name] == "waits":
                self.fates[name] = "closed"


@contextmanager
def line_of(waiting: ConnectionLimit) -> Iterator[Line]:
    line = Line(waiting)
    yield line
    line.let_go.set()
    gevent.sleep(0)
    assert "waits" not in line.fates.values()
    assert (waiting.held_bytes, waiting.turn(1.0).pending) == (0, False)


def test_the_oldest_makes_room_and_the_others_are_served() -> None:
    with line_of(ConnectionLimit(most=3)) as line:
        line.join("a", "b", "c")
        assert set(line.fates.values()) == {"waits"}
        line.join("d")
        assert line.fates == {"a": "closed", "b": "waits", "c": "waits", "d": "waits"}
    assert line.fates == {"a": "closed", "b": "served", "c": "served", "d": "served"}


def test_who_has_to_go_is_told_by_the_error() -> None:
    with line_of(ConnectionLimit(most=1, late=BodyTimeoutError, crowded=OverloadedError)) as line:
        line.join("a", "b")
        assert line.fates == {"a": "refused", "b": "waits"}


def test_each_error_is_one_of_its_own() -> None:
    waiting = ConnectionLimit(most=1, late=BodyTimeoutError, crowded=OverloadedError)
    assert waiting.turn(1.0).exception is not waiting.turn(1.0).exception


def test_the_oldest_makes_room_for_bytes_too() -> None:
    with line_of(
        ConnectionLimit(most=9, most_bytes=100, late=BodyTimeoutError, crowded=OverloadedError)
    ) as line:
        line.join("a", "b", holding=50)
        assert set(line.fates.values()) == {"waits"}
        line.join("c", holding=1)
        assert line.fates == {"a": "refused", "b": "waits", "c": "waits"}
        line.join("d", holding=90)
        assert line.fates == {"a": "refused", "b": "refused", "c": "waits", "d": "waits"}


def test_who_left_takes_no_place() -> None:
    waiting = ConnectionLimit(most=1, most_bytes=10, late=BodyTimeoutError, crowded=OverloadedError)
    for _ in range(5):
        with waiting.turn(FOR_EVER_SECONDS) as turn:
            turn.note_bytes(10)
    assert waiting.held_bytes == 0


def test_a_wait_ends_by_its_time() -> None:
    with (
        pytest.raises(BodyTimeoutError),
        ConnectionLimit(most=9, late=BodyTimeoutError, crowded=OverloadedError).turn(0.001),
    ):
        gevent.sleep(FOR_EVER_SECONDS)
    with ConnectionLimit(most=9).turn(0.001):
        gevent.sleep(FOR_EVER_SECONDS)
        raise AssertionError("it went on")


def test_all_bodies_of_as_many_calls_as_there_may_be_have_room_and_each_of_the_largest() -> None:
    bodies = for_bodies(max_concurrent_calls=700, max_body_bytes=1 << 30)
    with ExitStack() as turns:
        some = [turns.enter_context(bodies.turn(FOR_EVER_SECONDS)) for _ in range(700)]
        for turn in some[:8]:
            turn.note_bytes(1 << 30)
        assert bodies.held_bytes == 8 << 30


def test_who_was_told_to_go_and_has_just_been_served_is_left_alone() -> None:
    waiting = ConnectionLimit(most=1, late=BodyTimeoutError, crowded=OverloadedError)
    with waiting.turn(FOR_EVER_SECONDS), waiting.turn(FOR_EVER_SECONDS):
        pass  # the first is expired, and over before the hub had its turn
    gevent.sleep(0)
