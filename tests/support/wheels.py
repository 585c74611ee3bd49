"""The wheels of the project for another Python than that of the tests."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from packaging.markers import Marker

from tests.process.fake_chutes_control import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = "3.13"
"""The Python of Debian 13, and of the image's base."""

DOWNLOAD_SECONDS = 600.0

PINNED = re.compile(r"^(\S+==\S+)(?: ; (.*?))? (\\\n(?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE)
"""A requirement with its marker and its hashes, as `make lock` writes it."""


def requirements() -> str:
    """Return what the project needs at run time and to be built, for any Python."""
    return "".join((ROOT / name).read_text() for name in ("requirements.txt", "requirements-build.txt"))


def download_wheels(folder: Path) -> None:
    """Fill a folder with the exact versions of the requirements that hold for PYTHON.

    pip evaluates the markers for its own Python, so they are evaluated here.
    """
    versions = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
    wanted = folder / "wanted.txt"
    wanted.write_text(
        "".join(
            f"{pinned} {hashes}"
            for pinned, marker, hashes in PINNED.findall(requirements())
            if not marker or Marker(marker).evaluate(versions)
        )
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    chosen = ["--require-hashes", "--only-binary=:all:", f"--python-version={PYTHON}"]
    command = [*pip, *chosen, f"--dest={folder}", "-r", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DOWNLOAD_SECONDS)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-2000:]}"
