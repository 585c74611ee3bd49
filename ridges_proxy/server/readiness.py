"""Tell systemd that the server is ready: as soon as a worker serves.

Gunicorn's master tells it before it has started a worker, and so also for an app that cannot start.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker

SYSTEMD_NAME = "NOTIFY_SOCKET"
OWN_NAME = "RIDGES_PROXY_NOTIFY_SOCKET"
"""Environment variable for the workers. Gunicorn looks for systemd's name."""

READY = "READY=1\nSTATUS=Serves calls"

logger = logging.getLogger(__name__)


def take_notify_socket() -> None:
    """Hide systemd's socket from gunicorn. Called in the master, before gunicorn sends its message."""
    if address := os.environ.pop(SYSTEMD_NAME, ""):
        os.environ[OWN_NAME] = address


def notify_ready(worker: Worker) -> None:
    """Tell systemd that this worker serves. A worker without its master does not speak for the next one."""
    address = os.environ.get(OWN_NAME, "")
    if not address or os.getppid() != worker.ppid:
        return
    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as notifier:
            notifier.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
            notifier.sendall(READY.encode())
    except OSError as error:
        logger.warning("systemd was not told that the server is ready", extra={"error": str(error)})
