"""A limit of the lines of a repeated error: a full disk or a dead Redis fails thousands of calls a second."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LINES_PER_SECOND = 10
"""Lines with the same logger, level and message that are written in a second. Further ones are counted."""

WINDOW_SECONDS = 1.0


class LineLimit:
    """Counts the warnings and errors of each second, and says which of them to leave out.

    Lines of a lower level are not limited. The line of a request is one of them: each is the only record of
    its call and its cost, and there are never more of them than requests.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends_at = clock() + WINDOW_SECONDS
        self._lines: Counter[tuple[str, int, str]] = Counter()

    def admits(self, record: logging.LogRecord) -> bool:
        """Count the line. Return whether to write it."""
        if record.levelno < logging.WARNING:
            return True
        key = (record.name, record.levelno, str(record.msg))
        self._lines[key] += 1
        return self._lines[key] <= LINES_PER_SECOND

    def left_out(self) -> list[logging.LogRecord]:
        """Return a line for each message of which lines were left out, once the second is over."""
        if self._clock() < self._ends_at:
            return []
        ended, self._lines = self._lines, Counter()
        self._ends_at = self._clock() + WINDOW_SECONDS
        return [
            logging.makeLogRecord(
                {
                    "name": name,
                    "levelno": level,
                    "levelname": logging.getLevelName(level),
                    "msg": "repeated lines were left out",
                    "repeated": message,
                    "lines": lines - LINES_PER_SECOND,
                }
            )
            for (name, level, message), lines in ended.items()
            if lines > LINES_PER_SECOND
        ]
