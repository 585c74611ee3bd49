"""How many workers the master runs: draining workers do not count.

Gunicorn counts them. So while an old worker drained after a reload, a new one that died was not replaced, and
until the last old worker had ended, the master waited without hearing a signal.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gunicorn.arbiter import Arbiter


class _WorkersReplacedError(Exception):
    """Leaves gunicorn's reload where its wait for the old workers begins."""


class WorkerCount:
    """Keeps the configured number of workers that do not drain, in place of gunicorn's own count."""

    def __init__(self, server: Arbiter) -> None:
        self._server = server
        self._stopped: set[int] = set()
        """The PIDs of workers that were told to stop and have not ended."""
        self._use(self._manage)

    def replace_workers(self, reload: Callable[[], None]) -> None:
        """Run gunicorn's reload, but return as soon as new workers are started and the old ones drain."""

        def manage_and_leave() -> None:
            self._manage()
            raise _WorkersReplacedError

        self._use(manage_and_leave)
        try:
            with suppress(_WorkersReplacedError):
                reload()
        finally:
            self._use(self._manage)

    def _manage(self) -> None:
        """Start missing workers, and stop the oldest of too many."""
        workers = self._server.WORKERS
        self._stopped &= workers.keys()
        serving = sorted(workers.keys() - self._stopped, key=lambda pid: workers[pid].age)
        surplus = len(serving) - self._server.num_workers
        for _ in range(-surplus):
            self._server.spawn_worker()
        for pid in serving[: max(0, surplus)]:
            self._stopped.add(pid)
            self._server.kill_worker(pid, signal.SIGTERM)

    def _use(self, manage: Callable[[], None]) -> None:
        self._server.manage_workers = manage  # type: ignore[method-assign] # gunicorn has no hook for it
