"""Reader of the files that settings are in, or that they name."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_SETTINGS_BYTES = 4 << 20
"""Limit of the settings file, and of each credential: above any list of prices that is accepted."""


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file. Raises OSError if it is another kind of file, or too large.

    A reload would wait for ever for the writer of a named pipe, and read a device until memory is full. The
    server would hear no signal meanwhile.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "It is not a regular file", str(path))
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"It has more than {max_bytes:,} bytes", str(path))
    return content


def read_text(path: Path, max_bytes: int = MAX_SETTINGS_BYTES) -> str:
    """Return the text of a regular file, without the byte order mark that some editors write.

    Raises OSError and UnicodeDecodeError.
    """
    return read_bytes(path, max_bytes).decode("utf-8-sig")


def _open_at_once(path: str, flags: int) -> int:
    """Open a file. A named pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)
