"""Workers of one server that accept connections, and the settings that each of them has."""

from __future__ import annotations

import mmap
import os
import struct
import time
from typing import NamedTuple

PLACES = 1024
"""Places for workers. More than there can be at the same time: WORKERS is 256 at most."""

PLACE = struct.Struct("<QQd")


class ServingWorker(NamedTuple):
    """A worker that accepts connections."""

    pid: int
    number: int
    """The number of the settings that it has."""
    began_at: float
    """When it began to serve, in seconds since 1970."""


class ServingWorkers:
    """A table in memory that a master shares with its workers. Each worker writes its own place."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, PLACES * PLACE.size)

    def enter(self, age: int, number: int) -> None:
        """Note that this worker serves with these settings. Its age is gunicorn's count of workers."""
        self._write(age, ServingWorker(os.getpid(), number, time.time()))

    def update(self, age: int, number: int) -> None:
        """Note that this worker has other settings now."""
        self._write(age, self._read(age)._replace(number=number))

    def leave(self, age: int) -> None:
        """Note that a worker accepts no more connections, or has ended."""
        self._write(age, ServingWorker(0, 0, 0.0))

    def all(self) -> list[ServingWorker]:
        """Return the workers that accept connections, the oldest first."""
        found = [self._read(age) for age in range(PLACES)]
        return sorted((worker for worker in found if worker.pid), key=lambda worker: worker.began_at)

    def _read(self, age: int) -> ServingWorker:
        return ServingWorker(*PLACE.unpack_from(self._memory, age % PLACES * PLACE.size))

    def _write(self, age: int, worker: ServingWorker) -> None:
        PLACE.pack_into(self._memory, age % PLACES * PLACE.size, *worker)
