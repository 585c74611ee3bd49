"""Results as Markdown, so that what is printed can stand in docs/BENCHMARKS.md."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def heading(text: str) -> None:
    """Begin a table."""
    print(f"\n### {text}\n", flush=True)


def show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; all columns but the first are numbers."""
    print("| " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * (len(columns) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def where_and_when() -> str:
    """The date, the machine and Python."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.split(": ")[1] for line in cpu.splitlines() if line.startswith("model name")), "?")
    count = cpu.count("processor\t")
    today = datetime.now(UTC).date().isoformat()
    system = f"{platform.system()} {platform.release()}"
    return f"{today}, {count} x {model}, {system}, Python {platform.python_version()}"
