"""Log lines, as JSON or text. They never contain a prompt, an answer, a key or a token."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.telemetry.line_limit import LineLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler

ROOT = "ridges_proxy"
LIBRARIES = ("urllib3", "flask_cors", "redis", "opentelemetry")
"""Libraries whose errors are logged in the same format. Their warnings (a connection is retried, for example)
are dropped: the service's own line for the call has the outcome."""

_BLANK = vars(logging.makeLogRecord({}))
_STANDARD = frozenset(_BLANK) | {"message", "asctime", "taskName"}


class LimitedHandler(_StreamHandler):
    """Writes lines to standard error, and leaves out the repetitions of an error above LINES_PER_SECOND."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(sys.stderr)
        self._limit = LineLimit(clock)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line unless it is left out. First, report those of a second that is over."""
        for line in self._limit.left_out():
            self._write(line)
        if self._limit.admits(record):
            self._write(record)

    def report_left_out(self) -> None:
        """Write how many lines were left out in a second that is over."""
        with self.lock or nullcontext():
            for line in self._limit.left_out():
                self._write(line)

    def _write(self, record: logging.LogRecord) -> None:
        """Write the line as `StreamHandler.emit` does, which takes the handler's lock a second time."""
        try:
            self.stream.write(self.format(record) + self.terminator)
            self.stream.flush()
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001 - as there: a line that cannot be written must not fail its caller
            self.handleError(record)


class EventRecord(logging.LogRecord):
    """A record without its place in the code and its thread, which no line names.

    To find them takes as long as to write the line.
    """

    def __init__(self, name: str, level: int, event: str, fields: dict[str, Any]) -> None:
        self.__dict__.update(_BLANK)
        self.name, self.msg, self.process = name, event, os.getpid()
        self.created = time.time()
        self.msecs = self.created % 1 * 1000
        self.levelno, self.levelname = level, logging.getLevelName(level)
        self.fields = fields
        """What other records have as attributes, among those of logging."""


def configure(level: str, log_format: str, clock: Callable[[], float] = time.monotonic) -> None:
    """Send the service's log lines to standard error. A second call replaces the first."""
    handler = LimitedHandler(clock)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    for name in (ROOT, *LIBRARIES):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level if name == ROOT else logging.ERROR)
        logger.propagate = False


def report_left_out() -> None:
    """Write how many lines were left out. Call it once a second: there may be no next line that does it."""
    for handler in logging.getLogger(ROOT).handlers:
        if isinstance(handler, LimitedHandler):
            handler.report_left_out()


def _origin(error: BaseException | None) -> str:
    """Return an exception's type and last five frames. Its text is left out: it may quote a prompt."""
    if error is None:
        return "unknown"
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    path = " > ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__} at {path}"


def _extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class _FieldsFormatter(logging.Formatter):
    """Replaces the traceback, which contains the exception's text, by its type and frames."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info:
            record.where = _origin(record.exc_info[1])
            record.exc_info = None
            record.exc_text = None
        return self.line(record, record.fields if isinstance(record, EventRecord) else _extra_fields(record))

    def line(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        """Return the line. `fields` are the `extra` fields of the record."""
        raise NotImplementedError


class _JsonFormatter(_FieldsFormatter):
    def line(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        values = {
            "time": _utc(record),
            "level": record.levelname,
            "pid": record.process,
            "logger": record.name,
            "event": record.getMessage(),
            **fields,
        }
        try:
            return orjson.dumps(values, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # orjson cannot write lone surrogates and integers above 64 bits
            return json.dumps(values, default=str)


class _TextFormatter(_FieldsFormatter):
    def line(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        pairs = (f"{key}={_escaped(value)}" for key, value in fields.items() if value is not None)
        return " ".join([_utc(record), record.levelname, record.getMessage(), *pairs])


def _utc(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _escaped(value: Any) -> str:  # noqa: ANN401 - a field may have any type
    """Quote and escape a value unless it is one plain word, so that no value can forge a field."""
    text = str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain and text else json.dumps(text)
