"""SIGUSR2: a new server, of the code and the Python that are there now, takes the place of the running one.

Gunicorn starts it with the same sockets. As soon as a worker of it serves, the old server is told to let its
calls end and go, and systemd which process to look after. If none ever does, the old one stays.
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from gunicorn import systemd

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

PARENT_FIELD = 1
"""Of /proc/PID/stat, after the name, which ends at the last parenthesis."""

logger = logging.getLogger(__name__)


def take_over(worker: Worker, old: str) -> None:
    """Retire the server that started ours, by its process number, if one did. Called by serving workers."""
    ours = os.getppid()
    if not old.isdigit() or _parent_of(ours) != int(old):
        return  # nobody started ours, or it is gone: another process may have its number by now
    systemd.sd_notify(f"MAINPID={ours}", worker.log)
    logger.info("taking over", extra={"from_pid": int(old)})
    os.kill(int(old), signal.SIGTERM)


def guard(server: Arbiter, *, allowed: bool) -> None:
    """Refuse a SIGUSR2 that would start a second server with books of its own."""
    upgrade = server.handle_usr2

    def handle_usr2() -> None:
        if allowed:
            upgrade()
        else:
            logger.error("memory:// allows one server only: no other is started")

    server.handle_usr2 = handle_usr2  # type: ignore[method-assign] # there is no hook for it


def _parent_of(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[PARENT_FIELD])
