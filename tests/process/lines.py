"""What a process wrote, as it comes."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from tests.process.wire import PATIENCE_SECONDS


class Lines:
    """What a process wrote, line by line, and waiting for a line to come."""

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
        """The JSON lines that have all these fields with these values."""
        parsed = [json_or_none(line) for line in list(self.raw)]
        return [line for line in parsed if line and all(line.get(k) == v for k, v in fields.items())]

    def wait(self, count: int = 1, **fields: object) -> list[dict[str, Any]]:
        """Wait until so many lines match."""
        end = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while len(found := self.matching(**fields)) < count:
                left = end - time.monotonic()
                if left <= 0 or self._closed:
                    raise TimeoutError(f"{len(found)} of {count} log lines with {fields}")
                self._changed.wait(left)
        return found


def json_or_none(line: str) -> dict[str, Any] | None:
    """The line's JSON object, if it is one."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
