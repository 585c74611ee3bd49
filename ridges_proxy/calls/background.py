"""The background tasks of a worker, once a second."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import gevent

from ridges_proxy.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.calls.admission import Admission
    from ridges_proxy.ledger import Ledger, Outbox

INTERVAL_SECONDS = 1.0

logger = logging.getLogger(__name__)


class BackgroundTasks:
    """Ends the calls of runs that were closed in another worker, maintains the ledger, delivers the outbox.

    Runs further tasks, which are given by the caller, before these.
    """

    def __init__(
        self, ledger: Ledger, outbox: Outbox, admission: Admission, *tasks: Callable[[], object]
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._admission = admission
        self._tasks = tasks
        self._cursor: str | None = None

    def start(self) -> None:
        """Start the greenlet. Call it once, after the fork."""
        gevent.spawn(self._loop)

    def once(self) -> None:
        """Run each task once. A task that fails does not prevent the others."""
        tasks = (*self._tasks, self._end_closed_runs, self._ledger.maintain, self._outbox.deliver)
        reached_ledger = [_run(task) for task in tasks]
        if not all(reached_ledger):
            logger.warning("background tasks failed: the ledger is unavailable")

    def _end_closed_runs(self) -> None:
        closed_runs = self._ledger.closed_runs_since(self._cursor)
        self._cursor = closed_runs.cursor
        for run_id in closed_runs.run_ids:
            gevent.spawn(self._admission.end_run, run_id)

    def _loop(self) -> None:
        while True:
            self.once()
            gevent.sleep(INTERVAL_SECONDS)


def _run(task: Callable[[], object]) -> bool:
    """Run the task. Returns False if the ledger was unavailable."""
    try:
        task()
    except LedgerUnavailableError:
        return False
    except Exception:
        # No exception may end the greenlet: no other one runs these tasks.
        logger.exception("background task failed")
    return True
