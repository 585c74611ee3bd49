"""Upgrade by SIGUSR2: a new server, with the installed code and Python, replaces the running one.

Gunicorn starts the new server with the same sockets. As soon as one of its workers serves, the old server
gets SIGTERM, so that it drains, and systemd gets the new main process. If no worker ever serves, the old
server stays.
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
"""Index in /proc/PID/stat, behind the process name, which ends at the last parenthesis."""

logger = logging.getLogger(__name__)


def stop_old_server(worker: Worker, old_pid: str) -> None:
    """Stop the server that started this one for an upgrade, if there is one. Called when a worker serves.

    The parent of this server is checked, because another process may have the old server's PID now.
    """
    server_pid = os.getppid()
    if not old_pid.isdigit() or _parent_of(server_pid) != int(old_pid):
        return
    systemd.sd_notify(f"MAINPID={server_pid}", worker.log)
    logger.info("upgrade complete: stopping the old server", extra={"from_pid": int(old_pid)})
    os.kill(int(old_pid), signal.SIGTERM)


def install_sigusr2_handler(server: Arbiter, *, allowed: bool) -> None:
    """Refuse a SIGUSR2 if a second server would have its own ledger."""
    upgrade = server.handle_usr2

    def handle_usr2() -> None:
        if allowed:
            upgrade()
        else:
            logger.error("memory:// allows only 1 server: no other server is started")

    server.handle_usr2 = handle_usr2  # type: ignore[method-assign] # gunicorn has no hook for it


def _parent_of(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[PARENT_FIELD])
