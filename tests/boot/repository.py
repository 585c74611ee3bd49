"""The repository that the machine clones: the files of this checkout as they are, and releases after it."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from tests.process.fake_chutes_control import ROOT

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = ("-c", "user.name=tests", "-c", "user.email=tests@example.com")


class Repository:
    """A Git repository whose only branch begins with the files of this checkout, committed or not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        names = _git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        folder.mkdir(parents=True)
        for name in names:
            if name and (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "-p", ROOT / name, folder / name], check=True)
        _git(folder, "init", "--quiet", "--initial-branch=main")
        self._commit("This checkout")

    def release(self, version: str) -> None:
        """Commit a new version without another change."""
        project = self._folder / "pyproject.toml"
        text = project.read_text()
        project.write_text(re.sub(r'^version = ".*"', f'version = "{version}"', text, flags=re.MULTILINE))
        self._commit(f"Release {version}")

    def broken_release(self, version: str) -> None:
        """Commit a new version whose code loads, but whose workers do not start."""
        with (self._folder / "ridges_proxy" / "server" / "worker.py").open("a") as module:
            module.write('\nraise RuntimeError("this release is broken")\n')
        self.release(version)

    def take_back(self) -> None:
        """Commit the files as they were before the last release."""
        _git(self._folder, *IDENTITY, "revert", "--no-edit", "HEAD")

    def _commit(self, subject: str) -> None:
        _git(self._folder, "add", "--all")
        _git(self._folder, *IDENTITY, "commit", "--quiet", "--message", subject)


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
