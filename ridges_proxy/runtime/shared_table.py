"""A table of limited size in memory that the workers of a server share."""

from __future__ import annotations

import mmap
import struct
import time
import zlib
from typing import TYPE_CHECKING, NamedTuple

from ridges_proxy.runtime.shared_memory import allocated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY_BYTES = 16
TAG_BYTES = 8
MAX_TAGS = 3

ENTRY_BYTES = 64
BUCKET_ENTRIES = 8
BUCKET_BYTES = ENTRY_BYTES * BUCKET_ENTRIES

_RECORD = struct.Struct("<16sII24s")
"""Key, number, number of tags, tags."""
_CHECKSUM_AND_USED = struct.Struct("<II")
"""The checksum of the record, and the time of its last use in seconds."""
_ENTRY = struct.Struct("<16sII24sII")
"""A record with its checksum and the time of its last use. Eight bytes are free."""
_USED = struct.Struct("<I")
_USED_OFFSET = _ENTRY.size - _USED.size
_USED_OF_BUCKET = struct.Struct("<" + f"{_USED_OFFSET}xI{ENTRY_BYTES - _ENTRY.size}x" * BUCKET_ENTRIES)

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
        self.capacity = self._buckets * BUCKET_ENTRIES
        """The number of records that the table can keep."""
        self._clock = clock
        size_bytes = max(1, self._buckets) * BUCKET_BYTES
        self._memory = mmap.mmap(-1, size_bytes) if path is None else _shared_memory(path, size_bytes)

    def get(self, key: bytes) -> Record | None:
        """Return the record of a key, None if there is none."""
        return self._find(key)[1]

    def put(self, key: bytes, record: Record) -> None:
        """Write the record of a key: over the present one, else over the entry that was unused longest."""
        self.update(key, lambda _: record)

    def update(self, key: bytes, change: Callable[[Record | None], Record]) -> None:
        """Write the record that `change` makes of the present one. It gets None if there is none."""
        if not self._buckets:
            return
        offset, present = self._find(key)
        number, tags = record = change(present)
        if record == present:
            return
        if present is None:
            used = _USED_OF_BUCKET.unpack_from(self._memory, offset)
            offset += used.index(min(used)) * ENTRY_BYTES
        packed = _RECORD.pack(key, number, len(tags), b"".join(tags))
        end = _CHECKSUM_AND_USED.pack(zlib.crc32(packed), int(self._clock()))
        self._memory[offset : offset + _ENTRY.size] = packed + end

    def _find(self, key: bytes) -> tuple[int, Record | None]:
        """Return the offset of the entry and its record; without a record, the offset of its bucket."""
        if not self._buckets:
            return 0, None
        start = int.from_bytes(key[:8], "little") % self._buckets * BUCKET_BYTES
        bucket = self._memory[start : start + BUCKET_BYTES]  # bytes.find is faster than mmap.find
        at = bucket.find(key)
        while at >= 0:
            if at % ENTRY_BYTES == 0:
                record = self._read(start + at, bucket[at : at + _ENTRY.size])
                return (start if record is None else start + at), record
            at = bucket.find(key, at + 1)  # the same bytes inside another entry
        return start, None

    def _read(self, offset: int, entry: bytes) -> Record | None:
        """Return the record of an entry, and touch it; None if another worker writes it at this moment."""
        _, number, count, tags, checksum, used = _ENTRY.unpack(entry)
        if zlib.crc32(entry[: _RECORD.size]) != checksum or count > MAX_TAGS:
            return None
        now = int(self._clock())
        if now - used >= TOUCH_SECONDS:
            _USED.pack_into(self._memory, offset + _USED_OFFSET, now)
        if not count:
            return Record(number, ())
        return Record(number, (tags[:8], tags[8:16], tags[16:])[:count])


def _shared_memory(path: Path, size_bytes: int) -> mmap.mmap:
    """Map a file. An entry of zeros is empty. Raises OSError if the folder has no space for it."""
    with allocated(path, size_bytes) as descriptor:
        return mmap.mmap(descriptor, size_bytes)
