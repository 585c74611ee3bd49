"""Results as Markdown tables, ready for docs/reference/benchmarks.md."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bench.commit import commit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def print_heading(text: str) -> None:
    """Print the heading of a table."""
    print(f"\n### {text}\n", flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table. The first column is aligned to the left, all others to the right."""
    print(markdown_table(columns, rows), flush=True)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Return a table. The first `left` columns are aligned to the left, all others to the right."""
    alignments = ["---"] * left + ["---:"] * (len(columns) - left)
    head = ["| " + " | ".join(cells) + " |" for cells in (columns, alignments)]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows), ""])


def date_and_machine() -> str:
    """The date, the processor, the operating system and the version of Python."""
    return f"{today()}, {machine()}"


def measured_on() -> str:
    """The date, the commit and the machine."""
    return f"{today()}, commit {commit()}, {machine()}"


def today() -> str:
    """The date in UTC, such as 2026-11-30."""
    return datetime.now(UTC).date().isoformat()


def machine() -> str:
    """The processor, the operating system and the version of Python."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.split(": ")[1] for line in cpu.splitlines() if line.startswith("model name")), "?")
    count = cpu.count("processor\t")
    system = f"{platform.system()} {platform.release()}"
    return f"{count} x {model}, {system}, Python {platform.python_version()}"
