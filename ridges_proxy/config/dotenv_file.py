"""Strict reader of `.env` files. A line that sets nothing is an error: it may be a misspelt budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dotenv.parser import parse_stream

if TYPE_CHECKING:
    from pathlib import Path

    from dotenv.parser import Binding


def read(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return the file's values and its problems by line. `${…}` is not expanded. The file may be missing."""
    try:
        with path.open(encoding="utf-8") as lines:
            bindings = [each for each in parse_stream(lines) if each.error or each.key is not None]
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f".env cannot be read: {error}"]
    values: dict[str, str] = {}
    problems = []
    for binding in bindings:
        if binding.key is None or binding.value is None:
            problems.append(f"line {_line_of(binding)} of .env is not NAME=value")
        elif binding.key in values:
            problems.append(f"line {_line_of(binding)} of .env sets {binding.key} again")
        else:
            values[binding.key] = binding.value
    return values, problems


def _line_of(binding: Binding) -> int:
    """Return the line of a binding. dotenv counts from the blank lines before it."""
    text = binding.original.string
    return binding.original.line + len(text) - len(text.lstrip("\n"))
