"""How a long step lets the others have their turn."""

from __future__ import annotations

import gevent

PAUSE_SECONDS = 0.001
"""Not 0: gevent looks at sockets and timers only once in about 50 pauses of 0 seconds."""


def pause() -> None:
    """Let all other calls go on for a moment. Nothing else makes a step that never waits give way."""
    gevent.sleep(PAUSE_SECONDS)
