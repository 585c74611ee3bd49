"""Long steps run one at a time, off the hub, and the keys take turns."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent import monkey

from ridges_proxy.errors import BodyQueueError, ClientGoneError, DrainingError
from ridges_proxy.runtime import turn_queue
from ridges_proxy.runtime.turn_queue import Caller, TurnQueue, Waiter
from ridges_proxy.runtime.turns import SWITCH_SECONDS, Turns
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_SECONDS = 20.0

RealEvent = monkey.get_original("threading", "Event")
"""An event that a thread can wait for, whether or not the process is patched."""


class Started:
    """A step that runs until it is let go, and the order in which the steps behind it have run."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.order = turns, list[str]()
        self._go_on, self._first = RealEvent(), gevent.spawn(turns.do, Caller("first"), self._hold)
        gevent.idle()

    def _hold(self) -> None:
        self._go_on.wait(TIMEOUT_SECONDS)

    def step(self, name: str) -> Callable[[], None]:
        return lambda: self.order.append(name)

    def end(self, *others: gevent.Greenlet[..., None]) -> None:
        self._go_on.set()
        gevent.joinall([self._first, *others], TIMEOUT_SECONDS)


def test_a_step_runs_in_a_thread_and_returns_its_result() -> None:
    assert Turns().do(Caller("run"), get_ident) != get_ident()


