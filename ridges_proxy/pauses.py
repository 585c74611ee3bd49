"""How a long step lets the others have their turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import gevent

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PAUSE_SECONDS = 0.001
"""Not 0: gevent looks at sockets and timers only once in about 50 pauses of 0 seconds."""


def pause() -> None:
    """Let all other calls go on for a moment. Nothing else makes a step that never waits give way."""
    gevent.sleep(PAUSE_SECONDS)


def in_thread(step: Callable[[], T]) -> T:
    """Do a long step in a thread of its own, and wait for it while all other calls go on."""
    return gevent.get_hub().threadpool.apply(step)
