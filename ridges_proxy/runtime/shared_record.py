"""A record in memory that one process writes and the processes that it forks read."""

from __future__ import annotations

import mmap
import struct
import zlib

HEAD = struct.Struct("<QI")
"""Length and checksum of the content."""


class SharedRecord:
    """One content of bytes. The memory is taken only when it is used."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._memory = mmap.mmap(-1, HEAD.size + max_bytes)

    def write(self, content: bytes) -> bool:
        """Replace the content. Returns False if it is too large: then the previous content stays."""
        if len(content) > self._max_bytes:
            return False
        self._memory[HEAD.size : HEAD.size + len(content)] = content
        self._memory[: HEAD.size] = HEAD.pack(len(content), zlib.crc32(content))
        return True

    def read(self) -> bytes | None:
        """Return the content; None while another process writes."""
        length, checksum = HEAD.unpack(self._memory[: HEAD.size])
        content = self._memory[HEAD.size : HEAD.size + length]
        return content if zlib.crc32(content) == checksum else None
