"""The commit that is measured, and whether files differ from it."""

from __future__ import annotations

import subprocess

from bench.processes import ROOT

GENERATED_PAGES = ("docs/reference/benchmarks.md", "docs/reference/overspend.md", "docs/reference/proof.md")
"""Pages into which the measurements write their results. They change nothing that is measured."""

CHANGED = "+changes"
"""Behind the commit, if files differ from it."""


def commit(folder: str = str(ROOT)) -> str:
    """Return the commit in ten digits, with `+changes` if files differ from it; "unknown" outside of git."""
    head = _git(folder, "rev-parse", "--short=10", "HEAD").strip()
    return f"{head}{CHANGED if changed_files(folder) else ''}" if head else "unknown"


def changed_files(folder: str = str(ROOT)) -> list[str]:
    """Return the files that differ from the commit, new ones included, without the generated pages."""
    excluded = [f":(exclude){page}" for page in GENERATED_PAGES]
    lines = _git(folder, "status", "--porcelain", "--untracked-files=all", "--", ".", *excluded).splitlines()
    return [line[3:] for line in lines]


def _git(folder: str, *arguments: str) -> str:
    command = ["git", "-C", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
