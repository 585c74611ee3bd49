"""The prose of the project is plain technical English: docs, docstrings, comments and messages."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SELF = "tests/unit/test_prose.py"

MAX_DOC_LINE = 120

UNWANTED = {
    "anew": r"\banew\b",
    "as good as": r"\bas good as (absent|none|nothing|any)",
    "befall": r"\bbefall(s|en)?\b",
    "in earnest": r"\bin earnest\b",
    "mend": r"\bmend(s|ed|ing)?\b",
    "no more is said": r"\bno more is said\b|\bsays? no more\b",
    "nobody need": r"\bnobody needs?\b",
    "of ours": r"\bof ours\b",
    "somebody": r"\bsomebody\b",
    "stand-in": r"\bstand-ins?\b",
    "whoever": r"\bwho(m|so)?ever\b",
    "who need not": r"\bwho needs? no",
}

RELATIVE_SUBJECT = re.compile(
    r"(?:^|[.:;] )((?:Who|What) (?!is |are |does |do |did |was |were )[a-z']+ [^.?]*\.)"
)
"""A sentence whose subject is a relative clause: "Who tries keys waits." A question is none."""


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return [
        ROOT / name for name in names if "vendor/" not in name and name != SELF and (ROOT / name).exists()
    ]


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """The comments and strings of a Python file, or the lines of any other file, with their line numbers."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING}:
            yield token.start[0], token.string


def unwanted_in(path: Path) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for line, text in prose_of(path)
        for name, pattern in UNWANTED.items()
        if re.search(pattern, text, re.IGNORECASE)
    ]


def docstrings_of(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def test_unwanted_words_do_not_come_back() -> None:
    files = tracked("*.py", "*.md", "*.yml", "*.lua", "*.html", "*.js", "Makefile", "deploy/*", ".ci/*")
    found = [line for path in files if path.name != "CHANGELOG.md" for line in unwanted_in(path)]

    assert found == []


def test_no_docstring_begins_with_a_relative_clause() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match[1]}"
        for path in tracked("ridges_proxy/*.py", "bench/*.py", "tests/*.py")
        for line, text in docstrings_of(path)
        if (match := RELATIVE_SUBJECT.search(text.splitlines()[0]))
    ]

    assert found == []


def test_lines_of_docs_end_by_120_characters() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number}: {len(line)}"
        for path in tracked("*.md")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > MAX_DOC_LINE and not line.startswith("|")
    ]

    assert long == []


def test_the_search_finds_what_it_looks_for() -> None:
    rows = {
        "The upstream is asked anew.": ["anew"],
        "A helper of ours; Whoever calls it waits.": ["of ours", "whoever"],
        "Recommend the amendment.": [],
    }
    found = {
        text: [name for name, pattern in UNWANTED.items() if re.search(pattern, text, re.IGNORECASE)]
        for text in rows
    }

    assert found == rows
    assert RELATIVE_SUBJECT.search("Who tries keys waits for each answer.")
    assert not RELATIVE_SUBJECT.search("What is wrong? Nothing.")
