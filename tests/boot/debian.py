"""A minimal Debian, and the wheels of the project for its Python. Both are kept between runs."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from packaging.markers import Marker

from tests.process.fake_chutes_control import ROOT
from tests.support.missing import missing

if TYPE_CHECKING:
    from collections.abc import Callable

SUITE = "trixie"
PYTHON = "3.13"
"""Python's version in the suite."""

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "procps", "iproute2", "ca-certificates", "openssl"),
    *("git", "python3-venv", "nginx", "curl"),  # those that deploy/README.md installs
)


def image(cache: Path) -> Path:
    """Return the folder of a Debian that was never booted. The first time, it is downloaded: a minute."""
    program = shutil.which("debootstrap") or missing("debootstrap", "apt install debootstrap")
    command = [program, "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE]
    return _once(cache, SUITE, " ".join(PACKAGES).encode(), lambda folder: _run([*command, str(folder)]))


def wheels(cache: Path) -> Path:
    """Return the folder with the exact versions of requirements.txt, and what builds the project."""
    requirements = ROOT / "requirements.txt"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    pip += ["--only-binary=:all:", "--python-version", PYTHON]

    def download(folder: Path) -> None:
        chosen = folder / requirements.name
        chosen.write_text(_for_python(requirements.read_text()))
        _run([*pip, "--dest", str(folder), "--require-hashes", "-r", str(chosen)])
        _run([*pip, "--dest", str(folder), "--no-deps", "setuptools>=77"])

    return _once(cache, "wheels", PYTHON.encode() + requirements.read_bytes(), download)


def _for_python(requirements: str) -> str:
    """Return the requirements whose markers hold for PYTHON. pip evaluates markers for its own Python."""
    versions = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
    entries = re.findall(r"^\S+==\S+.*\n(?:    .*\n)*", requirements, re.MULTILINE)
    chosen = []
    for entry in entries:
        requirement, separator, rest = entry.partition(" ; ")
        marker, _, hashes = rest.partition(" \\\n")
        if not separator:
            chosen.append(entry)
        elif Marker(marker).evaluate(versions):
            chosen.append(f"{requirement} \\\n{hashes}")
    return "".join(chosen)


def _once(cache: Path, name: str, content: bytes, make: Callable[[Path], None]) -> Path:
    """Return a folder of the cache. It is made again when its content should change."""
    folder = cache / f"{name}-{hashlib.sha256(content).hexdigest()[:8]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache, prefix=f"{name}-") as temporary:
            made = Path(temporary, "made")
            made.mkdir()
            make(made)
            made.rename(folder)
    return folder


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}"
