"""What each worker does once a second beside its calls."""

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
    """Ends the calls of runs that another worker closed; looks after ledger and outbox; does its chores."""

    def __init__(
        self, ledger: Ledger, outbox: Outbox, admission: Admission, *chores: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._admission = admission
        self._chores = chores
        self._mark: str | None = None

    def start(self) -> None:
        """Start the greenlet. Once, after the fork."""
        gevent.spawn(self._loop)

    def once(self) -> None:
        """Do it once: one duty that fails keeps no other from being done."""
        duties = (*self._chores, self._end_closed_runs, self._ledger.maintain, self._outbox.deliver)
        without_ledger = [duty for duty in duties if not _done(duty)]
        if without_ledger:
            logger.warning("no upkeep: the ledger is unavailable")

    def _end_closed_runs(self) -> None:
        closed_runs_since = self._ledger.closed_runs_since(self._mark)
        self._mark = closed_runs_since.cursor
        for run_id in closed_runs_since.run_ids:
            gevent.spawn(self._admission.end_run, run_id)

    def _loop(self) -> None:
        while True:
            self.once()
            gevent.sleep(INTERVAL_SECONDS)


def _done(duty: Callable[[], object]) -> bool:
    """Do it; False where there was no ledger for it."""
    try:
        duty()
    except LedgerUnavailableError:
        return False
    except Exception:
        # Whatever a store raises must not end the greenlet: nothing else would do its work.
        logger.exception("upkeep failed")
    return True
