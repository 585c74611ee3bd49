"""Non-blocking checks of a socket's state."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from gevent import monkey

if TYPE_CHECKING:
    from socket import socket

_Poll: Any = monkey.get_original("select", "poll")
"""The operating system's poll: gevent's takes 40 µs even without waiting."""

_HUNG_UP: int = getattr(select, "POLLRDHUP", select.POLLHUP)
"""The event for a closed sending side. Only Linux has POLLRDHUP; other systems report POLLHUP."""


def has_input(sock: socket) -> bool:
    """Return whether received data, or the end of the connection, is waiting to be read."""
    return bool(_poll_now(sock, select.POLLIN))


def has_hung_up(sock: socket) -> bool:
    """Return whether the other side has closed its sending side, or the connection is closed."""
    return bool(_poll_now(sock, _HUNG_UP))


def _poll_now(sock: socket, events: int) -> Any:  # noqa: ANN401 - the system's poll has no type here
    poll = _Poll()
    poll.register(sock, events)
    return poll.poll(0)
