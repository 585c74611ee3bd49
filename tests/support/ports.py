"""Free ports for the servers of tests."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

LEAST, MOST = 12_000, 22_000
"""Range of ports. It ends, with BUS added, below the ports that the system gives to clients."""

BUS = 10_000
"""Distance from the port of a Redis Cluster node to the port of its cluster bus."""


def free_port() -> int:
    """Return a port that is free now, as is its port for the cluster bus."""
    while True:
        port = random.randint(LEAST, MOST)
        try:
            with ExitStack() as stack:
                for taken in (port, port + BUS):
                    stack.enter_context(socket.create_server(("127.0.0.1", taken)))
        except OSError:
            continue
        return port
