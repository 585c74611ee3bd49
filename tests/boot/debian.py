"""A minimal Debian, and the wheels of the project for its Python. Both are kept between runs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.support.missing import missing
from tests.support.wheels import PYTHON, download_wheels, requirements

if TYPE_CHECKING:
    from collections.abc import Callable

SUITE = "trixie"
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
    """Return the folder with the wheels that the installation needs."""
    return _once(cache, "wheels", f"{PYTHON}{requirements()}".encode(), download_wheels)


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
