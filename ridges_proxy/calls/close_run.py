"""Closing a run: nothing more is held for it, and its calls in flight end, in whatever worker they are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gevent

from ridges_proxy.calls.admission import END_SECONDS
from ridges_proxy.calls.background import INTERVAL_SECONDS

if TYPE_CHECKING:
    from ridges_proxy.calls.admission import Admission
    from ridges_proxy.ledger import Ledger, Run, RunUsage

OTHERS_SECONDS = INTERVAL_SECONDS + 2 * END_SECONDS
"""How long the calls of other workers may take to end: they hear of it by their upkeep."""

POLL_SECONDS = 0.05


def close_run(ledger: Ledger, admission: Admission, run: Run) -> RunUsage:
    """Close the run and return its books once its calls have ended; in a few seconds in any case."""
    closed = ledger.close(run)
    admission.end_run(run.id)
    give_up_at = time.monotonic() + OTHERS_SECONDS
    while True:
        books = ledger.usage(run.id) or closed
        if not books.in_flight or time.monotonic() >= give_up_at:
            return books
        gevent.sleep(POLL_SECONDS)
