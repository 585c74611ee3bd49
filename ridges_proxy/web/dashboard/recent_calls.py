"""The latest calls of all workers, for the dashboard: whose, how long, at what cost; never what was said."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.web.dashboard.shared_lines import SharedLines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST_BYTES = 8 << 20
"""Of each of two files: a call has some 350 bytes, so at least 24,000 calls are kept. To look through both
takes 16 ms, for which all other calls of the worker wait."""

MOST_WAITING = 10_000
"""Calls that are not yet in the file; they are written once a second."""


class RecentCalls:
    """Remembers the calls of one process, and finds those of all."""

    def __init__(self, folder: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._lines = SharedLines(folder and folder / "calls.jsonl", MOST_BYTES)
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST_WAITING)
        self._clock = clock

    def note(self, fields: dict[str, Any]) -> None:
        """Remember a call by the fields of its log line; among them `run`."""
        self._waiting.append({"at": self._clock(), **fields})

    def flush(self) -> None:
        """Write what has been noted. Once a second."""
        if self._waiting:
            noted = [self._waiting.popleft() for _ in range(len(self._waiting))]
            self._lines.add(
                b"".join(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE) for fields in noted)
            )

    def of_run(self, run_id: str, most: int) -> list[dict[str, Any]]:
        """The latest calls of a run, newest first; another worker's of the last second may be missing."""
        self.flush()
        mark = b'"run":' + orjson.dumps(run_id)  # as it stands in a line of the run, and in no other
        found = [orjson.loads(line) for line in self._lines.latest_with(mark, most)]
        # Each worker writes once a second: what is written later need not have ended later.
        return sorted(found, key=lambda call: float(call["at"]), reverse=True)
