"""`.env`: settings in a file, read strictly, as a line that sets nothing may be meant for a cap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dotenv.parser import parse_stream

if TYPE_CHECKING:
    from pathlib import Path

    from dotenv.parser import Binding


def read(path: Path) -> tuple[dict[str, str], list[str]]:
    """What the file sets, nothing put in for `${…}`, and its problems by line; no file sets nothing."""
    try:
        with path.open(encoding="utf-8") as lines:
            bindings = [found for found in parse_stream(lines) if found.error or found.key is not None]
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f".env cannot be read: {error}"]
    values: dict[str, str] = {}
    problems = []
    for found in bindings:
        if found.key is None or found.value is None:
            problems.append(f"line {_line_of(found)} of .env is not NAME=value")
        elif found.key in values:
            problems.append(f"line {_line_of(found)} of .env sets {found.key} again")
        else:
            values[found.key] = found.value
    return values, problems


def _line_of(found: Binding) -> int:
    """The line that the binding stands in; dotenv counts the blank ones before it as its own."""
    text = found.original.string
    return found.original.line + len(text) - len(text.lstrip("\n"))
