"""The text of an upstream's error response, cleaned so that it can be shown to the caller. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

import orjson

MAX_BYTES = 65_536
"""Largest error of which the text is read. Of an error status no more is received."""

MAX_CHARACTERS = 500

_TEXT_KEYS = ("detail", "error", "message", "msg")
"""Keys of the text: `detail` (Chutes), `error.message` (OpenAI), `msg` (a field's error in FastAPI)."""

MAX_DEPTH = 4

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_PARAM = re.compile(r"[A-Za-z_][A-Za-z0-9_.\[\]-]{0,127}")
"""Short words. A longer text, or one with spaces, may quote the request."""

_OPENAI_NAMES = {"inputs": "input"}
"""Fields that have another name in OpenAI's API: TEI's is plural."""


class ErrorNames(NamedTuple):
    """Code of an error, and the field of the request that it is about, where the upstream names them."""

    code: str | None = None
    param: str | None = None


def read_error_names(body: bytes, secret: str) -> ErrorNames:
    """Return the code and the field that an error response names, as far as they are short words.

    OpenAI, vLLM and others send them beside the message. FastAPI sends the field of each error as `loc`.
    """
    document = _parsed(body)
    if not isinstance(document, dict):
        return ErrorNames()
    places = [each for each in map(document.get, ("error", "detail")) if isinstance(each, dict)]
    places.append(document)
    code = _first(_CODE, [place.get("code") for place in places], secret)
    param = _first(_PARAM, [place.get("param") for place in places] + [_field_of(document)], secret)
    return ErrorNames(code, _OPENAI_NAMES.get(param, param) if param else None)


def _first(pattern: re.Pattern[str], values: list[object], secret: str) -> str | None:
    """Return the first value that is a short word and does not contain the secret."""
    words = (each for each in values if isinstance(each, str) and pattern.fullmatch(each))
    return next((word for word in words if not secret or secret not in word), None)


def _field_of(document: dict[str, object]) -> str | None:
    """Return the field of FastAPI's first error, as OpenAI writes it: `messages[0].content`."""
    problems = document.get("detail")
    problem = problems[0] if isinstance(problems, list) and problems else None
    loc = problem.get("loc") if isinstance(problem, dict) else None
    if not isinstance(loc, list):
        return None
    parts = loc[1:] if loc[:1] == ["body"] else loc
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return path.removeprefix(".")


def read_error_text(body: bytes, secret: str) -> str:
    """Return the error's text on one line, cut short; empty if there is none or if it contains the secret."""
    line = " ".join(_find_text(_parsed(body), MAX_DEPTH).split())
    text = "".join(character for character in line if character.isprintable())
    return "" if secret and secret in text else text[:MAX_CHARACTERS]


def _parsed(body: bytes) -> object:
    """Return the value of an error response; None if it is no JSON, or too large for an error."""
    try:
        return orjson.loads(body) if len(body) <= MAX_BYTES else None
    except orjson.JSONDecodeError:
        return None


def _find_text(value: object, depth: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "; ".join(filter(None, (_find_text(item, depth - 1) for item in value)))
    if isinstance(value, dict) and depth:
        texts = (_find_text(value[key], depth - 1) for key in _TEXT_KEYS if key in value)
        return next(filter(None, texts), "")
    return ""
