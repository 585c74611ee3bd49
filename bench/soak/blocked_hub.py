"""The reports of gevent's monitor of a hub that was blocked."""

from __future__ import annotations

from itertools import islice, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BLOCKED = "appears to be blocked"
END = "Info:"
"""What follows a stack in a report."""

MAX_STACK_LINES = 200


def reports_of(log: Path) -> list[str]:
    """The reports in a server's log: each greenlet that did not switch for too long, and its stack."""
    reports = []
    with log.open(errors="replace") as lines:  # line by line: it has several hundred megabytes
        for line in lines:
            if BLOCKED in line:
                stack = takewhile(lambda each: not each.startswith(END), islice(lines, MAX_STACK_LINES))
                reports.append("".join((line, *stack)))
    return reports
