"""The latest calls of all workers, for the dashboard: run, duration, cost; never a message or an answer."""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.errors import UpstreamRejectedError
from ridges_proxy.runtime.cooperative import pause
from ridges_proxy.web.dashboard.shared_lines import SharedLines, lines_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_BYTES = 8 << 20
"""Size of each of two files. A call takes about 350 bytes, so at least 24,000 calls are kept."""

MAX_UNWRITTEN = 10_000
"""Calls that are not yet in the file. They are written once a second."""


ERRORS, OK, UPSTREAM = "errors", "ok", "upstream-failures"
"""Values of a search's `code`: calls that ended with any error, calls without one, and calls whose error is
the fault of the upstream. None of them is a code."""

UPSTREAM_CODES = "upstream_"
"""The beginning of the codes of errors at the upstream."""

_CODE_TEXTS = {"": b"", ERRORS: b'"', OK: b"null", UPSTREAM: b'"' + UPSTREAM_CODES.encode()}
_REJECTED = b'"code":' + orjson.dumps(UpstreamRejectedError.code)

DISORDER_SECONDS = 5.0
"""A later line may be of a call that ended up to this time earlier. Each worker writes once a second."""


@dataclass(frozen=True, slots=True)
class CallQuery:
    """A search for recent calls. Empty texts match all calls."""

    request: str = ""
    """The id of the request, or its beginning."""
    code: str = ""
    """The code of the error, or ERRORS, or OK."""
    run: str = ""
    model: str = ""
    before: float = math.inf
    """Only calls that ended before this time, in seconds since the epoch."""
    limit: int = 50

    def texts(self) -> list[bytes]:
        """Texts that occur in the lines of the calls that match, and in no other line, the rarest first.

        They begin with the name of a field in quotes. Inside a value, quotes are escaped.
        """
        wanted = {
            b'"request_id":': orjson.dumps(self.request)[:-1] if self.request else b"",
            b'"run":': orjson.dumps(self.run) if self.run else b"",
            b'"code":': _CODE_TEXTS.get(self.code, orjson.dumps(self.code)),
            b'"model":': orjson.dumps(self.model) if self.model else b"",
        }
        return [name + value for name, value in wanted.items() if value]

    def other_text(self) -> bytes | None:
        """A text that occurs in lines that have all of `texts` and still do not match."""
        return _REJECTED if self.code == UPSTREAM else None


@dataclass(frozen=True, slots=True)
class CallPage:
    """One page of recent calls, newest first."""

    calls: list[dict[str, Any]]
    has_older: bool


class RecentCalls:
    """Records the calls of this process, and finds those of all workers."""

    def __init__(self, folder: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._lines = SharedLines(folder and folder / "calls.jsonl", MAX_BYTES)
        self._unwritten: deque[bytes] = deque(maxlen=MAX_UNWRITTEN)
        self._clock = clock

    @property
    def failure(self) -> str | None:
        """Why the calls of this worker are not shared."""
        return self._lines.failure

    def record(self, fields: dict[str, Any]) -> None:
        """Record a call by the fields of its log line, which include `run`.

        Its line is made here: all lines of a second in one step would take 4 ms, and other calls would wait.
        """
        call = {"at": self._clock(), **fields}
        self._unwritten.append(orjson.dumps(call, option=orjson.OPT_APPEND_NEWLINE))

    def flush(self) -> None:
        """Write the recorded calls to the file. Called once a second."""
        if self._unwritten:
            lines = [self._unwritten.popleft() for _ in range(len(self._unwritten))]
            self._lines.add(b"".join(lines))

    def search(self, query: CallQuery) -> CallPage:
        """The latest calls that match; may lack other workers' calls of the last second.

        A search through all lines takes 20 to 70 ms. Other greenlets run after each block, so every 1.5 ms.
        """
        self.flush()
        found: list[tuple[float, bytes]] = []
        texts, other_text = query.texts(), query.other_text()
        with closing(self._lines.blocks()) as blocks:
            for block in blocks:
                lines = _matching(block, texts, other_text)
                found += [(at, line) for line in lines if (at := _time_of(line)) < query.before]
                found = sorted(found, key=lambda each: -each[0])[: query.limit + 1]
                oldest_line = block[: block.index(b"\n")]
                if len(found) > query.limit and _time_of(oldest_line) < found[-1][0] - DISORDER_SECONDS:
                    break
                pause()
        calls = [orjson.loads(line) for _, line in found[: query.limit]]
        return CallPage(calls, has_older=len(found) > query.limit)

    def of_run(self, run_id: str, limit: int) -> list[dict[str, Any]]:
        """The latest calls of a run, newest first; may lack other workers' calls of the last second."""
        self.flush()
        text = b'"run":' + orjson.dumps(run_id)  # occurs in every line of the run, and in no other line
        found = [orjson.loads(line) for line in self._lines.latest_with(text, limit)]
        # Sorted, because each worker writes once a second: the file is not in the order of the calls' ends.
        return sorted(found, key=lambda call: float(call["at"]), reverse=True)


def is_upstream_failure(code: str) -> bool:
    """Whether the upstream is to blame for the error, and not the request that it rejected."""
    return code.startswith(UPSTREAM_CODES) and code != UpstreamRejectedError.code


def _matching(block: bytes, texts: list[bytes], other_text: bytes | None) -> Iterator[bytes]:
    """The lines of a block that contain all texts, but not the other one."""
    first, *others = texts or [b'{"at":']
    lines = (line for line in lines_with(block, first) if all(text in line for text in others))
    return lines if other_text is None else (line for line in lines if other_text not in line)


def _time_of(line: bytes) -> float:
    """The end of a line's call: `at` is its first field."""
    return float(line[len(b'{"at":') : line.index(b",")])


def with_nanousd(call: dict[str, Any]) -> dict[str, Any]:
    """A call with its cost in nano-USD as well, as the pages show amounts."""
    return {**call, "cost_nanousd": round(call["cost_usd"] * NANOUSD_PER_USD)}
