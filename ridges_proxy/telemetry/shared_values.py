"""Values of metrics in files that all workers of a server read.

Each worker writes its own files, in the format of prometheus-client. Its own classes for this end the
process: they write to memory that the system may not have (SIGBUS), and fail where the folder has vanished.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from gevent import monkey
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from ridges_proxy.runtime.shared_memory import OwnedFolder, allocated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client import Metric

FIRST_BYTES = 1 << 16
"""Size of a new file, as in prometheus-client. It doubles when it is full."""

GONE = "gone"
"""Takes the place of the PID in the files with the sums of the workers that have ended."""

SUMMED_KINDS = ("counter", "histogram")
"""Kinds of values that stay in the sums when their worker has ended. Gauges end with it."""

READ_ERRORS = (OSError, ValueError, RuntimeError, struct.error)
"""Errors of prometheus-client for files that are missing or damaged."""

LOCK_SECONDS, LOCK_POLL_SECONDS = 1.0, 0.001

FOLD_LOCK = "fold.lock"
"""A file that is locked while the files of a worker are added to the sums."""


_Lock: Any = monkey.get_original("threading", "Lock")
"""The lock of threads, which takes half the time of gevent's. No greenlet switches while it is held."""


class SharedValues:
    """The values of one worker, and the files of all workers.

    A value is kept in this process, too. So it survives when the files cannot be written or have vanished;
    then `failure` says why.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = OwnedFolder(folder)
        self._lock = _Lock()
        self._values: list[_Value] = []
        self._files: dict[str, _AllocatedFile] = {}
        self._start()

    def _start(self) -> None:
        """Start in this process: a fork inherits the values of its parent, but counts its own."""
        self._pid = os.getpid()
        self.failure: OSError | None
        for value in self._values:
            value.number = 0.0
        self._open()
        fold(self._folder.path, self._pid)  # a worker that was killed may have had the same PID

    def value_class(self) -> type:
        """Return the class that prometheus-client uses for each value of its metrics."""
        return type("SharedValue", (_Value,), {"shared": self})

    def add(self, value: _Value) -> None:
        """Write a new value, as 0."""
        with self._lock:
            self._check_process()
            self._values.append(value)
            self._write(value)

    def change(self, value: _Value, amount: float, *, is_added: bool, timestamp: float = 0.0) -> None:
        """Set a value, or add to it."""
        with self._lock:
            if self._pid != os.getpid():
                self._start()
            value.number = value.number + amount if is_added else amount
            value.timestamp = timestamp
            if value.file is not None and self.failure is None:
                value.file.write_at(value.position, value.number, timestamp)
            else:
                self._write(value)

    def check(self) -> None:
        """Make the folder and the files again if they have vanished or could not be written."""
        with self._lock:
            self._check_process()
            if self.failure is None and self._folder.is_held():
                return
            self._open()
            for value in self._values:
                if self.failure is None:
                    self._write(value)

    def close(self) -> None:
        """Close the files of this process. The next change of a value opens them again."""
        for value in self._values:
            value.file = None
        for file in self._files.values():
            file.close()  # type: ignore[no-untyped-call] # no types
        self._files = {}

    def collect(self) -> list[Metric]:
        """Return the metrics of all workers. Raises one of READ_ERRORS."""
        with _fold_lock(self._folder.path, fcntl.LOCK_SH):
            return list(MultiProcessCollector(None, str(self._folder.path)).collect())  # type: ignore[no-untyped-call] # no types

    def _check_process(self) -> None:
        """Start again after a fork: the parent writes to the files that this process has inherited."""
        if self._pid != os.getpid():
            self._start()

    def _open(self) -> None:
        """Hold the folder. All values are then to be written to new files in it."""
        self.failure = None
        self.close()
        try:
            if not self._folder.is_held():
                self._folder.hold()
        except OSError as error:
            self.failure = error

    def _write(self, value: _Value) -> None:
        if self.failure is not None:
            return
        try:
            file = self._files.get(value.kind)
            if file is None:
                path = self._folder.path / f"{value.kind}_{self._pid}.db"
                file = self._files[value.kind] = _AllocatedFile(path)
            file.write_value(value.key, value.number, value.timestamp)  # type: ignore[no-untyped-call] # no types
            value.file, value.position = file, file.position_of(value.key)
        except OSError as error:
            self.failure = error


_NUMBERS = struct.Struct("dd")
"""The number of a value and its timestamp, in the format of prometheus-client."""


class _Value:
    """One number of a metric, with the methods that prometheus-client calls."""

    _multiprocess = True
    shared: SharedValues

    def __init__(  # noqa: PLR0913, PLR0917 - the parameters are prometheus-client's
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: list[str],
        labelvalues: list[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,  # noqa: ANN401 - as above
    ) -> None:
        self.kind = f"{typ}_{multiprocess_mode}" if typ == "gauge" else typ
        self.key = mmap_key(metric_name, name, labelnames, labelvalues, help_text)
        self.number = self.timestamp = 0.0
        self.file: _AllocatedFile | None = None
        self.position = 0
        """Where it is in the file, once it has been written."""
        self.shared.add(self)

    def inc(self, amount: float) -> None:
        self.shared.change(self, amount, is_added=True)

    def set(self, value: float, timestamp: float | None = None) -> None:
        self.shared.change(self, value, is_added=False, timestamp=timestamp or 0.0)

    def get(self) -> float:
        return self.number

    def set_exemplar(self, exemplar: object) -> None:
        """Exemplars are not used."""

    def get_exemplar(self) -> None:
        """Exemplars are not used."""


class _AllocatedFile(MmapedDict):
    """A file of values whose memory is reserved before it is written.

    Without that, a write ends the process with SIGBUS where the file system is full.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file system has no space for it. Then there is no new file.

        The file gets its name with its space: in an empty file, a reader finds no number of used bytes.
        """
        if not path.exists():
            unnamed = path.with_suffix(".allocated")
            try:
                with allocated(unnamed, FIRST_BYTES):
                    unnamed.replace(path)
            except OSError:
                unnamed.unlink(missing_ok=True)
                raise
        super().__init__(str(path))  # type: ignore[no-untyped-call] # no types

    def position_of(self, key: str) -> int:
        """Return where a value is that has been written."""
        position: int = self._positions[key]
        return position

    def write_at(self, position: int, number: float, timestamp: float) -> None:
        """Write a value where it is, in one step. `pack_into` writes zeros first, which a reader may find."""
        self._m[position : position + _NUMBERS.size] = _NUMBERS.pack(number, timestamp)

    def _init_value(self, key: str) -> None:
        needed_bytes = self._used + len(key.encode()) + 32  # the key, its length and padding, two numbers
        if needed_bytes > self._capacity:
            with allocated(self._fname, 2 * self._capacity):
                pass  # the library writes to it
        super()._init_value(key)  # type: ignore[no-untyped-call] # no types


def fold(folder: Path, pid: int | str) -> None:
    """Add the counts of a worker that has ended to those of all such workers, and remove its files.

    Without space for the sums, its files stay, and are read as before.
    """
    with suppress(*READ_ERRORS), _fold_lock(folder, fcntl.LOCK_EX):
        for gauges in folder.glob(f"gauge_*_{pid}.db"):
            gauges.unlink()
        for kind in SUMMED_KINDS:
            ended = folder / f"{kind}_{pid}.db"
            if ended.exists():
                _add_to_sums(folder / f"{kind}_{GONE}.db", ended)


def _add_to_sums(sums: Path, ended: Path) -> None:
    numbers: dict[str, float] = {}
    for path in filter(os.path.exists, (sums, ended)):
        for key, number, _, _ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call] # no types
            numbers[key] = numbers.get(key, 0.0) + number
    replacement = sums.with_suffix(".new")
    try:
        replacement.unlink(missing_ok=True)
        file = _AllocatedFile(replacement)
        for key, number in numbers.items():
            file.write_value(key, number, 0.0)  # type: ignore[no-untyped-call] # no types
        file.close()  # type: ignore[no-untyped-call] # no types
        replacement.replace(sums)
        ended.unlink()
    except OSError:
        replacement.unlink(missing_ok=True)
        raise


@contextmanager
def _fold_lock(folder: Path, operation: int) -> Iterator[None]:
    """Lock the files of all workers. The lock is held for some milliseconds.

    Raises OSError if there is no folder, and TimeoutError, which is one, if the lock stays taken.
    """
    descriptor = os.open(folder / FOLD_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, operation: int) -> None:
    ends_at = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends_at:
                raise TimeoutError("the files of the metrics are locked") from None
            time.sleep(LOCK_POLL_SECONDS)
