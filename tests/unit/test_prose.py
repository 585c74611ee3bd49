"""The prose of the project is plain technical English: docs, docstrings, comments, messages and names."""

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

MAX_LINE = 120

PROSE_FILES = (
    *("*.py", "*.md", "*.lua", "*.html", "*.js", "*.css"),
    *("*.yml", "*.yaml", "pyproject.toml", ".env.example", "Makefile", "deploy/*", ".ci/*"),
)

UNWANTED = {
    "anew": r"\banew\b",
    "as good as": r"\bas good as (absent|none|nothing|any)",
    "befall": r"\bbefall(s|en)?\b",
    "in earnest": r"\bin earnest\b",
    "mend": r"\bmend(s|ed|ing)?\b",
    "no more is said": r"\bno more is said\b|\bsays? no more\b",
    "nobody": r"(?<![/`])\bnobody\b(?![/`\"'{])",  # the id "nobody" of an example is no prose
    "of our own": r"\bof our own\b",
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


STRING_TOKENS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
"""Since Python 3.12 the texts of an f-string are tokens of their own type."""


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return [
        ROOT / name for name in names if "vendor/" not in name and name != SELF and (ROOT / name).exists()
    ]


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """The comments, strings and names of a Python file, or the lines of any other file, with line numbers."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in STRING_TOKENS:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, words_of(node.name)


def words_of(name: str) -> str:
    """Split a name at its underscores and its capitals: `test_it` is "test it", `KeyFile` is "Key File"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ")


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
    found = [
        line for path in tracked(*PROSE_FILES) if path.name != "CHANGELOG.md" for line in unwanted_in(path)
    ]

    assert found == []


def test_no_docstring_begins_with_a_relative_clause() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match[1]}"
        for path in tracked("ridges_proxy/*.py", "bench/*.py", "tests/*.py")
        for line, text in docstrings_of(path)
        if (match := RELATIVE_SUBJECT.search(text.splitlines()[0]))
    ]

    assert found == []


def test_lines_of_docs_and_configuration_end_by_120_characters() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number}: {len(line)}"
        for path in tracked("*.md", ".github/*.yml", "Makefile", "deploy/*")
        if path.suffix != ".json"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > MAX_LINE and not line.startswith("|")
    ]

    assert long == []


def test_the_search_finds_what_it_looks_for() -> None:
    rows = {
        "The upstream is asked anew.": ["anew"],
        "A helper of ours; Whoever calls it waits.": ["of ours", "whoever"],
        "Recommend the amendment.": [],
        words_of("test_the_upstream_asks_anew"): ["anew"],
        words_of("WhoeverAsksError"): ["whoever"],
    }
    found = {
        text: [name for name, pattern in UNWANTED.items() if re.search(pattern, text, re.IGNORECASE)]
        for text in rows
    }

    assert found == rows
    assert RELATIVE_SUBJECT.search("Who tries keys waits for each answer.")
    assert not RELATIVE_SUBJECT.search("What is wrong? Nothing.")
