"""docs/reference/glossary.md: each word once, in order, with the module that defines it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from tests.support.table import check_rows

GLOSSARY = Path(__file__).parents[2] / "docs" / "reference" / "glossary.md"
ROW = re.compile(r"\| ([^|]+) \| ([^|]+) \| `([\w.]+)`(?: `(\w+)`)? \|")


def rows() -> list[tuple[str, str, str, str | None]]:
    lines = GLOSSARY.read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("| ")][2:]
    found = [ROW.fullmatch(line) for line in table]
    assert all(found), [line for line, match in zip(table, found, strict=True) if not match]
    return [(match[1], match[2], match[3], match[4]) for match in found if match]


def test_each_word_stands_once_in_alphabetical_order() -> None:
    words = [word for word, *_ in rows()]

    assert words == sorted(set(words), key=str.casefold)


def test_each_owner_is_defined_in_its_module() -> None:
    def check(row: tuple[str, str, str, str | None]) -> None:
        module = importlib.import_module(row[2])
        assert row[3] is None or getattr(module, row[3]).__module__ == module.__name__

    check_rows(rows(), check)
