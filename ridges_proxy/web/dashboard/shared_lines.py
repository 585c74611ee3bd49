"""Lines that all workers of a server add to one file, which keeps the latest of them."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class SharedLines:
    """Two files of at most so many bytes: when the newer is full, it takes the older one's place.

    They lie in the folder that a server's workers share, in memory, and go with the server. Outside of one
    (path None) they are in this object.
    """

    def __init__(self, path: Path | None, most_bytes: int) -> None:
        self._path = path
        self._older_path = path and path.with_suffix(".older")
        self._most_bytes = most_bytes
        self._newer, self._older = b"", b""

    def add(self, lines: bytes) -> None:
        """Add whole lines, each with its end."""
        if self._path is None or self._older_path is None:
            if len(self._newer) + len(lines) > self._most_bytes:
                self._newer, self._older = b"", self._newer
            self._newer += lines
            return
        # The lock is on a file that stays: who waits for the lines' own would get that of the older ones.
        with self._path.with_suffix(".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # held for one write to memory: no wait that anybody notices
            if self._path.exists() and self._path.stat().st_size + len(lines) > self._most_bytes:
                self._path.replace(self._older_path)
            with self._path.open("ab") as file:
                file.write(lines)

    def read(self) -> list[bytes]:
        """All lines that are kept, oldest first."""
        newer, older = self._parts()
        return (older + newer).splitlines()

    def latest_with(self, mark: bytes, most: int) -> list[bytes]:
        """The latest lines that have this in them, newest first. No line is looked at but these."""
        found: list[bytes] = []
        for part in self._parts():
            end = len(part)
            while len(found) < most and (at := part.rfind(mark, 0, end)) >= 0:
                end = part.rfind(b"\n", 0, at) + 1
                found.append(part[end : part.find(b"\n", at)])
        return found

    def _parts(self) -> tuple[bytes, bytes]:
        """The newer ones, and the older ones."""
        if self._path is None or self._older_path is None:
            return self._newer, self._older
        older = newer = b""
        with suppress(FileNotFoundError):
            newer = self._path.read_bytes()
        with suppress(FileNotFoundError):
            older = self._older_path.read_bytes()
        return newer, older
