"""Yield to other greenlets during long steps."""

from __future__ import annotations

from contextvars import ContextVar, copy_context
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import gevent
from gevent import get_hub
from gevent.threadpool import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PAUSE_SECONDS = 0.001
"""Not 0: gevent checks sockets and timers only once in about 50 pauses of 0 seconds."""

MAX_THREADS = 10
"""The size of gevent's own pool. Further steps wait for a free thread."""

IDLE_SECONDS = 10
"""Time after which an idle thread ends by itself."""

_in_thread: ContextVar[bool] = ContextVar("in_thread", default=False)
"""Whether the code runs in a thread of `Threads`."""


def pause() -> None:
    """Let all other greenlets run. A greenlet that does not wait for I/O would block them."""
    gevent.sleep(PAUSE_SECONDS)


def let_ready_run() -> None:
    """Let each greenlet run whose socket or timer is ready now. It takes no time if there is none.

    The loop looks once for all that is ready. A timer of the lowest priority comes last in what it finds.
    """
    hub: Any = get_hub()  # gevent's types lack the priority
    with hub.loop.timer(0, priority=hub.loop.MINPRI) as last:
        hub.wait(last)


def let_queued_run() -> None:
    """Let all greenlets run that are already in the hub's queue, each until it waits or calls this, too.

    It does not look for sockets that have become ready: that is `let_ready_run`, which takes longer.

    Under full load, many calls then take the same step one after another. The processor has the code and the
    data of that step in its caches, so a call takes about a quarter less time (docs/reference/benchmarks.md).
    A greenlet that is alone goes on at once.
    """
    gevent.sleep(0)


class Threads:
    """A thread pool for long steps. gevent's own pool also does DNS look-ups, which may hang and fill it."""

    def __init__(self, max_threads: int = MAX_THREADS) -> None:
        self._max_threads = max_threads

    @cached_property
    def _pool(self) -> ThreadPool:
        """The pool, created at first use in the worker process: a pool does not survive a fork."""
        return ThreadPool(self._max_threads, idle_task_timeout=IDLE_SECONDS)

    def do(self, step: Callable[[], T]) -> T:
        """Run a long step in a thread and return its result. Other greenlets run in the meantime.

        The step has the caller's context variables. A step of a step runs in the same thread.
        """
        if _in_thread.get():
            return step()
        context = copy_context()
        context.run(_in_thread.set, True)
        result, error = self._pool.apply(_caught, (partial(context.run, step),))
        if error is not None:
            try:
                raise error
            finally:
                del error  # else it and this frame keep each other, with all that the step had, in a cycle
        return cast("T", result)


def _caught(step: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Return the result or the error: gevent prints a traceback of an exception that leaves a thread."""
    try:
        return step(), None
    except Exception as error:  # noqa: BLE001 - raised again by the caller, `do`
        return None, error
