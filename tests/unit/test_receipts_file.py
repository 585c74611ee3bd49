"""The file with a line of JSON for each forgotten run."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from ridges_proxy.ledger import Kind, MemoryLedger, Run, Sweeper
from ridges_proxy.telemetry import receipts_file
from ridges_proxy.telemetry.metrics import Metrics
from ridges_proxy.telemetry.receipts_file import MAX_LINE_BYTES, MODE, ReceiptsFile, line_of
from ridges_proxy.web.receipt_lines import receipt_writer
from tests.support.clock import Clock
from tests.support.file_mode import mode_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TTL_SECONDS = 600.0
PROCESSES = 4
LINES_EACH = 200


def receipt(run_id: str, *costs: object) -> dict[str, Any]:
    return {"run_id": run_id, "costs": list(costs)}


def lost_counter() -> Counter:
    return Counter("lost", "Lost lines.", registry=CollectorRegistry())


def number(counter: Counter) -> float:
    (metric,) = counter.collect()
    return {sample.name: sample.value for sample in metric.samples}["lost_total"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "receipts.jsonl"


@pytest.fixture
def lost() -> Counter:
    return lost_counter()


@pytest.fixture
def file(path: Path, lost: Counter) -> ReceiptsFile:
    return ReceiptsFile(path, lost)


def ids(path: Path) -> list[str]:
    return [json.loads(line)["run_id"] for line in path.read_text(encoding="ascii").splitlines()]


def test_a_sweep_writes_the_receipt_of_each_run_that_it_forgets(path: Path) -> None:
    clock = Clock()
    ledger = MemoryLedger(TTL_SECONDS, clock)
    hold = ledger.reserve(Run("a", 1_000), Kind.INFERENCE, 300, 300, 60.0, model="m")
    ledger.settle(hold, 300)
    ledger.close(Run("b\n\u2028", 1_000))
    clock.advance(TTL_SECONDS)
    metrics = Metrics()
    sweeper = Sweeper(ledger, 300.0, metrics, clock, receipt_writer(path, metrics))

    sweeper.sweep()
    sweeper.sweep()

    first, second = map(json.loads, path.read_text(encoding="ascii").splitlines())
    assert (first["run_id"], first["ended_by"], first["used_cost_usd"]) == ("a", "idle", 3e-07)
    assert [cost["model"] for cost in first["costs"]] == ["m"]
    assert (second["run_id"], second["ended_by"]) == ("b\n\u2028", "closed")


def test_the_file_is_created_for_its_owner_and_group_whatever_the_umask(
    path: Path, file: ReceiptsFile
) -> None:
    before = os.umask(0o077)
    try:
        file.write([receipt("a")])
    finally:
        os.umask(before)
    assert mode_of(path) == MODE
    path.chmod(0o600)
    file.write([receipt("b")])
    assert (ids(path), mode_of(path)) == (["a", "b"], 0o600)


def test_without_a_receipt_there_is_no_file(path: Path, file: ReceiptsFile) -> None:
    file.write([])
    assert not path.exists()


def test_a_file_that_was_moved_or_deleted_is_created_again(path: Path, file: ReceiptsFile) -> None:
    file.write([receipt("a")])
    moved = path.rename(path.with_suffix(".1"))
    file.write([receipt("b"), receipt("c")])
    path.unlink()
    file.write([receipt("d")])
    path.rename(path.with_suffix(".2"))
    path.touch()
    file.write([receipt("e")])
    assert (ids(moved), ids(path.with_suffix(".2")), ids(path)) == (["a"], ["d"], ["e"])


def test_a_file_that_was_emptied_in_its_place_goes_on_at_its_new_end(path: Path, file: ReceiptsFile) -> None:
    file.write([receipt("a")])
    os.truncate(path, 0)
    file.write([receipt("b")])
    assert ids(path) == ["b"]


def test_a_line_that_cannot_be_written_is_logged_and_counted_and_the_next_one_is_tried(
    path: Path, lost: Counter, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("ridges_proxy"), "propagate", True)
    file = ReceiptsFile(path.parent / "missing" / "receipts.jsonl", lost)
    file.write([receipt("a"), receipt("b")])
    (path.parent / "missing").mkdir()
    file.write([receipt("c")])

    assert ids(path.parent / "missing" / "receipts.jsonl") == ["c"]
    assert number(lost) == 2
    errors = [(record.run, record.error) for record in caplog.records]  # type: ignore[attr-defined] # extra fields
    assert errors == [("a", "No such file or directory"), ("b", "No such file or directory")]


def test_after_an_error_the_file_is_opened_again(
    path: Path, file: ReceiptsFile, lost: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of a network file system that was mounted again stays unusable."""
    fstat: Callable[[int], os.stat_result] = os.fstat
    file.write([receipt("a")])
    stale, opened = file._file, receipts_file._opened

    def failing(number: int) -> os.stat_result:
        if number == stale:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return fstat(number)

    def opened_elsewhere(path: Path) -> int:
        monkeypatch.setattr(os, "fstat", fstat)
        return opened(path)

    monkeypatch.setattr(os, "fstat", failing)
    monkeypatch.setattr(receipts_file, "_opened", opened_elsewhere)
    file.write([receipt("b"), receipt("c")])
    assert (ids(path), number(lost)) == (["a", "c"], 1)


def test_only_a_regular_file_is_written(path: Path, lost: Counter) -> None:
    os.mkfifo(path)
    ReceiptsFile(path, lost).write([receipt("a")])
    ReceiptsFile(path.parent, lost).write([receipt("b")])
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    ReceiptsFile(path, lost).write([receipt("c")])
    os.close(reader)
    assert number(lost) == 3


def test_a_full_disk_costs_the_line_that_it_cut_and_no_other(
    path: Path, file: ReceiptsFile, lost: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    write: Callable[[int, bytes], int] = os.write
    file.write([receipt("a")])
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda file, data: write(file, data[:5]))
        file.write([receipt("b")])
    file.write([receipt("c"), receipt("d")])

    lines = path.read_text(encoding="ascii").splitlines()
    assert lines[1] == '{"run'
    assert [json.loads(lines[number])["run_id"] for number in (0, 2, 3)] == ["a", "c", "d"]
    assert number(lost) == 1


def test_a_line_has_a_limit_and_says_how_many_costs_it_leaves_out() -> None:
    costs = [{"model": f"m{position}", "cost_usd": 1.0} for position in range(3_000)]
    line = line_of(receipt("a", *costs))
    document = json.loads(line)
    kept = document["costs"]
    assert MAX_LINE_BYTES // 2 - 100 < len(line) <= MAX_LINE_BYTES
    assert kept == costs[: len(kept)]
    assert document["costs_left_out"] == 3_000 - len(kept)
    assert "costs_left_out" not in json.loads(line_of(receipt("a", *costs[:10])))
    with pytest.raises(OSError, match="more than 65,536 bytes"):
        line_of(receipt("x" * MAX_LINE_BYTES))


def write_many(path: Path, process: int) -> None:
    file = ReceiptsFile(path, lost_counter())
    for line in range(LINES_EACH):
        file.write([{**receipt(f"{process}-{line}"), "filler": "x" * 5_000}])


def test_workers_write_whole_lines_into_the_same_file(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=write_many, args=(path, number)) for number in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(ids(path)) == sorted(
        f"{one}-{line}" for one in range(PROCESSES) for line in range(LINES_EACH)
    )
