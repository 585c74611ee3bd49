"""A temporary repository with one file, for agents that edit files."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

NAME = "greeting.txt"


def new() -> Path:
    """Create a repository, in a folder that the test deletes."""
    folder = Path(tempfile.mkdtemp())
    (folder / NAME).write_text("hello\n", encoding="utf-8")
    author = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    for arguments in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "Say hello"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


def text_of(folder: Path) -> str:
    """Return the file as it is now."""
    return (folder / NAME).read_text("utf-8")
