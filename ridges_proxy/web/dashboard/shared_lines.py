"""A file of limited size to which all workers of a server append lines."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import ExitStack, closing, suppress
from io import SEEK_END, BytesIO, FileIO
from typing import TYPE_CHECKING

from ridges_proxy.runtime.shared_memory import reason_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path
    from typing import BinaryIO

BLOCK_BYTES = 256 << 10
"""Size of a block of lines. To look at each of its lines takes about 1 ms."""


class SharedLines:
    """The latest lines, in two files of at most `max_bytes` each.

    When the newer file is full, it replaces the older one. The files are in the folder that a server's
    workers share, in memory, and are removed with the server. Without a path, for a process without a
    server, and while the file cannot be written, the lines are kept in this object. They go to the file
    before the next ones that it takes, so the latest lines are always last.
    """

    def __init__(self, path: Path | None, max_bytes: int) -> None:
        self._path = path
        self._older_path = path and path.with_suffix(".older")
        self._max_bytes = max_bytes
        self._newer, self._older = b"", b""
        self.failure: str | None = None
        """Why the latest lines are in this object only."""

    def add(self, lines: bytes) -> None:
        """Append complete lines, each with its line end."""
        if self._path is not None and self._older_path is not None:
            try:
                self._append(self._path, self._older_path, self._older + self._newer + lines)
            except OSError as error:
                self.failure = reason_of(error)
            else:
                self._newer, self._older = b"", b""
                self.failure = None
                return
        if len(self._newer) + len(lines) > self._max_bytes:
            self._newer, self._older = b"", self._newer
        self._newer += lines

    def _append(self, path: Path, older_path: Path, lines: bytes) -> None:
        """Append to the file all lines or none. Raises OSError without a folder or without space."""
        # The lock is on a separate file. The file of lines is renamed, so a worker that waited for a lock on
        # it would then hold the lock of the older file.
        with path.with_suffix(".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # held for one write to memory, so the wait is short
            _check_space(path.parent, len(lines))
            if path.exists() and path.stat().st_size + len(lines) > self._max_bytes:
                path.replace(older_path)
            with FileIO(path, "a") as file:  # without a buffer, so that the number of written bytes is known
                start = file.tell()
                if file.write(lines) < len(lines):
                    file.truncate(start)
                    raise _no_space()

    def read(self) -> list[bytes]:
        """All complete lines, oldest first."""
        newer, older = self._contents()
        return (older + newer).splitlines()

    def latest_with(self, text: bytes, limit: int) -> list[bytes]:
        """The latest lines that contain `text`, newest first."""
        found: list[bytes] = []
        with closing(self.blocks()) as blocks:
            for block in blocks:
                found += lines_with(block, text)
                if len(found) >= limit:
                    break
        return found[:limit]

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Generator[bytes]:
        """All lines, newest first, in blocks of complete lines, oldest first in a block.

        A block is read when it is needed. Lines that are added in the meantime are not seen.
        """
        with ExitStack() as stack:
            newer, older = self._open(stack)
            for content in (BytesIO(self._newer), newer, BytesIO(self._older), older):
                if content is not None:
                    yield from _blocks_of(content, block_bytes)

    def _open(self, stack: ExitStack) -> tuple[BinaryIO | None, BinaryIO | None]:
        """The newer and the older file, as far as they exist."""
        opened: list[BinaryIO | None] = [None, None]
        for number, path in enumerate((self._path, self._older_path)):
            if path is not None:
                with suppress(OSError):
                    opened[number] = stack.enter_context(path.open("rb"))
        newer, older = opened
        if newer and older and os.path.sameopenfile(newer.fileno(), older.fileno()):
            return newer, None  # it has become the older one in the meantime
        return newer, older

    def _contents(self) -> tuple[bytes, bytes]:
        """The newer and the older lines."""
        newer, older = self._newer, self._older
        if self._path is not None and self._older_path is not None:
            with suppress(OSError):
                newer = _complete(self._path.read_bytes()) + newer
            with suppress(OSError):
                older = self._older_path.read_bytes() + older
        return newer, older


def _check_space(folder: Path, size_bytes: int) -> None:
    """Raise OSError without the space. A write that fails would take it away from others for a moment.

    A file system without a limit has no number of blocks.
    """
    space = os.statvfs(folder)
    if space.f_blocks and space.f_bavail * space.f_frsize < size_bytes:
        raise _no_space()


def _no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def lines_with(block: bytes, text: bytes) -> Iterator[bytes]:
    """The lines of a block that contain the text, the last one first. Searches without splitting lines."""
    end = len(block)
    while (at := block.rfind(text, 0, end)) >= 0:
        end = block.rfind(b"\n", 0, at) + 1
        yield block[end : block.index(b"\n", at)]


def _complete(lines: bytes) -> bytes:
    """The lines without one at their end that has no line end: it is still being written."""
    return lines[: lines.rfind(b"\n") + 1]


def _blocks_of(content: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    """The blocks of one file, of complete lines."""
    end, rest = content.seek(0, SEEK_END), b""
    while end > 0:
        start = max(0, end - block_bytes)
        content.seek(start)
        piece = content.read(end - start) + rest
        begin = (piece.find(b"\n") + 1 or len(piece)) if start else 0  # its first line begins further ahead
        rest, end = piece[:begin], start
        if lines := _complete(piece[begin:]):
            yield lines
