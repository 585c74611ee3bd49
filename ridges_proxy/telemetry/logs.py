"""Log lines: one JSON object or one line of text each; never a prompt, an answer, a key or a token."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.orjson import OrjsonFormatter

ROOT = "ridges_proxy"
LIBRARIES = ("urllib3", "flask_cors", "redis", "opentelemetry")
"""Loggers of libraries whose errors would otherwise stand bare between our lines; what they warn of, such as
a connection tried again, our own line of the call tells."""

_FIELDS = {
    "time": "asctime",
    "level": "levelname",
    "pid": "process",
    "logger": "name",
    "event": "message",
}
"""What each JSON line begins with, and what logging calls it."""

_STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def configure(level: str, log_format: str) -> None:
    """Send the service's log lines to standard error, in the given format. May be called again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    for name in (ROOT, *LIBRARIES):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level if name == ROOT else logging.ERROR)
        logger.propagate = False


def _places(error: BaseException | None) -> str:
    """Where an exception was raised and what kind it is, without its text: that may quote a prompt."""
    if error is None:
        return "unknown"
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    path = " > ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__} at {path}"


class _WithPlaces(logging.Formatter):
    """Replaces the traceback, which would show the exception's text, by the places alone."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info:
            record.where = _places(record.exc_info[1])
            record.exc_info = None
            record.exc_text = None
        return super().format(record)


class _JsonFormatter(_WithPlaces, OrjsonFormatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - logging's signature
        return _utc(record)

    def add_fields(
        self,
        log_data: dict[str, Any],
        record: logging.LogRecord,
        message_dict: dict[str, Any],  # noqa: ARG002 - the library's signature
    ) -> None:
        """Put in the fields in their order: as the library finds them, they took as long as all the rest."""
        given = record.__dict__
        log_data |= {name: given[source] for name, source in _FIELDS.items()}
        log_data |= {key: value for key, value in given.items() if key not in _STANDARD_FIELDS}

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        try:
            return super().jsonify_log_record(log_data)
        except TypeError:  # orjson writes no lone surrogates and nothing above 64 bits; no line may get lost
            return json.dumps(log_data, default=str)


class _TextFormatter(_WithPlaces):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - logging's signature
        return _utc(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        given = record.__dict__.items()
        fields = {key: value for key, value in given if key not in _STANDARD_FIELDS and value is not None}
        return " ".join([super().formatMessage(record), *(f"{k}={_word(v)}" for k, v in fields.items())])


def _utc(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _word(value: Any) -> str:  # noqa: ANN401 - whatever a line's field holds
    """One word of a text line: quoted and escaped unless it is plain, so that no value forges a field."""
    text = str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain and text else json.dumps(text)
