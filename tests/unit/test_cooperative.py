"""Long steps run in threads beside the hub and beside gevent's own threads."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent import monkey, socket

from ridges_proxy.ledger import SqliteLedger
from ridges_proxy.runtime.cooperative import MAX_THREADS, Threads, let_ready_run

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_SECONDS = 20.0
ROOT = Path(__file__).parents[2]

RealEvent = monkey.get_original("threading", "Event")
"""An event that a thread can wait for, whether or not the process is patched."""


@contextmanager
def gevents_own_threads_taken() -> Iterator[None]:
    """Occupy gevent's threads, like DNS look-ups that get no answer."""
    pool, answered = gevent.get_hub().threadpool, RealEvent()
    lookups = [pool.spawn(answered.wait, TIMEOUT_SECONDS) for _ in range(pool.maxsize)]
    try:
        yield
    finally:
        answered.set()
        gevent.wait(lookups)


def test_the_ledger_works_while_dns_lookups_hang(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", 1200.0)
    with gevents_own_threads_taken(), gevent.Timeout(TIMEOUT_SECONDS / 2):
        ledger.maintain()
        assert ledger.count() == 0
    ledger.disconnect()


def test_an_error_of_a_step_is_freed_without_the_garbage_collector() -> None:
    """It may keep all that the step had read."""

    class StepError(Exception):
        pass

    def step() -> None:
        raise StepError

    gc.disable()
    try:
        try:
            Threads().do(step)
        except StepError as error:
            raised = weakref.ref(error)
        gevent.idle()  # the pool keeps its last result until its own greenlet has run
        assert raised() is None
    finally:
        gc.enable()


def test_a_step_waits_for_a_thread_if_all_threads_are_busy() -> None:
    threads, go_on = Threads(), RealEvent()
    steps = [gevent.spawn(threads.do, lambda: go_on.wait(TIMEOUT_SECONDS)) for _ in range(MAX_THREADS)]
    last = gevent.spawn(threads.do, get_ident)
    gevent.idle()
    assert threads._pool.size == MAX_THREADS
    go_on.set()
    gevent.joinall([*steps, last], raise_error=True)
    assert all(step.value for step in steps)
    assert last.value != get_ident()


def test_an_error_in_a_step_is_raised_in_its_caller(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        Threads().do(fail)
    assert capfd.readouterr() == ("", ""), "gevent prints no traceback"


HANGING_STEP = """
from gevent import monkey
monkey.patch_all()
import gevent
from ridges_proxy.runtime.cooperative import Threads
started = gevent.get_hub().loop.async_()
began = gevent.event.Event()
started.start(began.set)
stuck = monkey.get_original("threading", "Event")()
gevent.spawn(Threads().do, lambda: (started.send(), stuck.wait(600)))
began.wait()
"""


def test_a_hanging_step_does_not_keep_the_process_from_ending() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING_STEP],
        cwd=ROOT,
        timeout=TIMEOUT_SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_step_of_a_step_runs_in_the_same_thread_with_the_callers_context() -> None:
    outer, inner = Threads(1), Threads(1)
    name: ContextVar[str] = ContextVar("name")
    name.set("caller")

    def step() -> tuple[int, int, str]:
        return get_ident(), inner.do(get_ident), name.get()

    first, second, seen = outer.do(step)
    assert first == second != get_ident()
    assert seen == "caller"
    assert inner.do(get_ident) != get_ident(), "the caller itself is in no thread"


def test_all_that_is_ready_runs_before_one_that_lets_it_run() -> None:
    order: list[str] = []
    here, there = socket.socketpair()

    def receive() -> None:
        here.recv(1)
        order.append("socket")

    with here, there:
        waits = gevent.spawn(receive)
        gevent.sleep(0)
        there.send(b"x")
        for _ in range(3):
            let_ready_run()
            order.append("next")
        waits.join(TIMEOUT_SECONDS)
    assert order == ["socket", "next", "next", "next"]
