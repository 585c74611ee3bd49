"""Long steps in threads: beside the hub, and beside gevent's own threads."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent import monkey

from ridges_proxy.ledger import SqliteLedger
from ridges_proxy.runtime.cooperative import MAX_THREADS, Threads

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 20.0
ROOT = Path(__file__).parents[2]

RealEvent = monkey.get_original("threading", "Event")
"""One that a thread may wait for, whether the process is patched or not."""


@contextmanager
def gevents_own_threads_taken() -> Iterator[None]:
    """As by a resolver that does not answer: each look-up keeps a thread."""
    pool, answered = gevent.get_hub().threadpool, RealEvent()
    stuck = [pool.spawn(answered.wait, PATIENCE_SECONDS) for _ in range(pool.maxsize)]
    try:
        yield
    finally:
        answered.set()
        gevent.wait(stuck)


def test_the_ledger_goes_on_while_look_ups_hang(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", 1200.0)
    with gevents_own_threads_taken(), gevent.Timeout(PATIENCE_SECONDS / 2):
        ledger.maintain()
        assert ledger.count() == 0
    ledger.disconnect()


def test_steps_wait_for_each_other_above_so_many() -> None:
    threads, go_on = Threads(), RealEvent()
    steps = [gevent.spawn(threads.do, lambda: go_on.wait(PATIENCE_SECONDS)) for _ in range(MAX_THREADS)]
    last = gevent.spawn(threads.do, get_ident)
    gevent.idle()
    assert threads._pool.size == MAX_THREADS
    go_on.set()
    gevent.joinall([*steps, last], raise_error=True)
    assert all(step.value for step in steps)
    assert last.value != get_ident()


def test_what_a_step_raises_is_raised_where_it_is_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        Threads().do(fail)
    assert capfd.readouterr() == ("", ""), "gevent says nothing of it"


STUCK = """
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


def test_a_step_that_hangs_does_not_keep_the_process_from_ending() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK],
        cwd=ROOT,
        timeout=PATIENCE_SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
