"""What the upstream says of a request that it refuses, made fit to show to the caller. Pure."""

from __future__ import annotations

import orjson

MAX_CHARACTERS = 500

_PLACES = ("detail", "error", "message", "msg")
"""Where the words stand: Chutes' own `detail`, OpenAI's `error.message`, FastAPI's `msg` of a field."""

MAX_DEPTH = 4


def refusal_words(body: bytes, secret: str) -> str:
    """The words of a refusal, on one line, cut short; empty if there are none, or if they tell the secret."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    line = " ".join(_words(document, MAX_DEPTH).split())
    words = "".join(letter for letter in line if letter.isprintable())
    return "" if secret in words else words[:MAX_CHARACTERS]


def _words(value: object, depth: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "; ".join(filter(None, (_words(item, depth - 1) for item in value)))
    if isinstance(value, dict) and depth:
        found = (_words(value[place], depth - 1) for place in _PLACES if place in value)
        return next(filter(None, found), "")
    return ""
