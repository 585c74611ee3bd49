"""A file with one line of JSON for each forgotten run, for programs that collect them."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ridges_proxy.runtime.cooperative import Threads
from ridges_proxy.runtime.shared_memory import reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prometheus_client import Counter

    Document = dict[str, Any]

MAX_LINE_BYTES = 65_536
"""Limit of a line: a receipt with the costs of about 500 models."""

MODE = 0o640
"""The group of the service may read: the program that collects the lines."""

OPEN_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
"""Reading is for the last byte. Unlike writing alone, it does not wait for the reader of a named pipe."""

MAX_OPENS = 5
"""Tries to open a file that another program creates and removes meanwhile."""

logger = logging.getLogger(__name__)


class ReceiptsFile:
    """Appends lines to a file, which all workers share. Each line is written at once, at the file's end.

    A file that was moved or deleted is created again. A line that cannot be written is lost: it is logged and
    counted, and the next one is tried.
    """

    def __init__(self, path: Path, lost: Counter) -> None:
        self._path = path
        self._lost = lost
        self._threads = Threads(1)  # a disk may be slow; one thread also keeps the order
        self._file: int | None = None

    def write(self, receipts: Sequence[Document]) -> None:
        """Append a line for each receipt, in a thread. Never raises an OSError."""
        if receipts:
            self._threads.do(lambda: self._write_all(receipts))

    def _write_all(self, receipts: Sequence[Document]) -> None:
        for receipt in receipts:
            try:
                self._append(line_of(receipt))
            except OSError as error:
                self._close()
                self._lost.inc()
                logger.error(  # noqa: TRY400 - the stack says nothing about a full disk
                    "receipt was not written into the file",
                    extra={"run": receipt["run_id"], "error": reason_of(error)},
                )

    def _append(self, line: bytes) -> None:
        file = self._current_file()
        fcntl.flock(file, fcntl.LOCK_EX)  # else the line of another worker looks open while it is written
        try:
            if _has_open_line(file):
                line = b"\n" + line
            if os.write(file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def _current_file(self) -> int:
        """Return the file at the path: it may have been moved or deleted since the last line."""
        if self._file is not None and not _is_at(self._path, self._file):
            self._close()
        if self._file is None:
            self._file = _opened(self._path)
        return self._file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # a file of a network that is gone
                os.close(file)


def line_of(receipt: Document) -> bytes:
    """Return the receipt as one line. If it is too long, it has fewer costs, and says how many are left out.

    Raises OSError if it is too long without any.
    """
    costs = receipt["costs"]
    kept = len(costs)
    while True:
        left_out = {"costs": costs[:kept], "costs_left_out": len(costs) - kept} if kept < len(costs) else {}
        line = json.dumps(receipt | left_out, separators=(",", ":")).encode() + b"\n"
        if len(line) <= MAX_LINE_BYTES:
            return line
        if not kept:
            raise OSError(errno.EMSGSIZE, f"The line has more than {MAX_LINE_BYTES:,} bytes")
        kept //= 2


def _opened(path: Path) -> int:
    """Open the file, or create it with MODE. Raises OSError, also for another kind of file."""
    for _ in range(MAX_OPENS):
        try:
            file = os.open(path, OPEN_FLAGS)
        except FileNotFoundError:
            try:
                file = os.open(path, OPEN_FLAGS | os.O_CREAT | os.O_EXCL, MODE)
            except FileExistsError:
                continue  # another worker has created it meanwhile
            os.fchmod(file, MODE)  # whatever the umask is
        if stat.S_ISREG(os.fstat(file).st_mode):
            return file
        os.close(file)
        raise OSError(errno.EINVAL, "It is not a regular file")
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _has_open_line(file: int) -> bool:
    """Whether the last line has no end: the disk was full, or a process was killed while it wrote."""
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"
