"""A fake Chutes in this process, whose pauses are in simulated time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gevent.server import StreamServer

from ridges_proxy.fake_chutes.connection import Connection
from ridges_proxy.fake_chutes.prices import Prices, Rates
from ridges_proxy.fake_chutes.server import Server

if TYPE_CHECKING:
    from gevent.socket import socket as GeventSocket  # noqa: N812  (a class that gevent names in lower case)

    from tests.browser.day.simulated_time import SimulatedTime

FREE = Prices(Rates(0, 0), 0)
"""No bill of the fake Chutes is read here."""


def start_upstream(clock: SimulatedTime) -> str:
    """Start the server on loopback, and return its URL."""

    class PausedConnection(Connection):
        """A connection whose pauses take no real time."""

        def pause(self, seconds: float) -> None:
            if seconds > 0:
                clock.sleep(seconds)
                self.check()
            else:
                super().pause(seconds)

    def connect(sock: GeventSocket) -> Connection:
        return PausedConnection(sock)

    listener = StreamServer(("127.0.0.1", 0), Server(FREE, connect).serve)
    listener.start()
    return f"http://127.0.0.1:{listener.server_port}"
