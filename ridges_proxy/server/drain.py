"""When a worker stops: wait for its calls in flight, and cut off those that take too long.

Gunicorn itself never ends a call in flight: it kills the process when the grace time is over.
"""

from __future__ import annotations

import logging
import signal
import time
from typing import TYPE_CHECKING

import gevent

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker

    from ridges_proxy.server.service import WorkerServices

CUT_SECONDS = 3
"""Time at the end of the grace period in which calls in flight are cut off, settled and answered."""

EXIT_SECONDS = 15
"""Time after the grace period in which a worker ends by itself: it sends its last traces, for example."""

POLL_SECONDS = 0.1

logger = logging.getLogger("ridges_proxy.server")


def drain_at_stop(worker: Worker, services: WorkerServices) -> None:
    """Wait until the worker is told to stop. Then let its calls end, and cut off those that take too long.

    Requests that arrive on open connections are served until then, and gunicorn closes each connection
    after its answer. So no client sends a call into a connection that ends.
    """
    while worker.alive:
        gevent.sleep(POLL_SECONDS)
    grace_seconds = worker.cfg.graceful_timeout
    cut_at = time.monotonic() + grace_seconds - CUT_SECONDS
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would kill the worker while it exits
    # The kernel kills a worker that hangs. Its master, which usually does, may be gone.
    signal.alarm(grace_seconds + EXIT_SECONDS)
    while _listens(worker) and time.monotonic() < cut_at:
        gevent.sleep(POLL_SECONDS)
    services.accepted.leave()
    calls = services.admission
    calls.drain()
    services.sweeper.stop()
    services.alerts.stop()
    logger.info("draining", extra={"in_flight": calls.in_flight})
    gevent.sleep(max(0.0, cut_at - time.monotonic()))
    _cut_off(services)


def _cut_off(services: WorkerServices) -> None:
    """Refuse new calls, and end those in flight."""
    calls = services.admission
    calls.close()
    services.turns.drain()
    if calls.in_flight:
        logger.warning("cutting off calls in flight", extra={"in_flight": calls.in_flight})
        calls.end_all()


def _listens(worker: Worker) -> bool:
    """Whether the worker still accepts connections: gunicorn closes its sockets up to a second later."""
    return any(listener.fileno() >= 0 for listener in worker.sockets)
