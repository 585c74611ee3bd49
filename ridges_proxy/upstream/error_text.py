"""The text of an upstream's error response, cleaned so that it can be shown to the caller. Pure."""

from __future__ import annotations

import orjson

MAX_CHARACTERS = 500

_TEXT_KEYS = ("detail", "error", "message", "msg")
"""Keys of the text: `detail` (Chutes), `error.message` (OpenAI), `msg` (a field's error in FastAPI)."""

MAX_DEPTH = 4


def read_error_text(body: bytes, secret: str) -> str:
    """Return the error's text on one line, cut short; empty if there is none or if it contains the secret."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    line = " ".join(_find_text(document, MAX_DEPTH).split())
    text = "".join(character for character in line if character.isprintable())
    return "" if secret and secret in text else text[:MAX_CHARACTERS]


def _find_text(value: object, depth: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "; ".join(filter(None, (_find_text(item, depth - 1) for item in value)))
    if isinstance(value, dict) and depth:
        texts = (_find_text(value[key], depth - 1) for key in _TEXT_KEYS if key in value)
        return next(filter(None, texts), "")
    return ""
