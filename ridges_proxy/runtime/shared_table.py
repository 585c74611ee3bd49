"""A table of limited size in memory that the workers of a server share."""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY_BYTES = 16
TAG_BYTES = 8
MAX_TAGS = 3

_ENTRY = struct.Struct("<16sII24sI")
"""Key, number, number of tags, tags, checksum of these."""
_USED = struct.Struct("<I")
_USED_OFFSET = _ENTRY.size
ENTRY_BYTES = 64
BUCKET_ENTRIES = 8
BUCKET_BYTES = ENTRY_BYTES * BUCKET_ENTRIES
_USED_OFFSETS = range(_USED_OFFSET, BUCKET_BYTES, ENTRY_BYTES)

TOUCH_SECONDS = 1
"""Precision of the time of last use."""


class Record(NamedTuple):
    """A number, and up to MAX_TAGS tags."""

    number: int
    tags: tuple[bytes, ...]


class SharedTable:
    """Maps keys to records. Where a bucket is full, its least recently used entry is replaced.

    The table is a file in the folder that the workers share, which is in memory and is removed with the
    server. With the path None it is memory of this process. There is no lock: an entry that two workers write
    at the same moment has a wrong checksum, and counts as absent.
    """

    def __init__(
        self, path: Path | None, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create the table, or open the one that another worker has created. With 0 bytes it keeps nothing.

        Raises OSError if the folder has no space for it.
        """
        self._buckets = max_bytes // BUCKET_BYTES
        self._clock = clock
        size_bytes = max(1, self._buckets) * BUCKET_BYTES
        self._memory = mmap.mmap(-1, size_bytes) if path is None else _shared_memory(path, size_bytes)

    @property
    def capacity(self) -> int:
        """The number of records that the table can keep."""
        return self._buckets * BUCKET_ENTRIES

    def get(self, key: bytes) -> Record | None:
        """Return the record of a key, None if there is none."""
        found = self._find(key)
        if found is None:
            return None
        offset, record = found
        self._touch(offset)
        return record

    def put(self, key: bytes, record: Record) -> None:
        """Write the record of a key: over the present one, else over the entry that was unused longest."""
        self.update(key, lambda _: record)

    def update(self, key: bytes, change: Callable[[Record | None], Record]) -> None:
        """Write the record that `change` makes of the present one. It gets None if there is none."""
        if not self._buckets:
            return
        found = self._find(key)
        offset, present = (self._oldest(key), None) if found is None else found
        record = change(present)
        if record == present:
            self._touch(offset)
            return
        tags = b"".join(record.tags).ljust(MAX_TAGS * TAG_BYTES, b"\0")
        head = _ENTRY.pack(key, record.number, len(record.tags), tags, 0)[:-4]
        entry = head + zlib.crc32(head).to_bytes(4, "little") + _USED.pack(int(self._clock()))
        self._memory[offset : offset + len(entry)] = entry

    def _bucket(self, key: bytes) -> int:
        return int.from_bytes(key[:8], "little") % self._buckets * BUCKET_BYTES

    def _find(self, key: bytes) -> tuple[int, Record] | None:
        if not self._buckets:
            return None
        start = self._bucket(key)
        bucket = self._memory[start : start + BUCKET_BYTES]
        at = bucket.find(key)
        while at >= 0:
            if at % ENTRY_BYTES == 0:
                record = _record_of(bucket[at : at + _ENTRY.size])
                return None if record is None else (start + at, record)
            at = bucket.find(key, at + 1)
        return None

    def _oldest(self, key: bytes) -> int:
        start = self._bucket(key)
        used = [_USED.unpack_from(self._memory, start + offset)[0] for offset in _USED_OFFSETS]
        return start + used.index(min(used)) * ENTRY_BYTES

    def _touch(self, offset: int) -> None:
        now = int(self._clock())
        if now - _USED.unpack_from(self._memory, offset + _USED_OFFSET)[0] >= TOUCH_SECONDS:
            _USED.pack_into(self._memory, offset + _USED_OFFSET, now)


def _shared_memory(path: Path, size_bytes: int) -> mmap.mmap:
    """Map a file. Raises OSError if the folder has no space for it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # New bytes are 0, and an entry of zeros is empty. Without its space reserved, a full folder would
        # later end the process with SIGBUS.
        os.posix_fallocate(descriptor, 0, size_bytes)
        return mmap.mmap(descriptor, size_bytes)
    finally:
        os.close(descriptor)


def _record_of(entry: bytes) -> Record | None:
    _, number, count, tags, checksum = _ENTRY.unpack(entry)
    if zlib.crc32(entry[:-4]) != checksum or count > MAX_TAGS:
        return None
    return Record(number, tuple(tags[at : at + TAG_BYTES] for at in range(0, count * TAG_BYTES, TAG_BYTES)))
