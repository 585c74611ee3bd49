"""Values of metrics in files that several workers write. Here each worker is an object with its own PID."""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, values

from ridges_proxy.telemetry import shared_values
from ridges_proxy.telemetry.shared_values import FIRST_BYTES, READ_ERRORS, SharedValues, fold

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = FIRST_BYTES // 64
"""More label values than a new file has space for."""


class Worker:
    """The metrics of one worker."""

    def __init__(self, folder: Path, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pid, self._monkeypatch = pid, monkeypatch
        monkeypatch.setattr(os, "getpid", lambda: pid)
        self.shared = SharedValues(folder)
        self._value_class = self.shared.value_class()
        self.act()
        registry = CollectorRegistry()
        self.calls = Counter("calls", "Calls.", ["name"], registry=registry)
        self.open = Gauge("open", "Open calls.", multiprocess_mode="livesum", registry=registry)

    def act(self) -> None:
        """Let this worker's process be the present one."""
        self._monkeypatch.setattr(os, "getpid", lambda: self._pid)
        self._monkeypatch.setattr(values, "ValueClass", self._value_class)

    def add(self, name: str, amount: float = 1) -> None:
        self.act()
        self.calls.labels(name).inc(amount)

    def set_open(self, number: float) -> None:
        self.act()
        self.open.set(number)

    def sums(self) -> dict[str, float]:
        """The sums of all workers by the name of the call, and of the open calls."""
        samples = itertools.chain.from_iterable(family.samples for family in self.shared.collect())
        return {sample.labels.get("name", sample.name): sample.value for sample in samples}


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Worker]]:
    started = [Worker(tmp_path / "folder", pid, monkeypatch) for pid in (70_001, 70_002)]
    yield started
    for worker in started:
        worker.shared.close()


def files(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "folder").glob("*.db")}


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedValues]:
    made = SharedValues(tmp_path)
    yield made
    made.close()


def add(values: SharedValues, label: str) -> None:
    """Count one under a label that is new."""
    counter = values.value_class()("counter", "calls", "calls_total", ["label"], [label], "Calls.")
    counter.inc(1.0)


def counts(values: SharedValues) -> dict[str, float]:
    samples = [sample for family in values.collect() for sample in family.samples]
    return {sample.labels["label"]: sample.value for sample in samples}


def test_files_grow_with_their_memory_reserved(workers: list[Worker], tmp_path: Path) -> None:
    one, other = workers
    for number in range(LABELS):
        one.add(f"name {number}", number)
    assert other.sums() == {"open": 0} | {f"name {number}": number for number in range(LABELS)}
    state = (tmp_path / "folder" / "counter_70001.db").stat()
    assert state.st_size > FIRST_BYTES
    assert state.st_blocks * 512 >= state.st_size, "a hole in the file"


def test_a_value_stays_at_its_place_while_its_file_grows_and_is_opened_again(workers: list[Worker]) -> None:
    one, other = workers
    one.add("early")
    for number in range(LABELS):
        one.add(f"name {number}", number)
    one.add("early")
    one.shared.close()
    one.add("early")
    assert other.sums()["early"] == 3


def test_values_that_find_no_space_are_counted_in_the_process(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers
    one.add("early")

    def allocate(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shared_values, "allocated", allocate)
        for number in range(LABELS):
            one.add(f"name {number}")
        one.add("early")
        assert one.shared.failure is not None
        assert one.calls.labels("early")._value.get() == 2
        one.shared.check()
        assert one.shared.failure is not None, "there is still no space"
    one.shared.check()
    assert one.shared.failure is None
    assert other.sums() == {"open": 0, "early": 2} | {f"name {number}": 1 for number in range(LABELS)}


def test_the_counts_of_ended_workers_stay_and_their_gauges_do_not(
    workers: list[Worker], tmp_path: Path
) -> None:
    one, other = workers
    for worker in workers:
        worker.add("call", 2)
        worker.set_open(3)
    assert other.sums() == {"call": 4, "open": 6}
    for worker, pid in zip(workers, (70_001, 70_002), strict=True):
        worker.add("call", 0.5)
        fold(tmp_path / "folder", pid)
    assert files(tmp_path) == {"counter_gone.db"}
    assert one.sums() == {"call": 5}


def test_a_worker_with_the_pid_of_one_that_was_killed_continues_the_sums(
    workers: list[Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers[0].add("call", 2)
    again = Worker(tmp_path / "folder", 70_001, monkeypatch)
    again.add("call", 3)
    assert again.sums() == {"call": 5, "open": 0}
    again.shared.close()


def test_a_fork_writes_its_new_values_to_its_own_file(shared: SharedValues, tmp_path: Path) -> None:
    add(shared, "parent")
    (file_of_parent,) = tmp_path.glob("counter_*.db")
    written = file_of_parent.read_bytes()
    child = os.fork()
    if not child:
        add(shared, "child")
        os._exit(0)
    os.waitpid(child, 0)
    assert file_of_parent.read_bytes() == written, "two forks would write to the same place"
    assert counts(shared) == {"parent": 1, "child": 1}


def test_a_file_that_a_scrape_finds_has_its_space(
    shared: SharedValues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    allocate = os.posix_fallocate

    def allocating(descriptor: int, offset: int, size_bytes: int) -> None:
        sizes.extend(path.stat().st_size for path in tmp_path.glob("*.db"))
        allocate(descriptor, offset, size_bytes)

    monkeypatch.setattr(os, "posix_fallocate", allocating)
    add(shared, "first")
    assert not sizes, "an empty file was visible"
    assert counts(shared) == {"first": 1}


def test_a_damaged_file_ends_no_process(workers: list[Worker], tmp_path: Path) -> None:
    one, _ = workers
    one.add("call")
    for damage in (b"", b"\xff" * 100, b"\x40\0\0\0\0\0\0\0\x10\0\0\0" + b"x" * 100):
        (tmp_path / "folder" / "counter_70009.db").write_bytes(damage)
        fold(tmp_path / "folder", 70_009)
        with suppress(*READ_ERRORS):
            assert one.sums() == {"call": 1, "open": 0}
