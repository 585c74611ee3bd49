"""Strict reader of settings files, in the form of `.env`.

A line that sets nothing is an error: it may be a misspelt budget.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from dotenv.parser import parse_stream

from ridges_proxy.config.file_content import read_text

if TYPE_CHECKING:
    from pathlib import Path

    from dotenv.parser import Binding

MAX_PROBLEMS = 20
"""Problems that are reported. A file of another kind may have one in each of a million lines."""


def read(path: Path, name: str, *, may_be_missing: bool) -> tuple[dict[str, str], list[str]]:
    """Return the file's values and its problems by line, which call it by a name. `${…}` is not expanded."""
    try:
        lines = io.StringIO(read_text(path), newline=None)
    except FileNotFoundError as error:
        return {}, [] if may_be_missing else [f"{name} cannot be read: {error.strerror}"]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return {}, [f"{name} cannot be read: {reason}"]
    values: dict[str, str] = {}
    problems: list[str] = []
    for binding in parse_stream(lines):
        if len(problems) == MAX_PROBLEMS:
            problems.append(f"{name} has more problems from line {_line_of(binding)} on")
            break
        if binding.key is None and not binding.error:
            continue  # an empty line or a comment
        if binding.key is None or binding.value is None:
            problems.append(f"line {_line_of(binding)} of {name} is not NAME=value")
        elif binding.key in values:
            problems.append(f"line {_line_of(binding)} of {name} sets {binding.key} again")
        else:
            values[binding.key] = binding.value
    return values, problems


def _line_of(binding: Binding) -> int:
    """Return the line of a binding. dotenv counts from the blank lines before it."""
    text = binding.original.string
    return binding.original.line + len(text) - len(text.lstrip("\n"))
