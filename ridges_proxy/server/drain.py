"""When a worker stops: wait for its calls in flight, and cut off those that take too long.

Gunicorn itself never ends a call in flight: it kills the process when the grace time is over.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import gevent

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker

    from ridges_proxy.server.service import WorkerServices

CUT_SECONDS = 3
"""Time at the end of the grace period in which calls in flight are cut off, settled and answered."""

POLL_SECONDS = 0.1

logger = logging.getLogger("ridges_proxy.server")


def drain_at_stop(worker: Worker, services: WorkerServices) -> None:
    """Wait until gunicorn stops the worker. Then admit no calls, and cut off those that take too long."""
    while worker.alive:
        gevent.sleep(POLL_SECONDS)
    cut_at = time.monotonic() + worker.cfg.graceful_timeout - CUT_SECONDS
    while _listens(worker) and time.monotonic() < cut_at:
        gevent.sleep(POLL_SECONDS)
    services.accepted.leave()
    calls = services.admission
    calls.drain()
    services.turns.drain()
    services.sweeper.stop()
    logger.info("draining", extra={"in_flight": calls.in_flight})
    while calls.in_flight and time.monotonic() < cut_at:
        gevent.sleep(POLL_SECONDS)
    if calls.in_flight:
        logger.warning("cutting off calls in flight", extra={"in_flight": calls.in_flight})
        calls.end_all()


def _listens(worker: Worker) -> bool:
    """Whether the worker still accepts connections: gunicorn closes its sockets up to a second later."""
    return any(listener.fileno() >= 0 for listener in worker.sockets)
