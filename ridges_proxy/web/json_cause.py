"""The cause for which a body is no JSON, and its place. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import orjson

_PLAIN_CAUSES = {
    "no low surrogate in string": "a string has a surrogate without its pair",
    "invalid low surrogate in string": "a string has a surrogate without its pair",
    "invalid high surrogate in string": "a string has a surrogate without its pair",
    "failed to allocate memory": "nested too deeply",
    "depth limit exceeded": "nested too deeply",
}
"""Causes in plain English, by orjson's, which have no text of the body."""


def json_cause(error: orjson.JSONDecodeError, body: bytes) -> str:
    """Return the cause with its place, as in `trailing comma is not allowed: line 1 column 7 (char 6)`."""
    try:
        body.decode()
    except UnicodeDecodeError as invalid:  # orjson does not say where
        return f"not valid UTF-8: byte {invalid.start}"
    cause = _PLAIN_CAUSES.get(error.msg, error.msg)
    return f"{cause}: line {error.lineno} column {error.colno} (char {error.pos})"
