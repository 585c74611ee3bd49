"""The receipts of forgotten runs as lines of a file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ridges_proxy.ledger import Receipt
from ridges_proxy.telemetry.receipts_file import ReceiptsFile
from ridges_proxy.web.run_json import receipt_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ridges_proxy.ledger import RunUsage
    from ridges_proxy.telemetry.metrics import Metrics


def receipt_writer(path: Path, metrics: Metrics) -> Callable[[Sequence[RunUsage]], None]:
    """Return a function for the sweeper: it appends the JSON of each receipt to the file at `path`."""
    file = ReceiptsFile(path, metrics.receipts_unwritten)

    def write(runs: Sequence[RunUsage]) -> None:
        now = time.time()
        file.write([receipt_json(Receipt(run, now)) for run in runs])

    return write