def test_an_error_of_a_step_is_raised_and_passes_the_turn_on() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError):
        turns.do(Caller("run"), lambda: 1 // 0)
    assert turns.do(Caller("run"), lambda: 5) == 5


def test_a_key_waits_for_one_step_of_each_other_key() -> None:
    started = Started(Turns())
    names = ["a1", "a2", "a3", "b1", "c1", "b2"]
    waiting = [gevent.spawn(started.turns.do, Caller(name[0]), started.step(name)) for name in names]
    gevent.idle()
    started.end(*waiting)
    assert started.order == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_the_wait_for_a_turn_has_a_limit() -> None:
    started = Started(Turns(wait_seconds=0.01))
    with pytest.raises(BodyQueueError):
        started.turns.do(Caller("late"), started.step("late"))
    started.end()
    started.turns.do(Caller("other"), started.step("other"))
    assert started.order == ["other"], "the one that gave up has left the queue"


def test_a_greenlet_that_is_killed_in_the_queue_leaves_it() -> None:
    started = Started(Turns())
    killed, other = (
        gevent.spawn(started.turns.do, Caller(name), started.step(name)) for name in ("killed", "other")
    )
    gevent.idle()
    killed.kill()
    started.end(other)
    assert started.order == ["other"]
    assert started.turns.do(Caller("next"), lambda: 1) == 1


def test_a_greenlet_that_is_killed_when_its_turn_comes_passes_it_on() -> None:
    started = Started(Turns())
    killed, other = (
        gevent.spawn(started.turns.do, Caller(name), started.step(name)) for name in ("killed", "other")
    )
    gevent.idle()
    next(iter(started.turns._queue)).woken.rawlink(lambda _: killed.kill(block=False))
    started.end(killed, other)
    assert "other" in started.order
    assert started.turns.do(Caller("next"), lambda: 1) == 1


def test_the_runs_of_one_address_take_turns_within_the_turns_of_the_address() -> None:
    started = Started(Turns())
    names = ["a1", "a2", "a3", "b1", "b1", "c1"]
    waiting = [gevent.spawn(started.turns.do, Caller(*name), started.step(name)) for name in names]
    gevent.idle()
    started.end(*waiting)
    assert started.order == ["a1", "b1", "c1", "a2", "b1", "a3"]


def test_of_too_many_waiting_bytes_those_of_the_largest_group_have_to_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each row is a queue of 10 bytes: what comes, and what then is refused."""
    monkeypatch.setattr(turn_queue, "WAITING_BYTES", 10)
    rows = [
        ("a4 a4 a4", "a4"),  # the one that comes
        ("A1 B1 C1 D1 E1 F1 G1 H1 I1 J1 K1", "K1"),
        ("A5 B5 a5", "a5"),
        # An address with many runs, or one run with many bodies, makes room for a neighbour.
        ("a3 b3 c3 X2", "a3"),
        ("a3 b3 c3 X3 Y3", "a3 b3"),
        ("a1 b5 c3 X3", "b5"),
        ("a3 a3 a3 X2", "a3"),
        ("A9 X9", "X9"),
        # What has no bytes always may wait, and stays.
        ("a5 a5 a0 X2", "a5"),
        ("A10 X0", ""),
    ]

    def check(row: tuple[str, str]) -> None:
        queue, waiters, left = TurnQueue(), list[Waiter](), list[str]()
        for name in row[0].split():
            group = "shared" if name[0].islower() else name[0]
            waiter = Waiter(Caller(group, name[0]), int(name[1:]))
            queue.add(waiter)
            waiters.append(waiter)
            left += [
                f"{each.caller.run}{each.size_bytes}"
                for each in waiters
                if each.error and each.woken.is_set()
            ]
            waiters = [each for each in waiters if not each.error]
        assert left == row[1].split()
        assert set(queue) == set(waiters)
        assert queue.waiting_bytes == sum(each.size_bytes for each in waiters)

    check_rows(rows, check)


def test_a_step_that_has_to_leave_the_queue_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_queue, "WAITING_BYTES", 10)
    started = Started(Turns())
    greedy, neighbour = (
        gevent.spawn(started.turns.do, Caller(name), started.step(name), size_bytes)
        for name, size_bytes in (("greedy", 9), ("neighbour", 2))
    )
    gevent.idle()
    assert isinstance(greedy.exception, BodyQueueError)
    started.end(neighbour)
    assert started.order == ["neighbour"]
    assert started.turns._queue.waiting_bytes == 0


def test_a_wait_that_is_ended_leaves_the_queue_with_its_bytes() -> None:
    ends: list[Callable[[Exception], None]] = []

    @contextmanager
    def watch(end: Callable[[Exception], None]) -> Iterator[None]:
        ends.append(end)
        yield
        ends.append(end)

    started = Started(Turns())
    gone = gevent.spawn(started.turns.do, Caller("gone"), started.step("gone"), 5, watch)
    gevent.idle()
    assert started.turns._queue.waiting_bytes == 5
    ends[0](ClientGoneError())
    gevent.idle()
    assert isinstance(gone.exception, ClientGoneError)
    assert (started.turns._queue.waiting_bytes, list(started.turns._queue), len(ends)) == (0, [], 2)
    started.end()
    assert started.order == []
    assert started.turns.do(Caller("next"), lambda: 1, 5, watch) == 1, "one that does not wait needs no watch"
    assert len(ends) == 2


def test_a_step_of_which_the_result_is_paid_for_runs_in_the_thread_without_a_turn_too() -> None:
    started = Started(Turns())
    threads: list[int] = []
    paid = gevent.spawn(started.turns.do_anyway, Caller("paid"), lambda: threads.append(get_ident()))
    gevent.idle()
    started.turns.drain()
    gevent.idle()
    assert (threads, list(started.turns._queue)) == ([], []), "the thread is busy"
    started.end(paid)
    assert threads == [started.turns.do(Caller("next"), get_ident)]


def test_the_collector_pauses_and_the_thread_gives_way_during_a_step() -> None:
    interval_seconds = sys.getswitchinterval()
    collects, seconds = Turns().do(Caller("run"), lambda: (gc.isenabled(), sys.getswitchinterval()))
    assert not collects
    assert seconds == pytest.approx(SWITCH_SECONDS)
    assert gc.isenabled()
    assert sys.getswitchinterval() == pytest.approx(interval_seconds)


def test_a_collector_that_is_paused_stays_paused() -> None:
    gc.disable()
    try:
        Turns().do(Caller("run"), lambda: None)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_drain_ends_all_waits_and_no_step_that_runs() -> None:
    started = Started(Turns())
    names = ["a1", "a2", "b1"]
    waiting = [gevent.spawn(started.turns.do, Caller(name[0]), started.step(name)) for name in names]
    gevent.idle()
    started.turns.drain()
    gevent.joinall(waiting, TIMEOUT_SECONDS)
    assert [type(each.exception) for each in waiting] == [DrainingError] * 3
    with pytest.raises(DrainingError):
        started.turns.do(Caller("c"), started.step("c1"))
    assert not started._first.ready()
    started.end()
    assert started._first.successful()
    assert started.order == []
    assert started.turns.do(Caller("a"), lambda: 5) == 5, "there is nothing to wait for"
