"""How a long step lets the others have their turn."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, cast

import gevent
from gevent.threadpool import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PAUSE_SECONDS = 0.001
"""Not 0: gevent looks at sockets and timers only once in about 50 pauses of 0 seconds."""

MOST_THREADS = 10
"""As many as gevent's own. Above them steps wait for each other."""

IDLE_SECONDS = 10
"""After which a thread ends that has nothing to do: nobody needs to."""


def pause() -> None:
    """Let all other calls go on for a moment. Nothing else makes a step that never waits give way."""
    gevent.sleep(PAUSE_SECONDS)


class Threads:
    """A few threads for long steps. Not gevent's own: names are looked up there, and a resolver may hang."""

    @cached_property
    def _pool(self) -> ThreadPool:
        """Made by the first step, in the process that asks for it: a pool does not outlive a fork."""
        return ThreadPool(MOST_THREADS, idle_task_timeout=IDLE_SECONDS)

    def do(self, step: Callable[[], T]) -> T:
        """Do a long step in a thread of its own, and wait for it while all other calls go on."""
        result, error = self._pool.apply(_outcome_of, (step,))
        if error is not None:
            raise error
        return cast("T", result)


def _outcome_of(step: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What it returned or raised: gevent prints a traceback of whatever leaves a thread as an exception."""
    try:
        return step(), None
    except Exception as error:  # noqa: BLE001 - raised again where it is waited for
        return None, error
