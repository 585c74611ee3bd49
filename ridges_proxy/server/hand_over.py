"""SIGUSR2: hand the sockets over to the next server, which systemd starts at once.

systemd sends it for a restart (`RestartKillSignal=`), so an upgrade is a restart. The master ends, and its
workers finish their calls without it while the next server serves new connections.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gunicorn.arbiter import Arbiter

logger = logging.getLogger("ridges_proxy.server")


def install_sigusr2_handler(server: Arbiter, needs_one_process: Callable[[], bool]) -> None:
    """Hand over at SIGUSR2 if systemd holds the sockets. Otherwise stop after the calls in flight.

    The server also stops if two processes must not serve at the same time (`needs_one_process`).
    """

    def handle_usr2() -> None:
        if server.systemd and not needs_one_process():
            _hand_over(server)
        else:
            server.handle_term()

    server.handle_usr2 = handle_usr2  # type: ignore[method-assign] # gunicorn has no hook for it


def _hand_over(server: Arbiter) -> None:
    """End this process. A worker that is still starting misses the signal, and finds its master gone."""
    logger.info("handing over", extra={"workers": len(server.WORKERS)})
    server.kill_workers(signal.SIGTERM)
    if server.pidfile is not None:
        server.pidfile.unlink()
    server.cfg.on_exit(server)
    sys.exit()
