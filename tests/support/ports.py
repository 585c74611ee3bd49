"""Ports for servers of tests."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

LEAST, MOST = 12_000, 22_000
"""Below the ports that the system gives to clients, and so is the bus of a Redis Cluster's node."""

BUS = 10_000
"""By how much the port of a node's bus lies above its own."""


def free_port() -> int:
    """A port that is free right now, as is the one that a Redis Cluster's node would have beside it."""
    while True:
        port = random.randint(LEAST, MOST)
        try:
            with ExitStack() as stack:
                for taken in (port, port + BUS):
                    stack.enter_context(socket.create_server(("127.0.0.1", taken)))
        except OSError:
            continue
        return port
