"""Reader of settings with a structure: JSON, or the path of a JSON or TOML file."""

from __future__ import annotations

import json
import reprlib
import tomllib
from decimal import Decimal, InvalidOperation
from pathlib import Path

from ridges_proxy.config.file_content import read_text

MAX_FILE_CHARACTERS = 1 << 20
MAX_FILE_BYTES = 4 * MAX_FILE_CHARACTERS
"""So many can that number of characters have in UTF-8."""

STARTS_OF_JSON = ("{", "[")


def read_structure(raw: str) -> object:
    """Return the content of JSON or of a file. Numbers are exact: JSON's are Decimals, TOML's also integers.

    Raises ValueError with a text that follows the setting's name.
    """
    try:
        content = raw if raw.startswith(STARTS_OF_JSON) else _content(Path(raw))
        if raw.endswith(".toml"):
            return tomllib.loads(content, parse_float=Decimal)
        return json.loads(
            content, parse_float=Decimal, parse_int=Decimal, object_pairs_hook=_without_duplicates
        )
    except OSError as error:
        raise ValueError(f"names a file that cannot be read: {error.strerror}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except InvalidOperation:
        raise ValueError("has a number with too large an exponent") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"is neither JSON nor the path of a JSON or TOML file: {error}") from None


def _content(path: Path) -> str:
    content = read_text(path, MAX_FILE_BYTES)
    if len(content) > MAX_FILE_CHARACTERS:
        raise ValueError(f"names a file of more than {MAX_FILE_CHARACTERS:,} characters")
    return content


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table: dict[str, object] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"names the key {reprlib.repr(key)} twice")
        table[key] = value
    return table
