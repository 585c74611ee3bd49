"""Long steps run one at a time, off the hub, and the keys take turns."""

from __future__ import annotations

import gc
import sys
from threading import get_ident
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent import monkey

from ridges_proxy.errors import BodyQueueError, DrainingError
from ridges_proxy.runtime import turns as module
from ridges_proxy.runtime.turns import SWITCH_SECONDS, Turns

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_SECONDS = 20.0

RealEvent = monkey.get_original("threading", "Event")
"""An event that a thread can wait for, whether or not the process is patched."""


class Started:
    """A step that runs until it is let go, and the order in which the steps behind it have run."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.order = turns, list[str]()
        self._go_on, self._first = RealEvent(), gevent.spawn(turns.do, "first", self._hold)
        gevent.idle()

    def _hold(self) -> None:
        self._go_on.wait(TIMEOUT_SECONDS)

    def step(self, name: str) -> Callable[[], None]:
        return lambda: self.order.append(name)

    def end(self, *others: gevent.Greenlet[..., None]) -> None:
        self._go_on.set()
        gevent.joinall([self._first, *others], TIMEOUT_SECONDS)


def test_a_step_runs_in_a_thread_and_returns_its_result() -> None:
    assert Turns().do("run", get_ident) != get_ident()


def test_an_error_of_a_step_is_raised_and_passes_the_turn_on() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError):
        turns.do("run", lambda: 1 // 0)
    assert turns.do("run", lambda: 5) == 5


def test_a_key_waits_for_one_step_of_each_other_key() -> None:
    started = Started(Turns())
    names = ["a1", "a2", "a3", "b1", "c1", "b2"]
    waiting = [gevent.spawn(started.turns.do, name[0], started.step(name)) for name in names]
    gevent.idle()
    started.end(*waiting)
    assert started.order == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_the_wait_for_a_turn_has_a_limit() -> None:
    started = Started(Turns(wait_seconds=0.01))
    with pytest.raises(BodyQueueError):
        started.turns.do("late", started.step("late"))
    after = gevent.spawn(started.turns.do, "other", started.step("other"))
    gevent.sleep(0)
    started.end(after)
    assert started.order == ["other"], "the one that gave up has left the queue"


def test_a_greenlet_that_is_killed_in_the_queue_leaves_it() -> None:
    started = Started(Turns())
    killed, other = (gevent.spawn(started.turns.do, name, started.step(name)) for name in ("killed", "other"))
    gevent.idle()
    killed.kill()
    started.end(other)
    assert started.order == ["other"]
    assert started.turns.do("next", lambda: 1) == 1


def test_a_greenlet_that_is_killed_when_its_turn_comes_passes_it_on() -> None:
    started = Started(Turns())
    killed, other = (gevent.spawn(started.turns.do, name, started.step(name)) for name in ("killed", "other"))
    gevent.idle()
    started.turns._waiting["killed"][0].woken.rawlink(lambda _: killed.kill(block=False))
    started.end(killed, other)
    assert "other" in started.order
    assert started.turns.do("next", lambda: 1) == 1


def test_the_waiting_bytes_have_a_limit_for_each_key_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES_PER_KEY", 10)
    monkeypatch.setattr(module, "WAITING_BYTES", 15)
    started = Started(Turns())
    waiting = []
    for key, size_bytes, accepted in (
        ("a", 8, True),
        ("a", 3, False),
        ("b", 7, True),
        ("c", 1, False),
        ("c", 0, True),
    ):
        if accepted:
            waiting.append(gevent.spawn(started.turns.do, key, started.step(key), size_bytes))
            gevent.idle()
        else:
            with pytest.raises(BodyQueueError):
                started.turns.do(key, started.step("refused"), size_bytes)
    started.end(*waiting)
    assert started.order == ["a", "b", "c"]
    assert started.turns._waiting_bytes == 0
    assert not started.turns._waiting


def test_the_collector_pauses_and_the_thread_gives_way_during_a_step() -> None:
    interval_seconds = sys.getswitchinterval()
    collects, seconds = Turns().do("run", lambda: (gc.isenabled(), sys.getswitchinterval()))
    assert not collects
    assert seconds == pytest.approx(SWITCH_SECONDS)
    assert gc.isenabled()
    assert sys.getswitchinterval() == pytest.approx(interval_seconds)


def test_a_collector_that_is_paused_stays_paused() -> None:
    gc.disable()
    try:
        Turns().do("run", lambda: None)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_drain_ends_all_waits_and_no_step_that_runs() -> None:
    started = Started(Turns())
    names = ["a1", "a2", "b1"]
    waiting = [gevent.spawn(started.turns.do, name[0], started.step(name)) for name in names]
    gevent.idle()
    started.turns.drain()
    gevent.joinall(waiting, TIMEOUT_SECONDS)
    assert [type(each.exception) for each in waiting] == [DrainingError] * 3
    with pytest.raises(DrainingError):
        started.turns.do("c", started.step("c1"))
    assert not started._first.ready()
    started.end()
    assert started._first.successful()
    assert started.order == []
    assert started.turns.do("a", lambda: 5) == 5, "there is nothing to wait for"
