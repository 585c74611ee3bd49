"""Log lines: one JSON object or one line of text each; never a prompt, an answer, a key or a token."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import orjson

ROOT = "ridges_proxy"
LIBRARIES = ("urllib3", "flask_cors", "redis", "opentelemetry")
"""Loggers of libraries whose errors would otherwise stand bare between our lines; what they warn of, such as
a connection tried again, our own line of the call tells."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


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
        return self.line(record, {key: value for key, value in vars(record).items() if key not in _STANDARD})

    def line(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        """Write the line; `fields` are those that came with the record."""
        raise NotImplementedError


class _JsonFormatter(_WithPlaces):
    def line(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        whole = {
            "time": _utc(record),
            "level": record.levelname,
            "pid": record.process,
            "logger": record.name,
            "event": record.getMessage(),
            **fields,
        }
        try:
            return orjson.dumps(whole, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # orjson writes no lone surrogates and nothing above 64 bits; no line may get lost
            return json.dumps(whole, default=str)


class _TextFormatter(_WithPlaces):
    def line(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        told = (f"{key}={_word(value)}" for key, value in fields.items() if value is not None)
        return " ".join([_utc(record), record.levelname, record.getMessage(), *told])


def _utc(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _word(value: Any) -> str:  # noqa: ANN401 - whatever a line's field holds
    """One word of a text line: quoted and escaped unless it is plain, so that no value forges a field."""
    text = str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain and text else json.dumps(text)
