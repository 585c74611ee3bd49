"""How the master starts a worker: no signal to stop is lost, and a fork that fails is tried again.

A new worker has the master's handlers of signals until it sets its own, a few milliseconds later. A signal to
stop in this time had no effect: a worker of two quick reloads served for ever, with old settings.
"""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter

STOPS = (signal.SIGTERM, signal.SIGQUIT)
"""The signals by which the master stops a worker."""

logger = logging.getLogger("ridges_proxy.server")


def install_worker_start(server: Arbiter) -> None:
    """Hold signals to stop back from a new worker until it calls `accept_stops`.

    If the system has no room for another process, or for its files, the master logs it and runs on. It tries
    again each second, as long as workers are missing. Gunicorn would end the server.
    """
    spawn = server.spawn_worker

    def spawn_worker() -> int | None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        try:
            pid: int | None = spawn()
        except OSError as error:  # only in the master: a worker ends inside of gunicorn's method
            logger.error("a worker cannot be started", extra={"error": str(error)})  # noqa: TRY400 - no traceback needed
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    server.spawn_worker = spawn_worker  # type: ignore[method-assign,assignment] # gunicorn has no hook for it


def accept_stops() -> None:
    """In a worker that handles signals: let signals to stop arrive, also those that were held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
