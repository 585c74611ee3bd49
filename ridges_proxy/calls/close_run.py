"""Close a run: refuse new holds, and end its calls in flight in all workers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gevent

from ridges_proxy.calls.background import INTERVAL_SECONDS
from ridges_proxy.calls.in_flight import END_SECONDS

if TYPE_CHECKING:
    from ridges_proxy.calls.admission import Admission
    from ridges_proxy.ledger import Ledger, Run, RunUsage

OTHER_WORKERS_SECONDS = INTERVAL_SECONDS + 2 * END_SECONDS
"""How long calls in other workers may take to end. Their background tasks look for closed runs."""

POLL_SECONDS = 0.05


def close_run(ledger: Ledger, admission: Admission, run: Run) -> RunUsage:
    """Close the run, wait until its calls have ended (a few seconds at most), and return its usage."""
    closed = ledger.close(run)
    admission.end_run(run.id)
    give_up_at = time.monotonic() + OTHER_WORKERS_SECONDS
    while True:
        usage = ledger.usage(run.id) or closed
        if not usage.in_flight or time.monotonic() >= give_up_at:
            return usage
        gevent.sleep(POLL_SECONDS)
