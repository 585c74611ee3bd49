"""Folders in shared memory, for files that the processes of one server share."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED_MEMORY = Path("/dev/shm")  # nosec B108 # noqa: S108 - writes never wait for a disk

OWNER_LOCK = "owner.lock"
"""A file that each process of the server keeps locked. A lock ends with its process, also at `kill -9`, and
counts in all PID namespaces that share the folder."""

UNLOCKED_SECONDS = 60
"""Age from which a folder without a lock counts as left behind. A new folder is locked a moment later."""


def shared_memory_folder() -> Path:
    """Return the system's shared memory, or the folder for temporary files if no file can be made there.

    Raises OSError if there is none either.
    """
    with suppress(OSError), tempfile.TemporaryFile(dir=SHARED_MEMORY):
        return SHARED_MEMORY
    return Path(tempfile.gettempdir())


def make_folder(prefix: str) -> Path:
    """Create a folder named `PREFIX-PID-RANDOM`, which is removed when the last process that holds it ends.

    Processes that are forked later hold it, too. Folders that killed servers left behind are removed as well.
    Raises OSError if no folder can be made.
    """
    parent = shared_memory_folder()
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-{os.getpid()}-", dir=parent))
    atexit.register(_remove_abandoned, folder)  # runs after the handlers that release it, as the first one
    OwnedFolder(folder).hold()
    for other in parent.glob(f"{prefix}-*-*"):
        _remove_abandoned(other)
    return folder


@contextmanager
def allocated(path: Path | str, size_bytes: int) -> Iterator[int]:
    """Open a file, create it if it is missing, and reserve its space. Yields the descriptor.

    New bytes are 0. Without the space, a full folder would later end the process with SIGBUS.
    Raises OSError if the folder has no space for it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
        yield descriptor
    finally:
        os.close(descriptor)


def reason_of(error: OSError) -> str:
    """Return why something failed, without the paths that the error names."""
    return error.strerror or str(error)


class OwnedFolder:
    """A folder that stays while a process of its server holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def hold(self) -> None:
        """Lock the folder for the rest of this process. Make it again if it has vanished. May raise OSError.

        Forked processes share the lock, and it ends with the last of them.
        """
        self.path.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(self.path / OWNER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # another server is about to remove the folder
            os.close(lock)
            raise
        if self._lock is None:
            atexit.register(self._release)
        else:
            os.close(self._lock)
        self._lock = lock

    def is_held(self) -> bool:
        """Return whether the folder is still the one that this process holds."""
        if self._lock is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._lock), (self.path / OWNER_LOCK).stat())
        except OSError:
            return False

    def _release(self) -> None:
        """Close this process's descriptor, when it ends."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _remove_abandoned(folder: Path) -> None:
    """Remove a folder that no process holds."""
    try:
        lock = os.open(folder / OWNER_LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        with suppress(OSError):  # another server may have removed it
            if time.time() - folder.stat().st_mtime > UNLOCKED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
