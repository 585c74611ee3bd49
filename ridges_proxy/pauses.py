"""How a long step lets the others have their turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

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
    result, error = gevent.get_hub().threadpool.apply(_outcome_of, (step,))
    if error is not None:
        raise error
    return cast("T", result)


def _outcome_of(step: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What it returned or raised: gevent prints a traceback of whatever leaves a thread as an exception."""
    try:
        return step(), None
    except Exception as error:  # noqa: BLE001 - raised again where it is waited for
        return None, error
