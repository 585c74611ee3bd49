"""The latest calls of all workers, for the dashboard: run, duration, cost; never a message or an answer."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.web.dashboard.shared_lines import SharedLines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_BYTES = 8 << 20
"""Size of each of two files. A call takes about 350 bytes, so at least 24,000 calls are kept. A search
through both files takes 16 ms, during which all other calls of the worker wait."""

MAX_UNWRITTEN = 10_000
"""Calls that are not yet in the file. They are written once a second."""


class RecentCalls:
    """Records the calls of this process, and finds those of all workers."""

    def __init__(self, folder: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._lines = SharedLines(folder and folder / "calls.jsonl", MAX_BYTES)
        self._unwritten: deque[dict[str, Any]] = deque(maxlen=MAX_UNWRITTEN)
        self._clock = clock

    @property
    def failure(self) -> str | None:
        """Why the calls of this worker are not shared."""
        return self._lines.failure

    def record(self, fields: dict[str, Any]) -> None:
        """Record a call by the fields of its log line, which include `run`."""
        self._unwritten.append({"at": self._clock(), **fields})

    def flush(self) -> None:
        """Write the recorded calls to the file. Called once a second."""
        if self._unwritten:
            calls = [self._unwritten.popleft() for _ in range(len(self._unwritten))]
            self._lines.add(
                b"".join(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE) for fields in calls)
            )

    def of_run(self, run_id: str, limit: int) -> list[dict[str, Any]]:
        """The latest calls of a run, newest first; may lack other workers' calls of the last second."""
        self.flush()
        return self.written_of_run(run_id, limit)

    def written_of_run(self, run_id: str, limit: int) -> list[dict[str, Any]]:
        """The same, without a flush: also for another thread."""
        text = b'"run":' + orjson.dumps(run_id)  # occurs in every line of the run, and in no other line
        found = [orjson.loads(line) for line in self._lines.latest_with(text, limit)]
        # Sorted, because each worker writes once a second: the file is not in the order of the calls' ends.
        return sorted(found, key=lambda call: float(call["at"]), reverse=True)
