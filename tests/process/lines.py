"""The output of a process, line by line."""

from __future__ import annotations

import functools
import json
import threading
import time
from typing import Any

from tests.process.wire import PATIENCE_SECONDS


class Lines:
    """Collects the lines of a process. Threads can wait for a line."""

    def __init__(self) -> None:
        self.raw: list[str] = []
        self._changed = threading.Condition()
        self._closed = False

    def add(self, line: str) -> None:
        with self._changed:
            self.raw.append(line.rstrip("\n"))
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def matching(self, **fields: object) -> list[dict[str, Any]]:
        """Return the JSON lines that have all these fields with these values."""
        parsed = [json_or_none(line) for line in list(self.raw)]
        return [line for line in parsed if line and all(line.get(k) == v for k, v in fields.items())]

    def wait(self, count: int = 1, **fields: object) -> list[dict[str, Any]]:
        """Wait until at least `count` lines match. Return the matching lines."""
        end = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while len(found := self.matching(**fields)) < count:
                left = end - time.monotonic()
                if left <= 0 or self._closed:
                    raise TimeoutError(f"{len(found)} of {count} log lines with {fields}")
                self._changed.wait(left)
        return found


@functools.lru_cache(10_000)  # a wait looks at all lines again after each new one
def json_or_none(line: str) -> dict[str, Any] | None:
    """Parse a line that is a JSON object."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
