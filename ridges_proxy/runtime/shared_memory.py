"""Folders in shared memory, for files that the processes of one server share."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # nosec B108 # noqa: S108 - writes never wait for a disk


def shared_memory_folder() -> Path:
    """Return the system's shared memory, or the folder for temporary files if there is none."""
    return SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())


def make_folder(prefix: str) -> Path:
    """Create a folder named `PREFIX-PID-RANDOM`, which is removed when this process ends.

    Folders that killed processes left behind are removed too.
    """
    parent = shared_memory_folder()
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-{os.getpid()}-", dir=parent))
    atexit.register(_remove, folder, os.getpid())
    for other in parent.glob(f"{prefix}-*-*"):
        pid = other.name.removeprefix(f"{prefix}-").partition("-")[0]
        if not Path("/proc", pid).exists() and Path("/proc/self").exists():
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _remove(folder: Path, owner_pid: int) -> None:
    """Remove the folder, but only in the process that created it: its forks inherit the exit handler."""
    if os.getpid() == owner_pid:
        shutil.rmtree(folder, ignore_errors=True)
