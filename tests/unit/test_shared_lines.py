from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from ridges_proxy.web.dashboard import shared_lines
from ridges_proxy.web.dashboard.shared_lines import SharedLines
from tests.support.table import check_rows


@pytest.fixture(params=["file", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "lines.jsonl" if request.param == "file" else None


def test_lines_are_read_in_the_order_in_which_they_were_added(path: Path | None) -> None:
    lines = SharedLines(path, 1000)
    assert lines.read() == []
    lines.add(b"one\n")
    lines.add(b"two\nthree\n")
    assert lines.read() == [b"one", b"two", b"three"]


def test_the_oldest_lines_are_dropped_when_the_size_limit_is_reached(path: Path | None) -> None:
    lines = SharedLines(path, 100)
    for number in range(1000):
        lines.add(b"%03d......\n" % number)
    kept = lines.read()
    assert kept == [b"%03d......" % number for number in range(1000)][-len(kept) :]
    assert 10 <= len(kept) <= 20


def test_the_latest_lines_that_contain_a_text_are_found_newest_first(path: Path | None) -> None:
    lines = SharedLines(path, 60)
    for number in range(10):
        lines.add(b"%d one\n%d two\n" % (number, number))
    assert lines.latest_with(b"one", 3) == [b"9 one", b"8 one", b"7 one"]
    kept = [line for line in lines.read() if b"two" in line]
    assert lines.latest_with(b"two", 99) == kept[::-1]
    assert lines.latest_with(b"three", 99) == []
    assert lines.latest_with(b"one", 0) == []


def test_blocks_have_all_complete_lines_newest_first_whatever_their_size(path: Path | None) -> None:
    lines = SharedLines(path, 200)
    lines.add(b"".join(b"%d %s\n" % (number, b"x" * number) for number in range(10)))
    lines.add(b"".join(b"%d %s\n" % (number, b"y" * number) for number in range(10, 14)))
    kept = lines.read()
    assert len(kept) == 14

    def check(block_bytes: int) -> None:
        blocks = list(lines.blocks(block_bytes))
        assert [line for block in reversed(blocks) for line in block.splitlines()] == kept
        assert all(block.endswith(b"\n") for block in blocks)

    check_rows(range(1, 250), check)


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    def check(block_bytes: int) -> None:
        path = tmp_path / f"{block_bytes}.jsonl"
        path.write_bytes(b"one\ntwo\nthre")
        assert list(SharedLines(path, 100).blocks(block_bytes))[-1].startswith(b"one\n")
        assert b"".join(reversed(list(SharedLines(path, 100).blocks(block_bytes)))) == b"one\ntwo\n"
        assert SharedLines(path, 100).read() == [b"one", b"two"]

    check_rows(range(1, 20), check)


def test_a_file_that_becomes_the_older_one_during_a_search_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = SharedLines(tmp_path / "lines.jsonl", 100)
    lines.add(b"one\n")
    opened = Path.open

    def open_and_replace(path: Path, mode: str) -> object:
        file = opened(path, mode)
        if path == tmp_path / "lines.jsonl":
            path.replace(tmp_path / "lines.older")
        return file

    monkeypatch.setattr(Path, "open", open_and_replace)
    assert list(lines.blocks()) == [b"one\n"]


def test_lines_of_many_concurrent_writers_are_complete_and_unique(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: SharedLines(path, 6_000).add(b"%05d\n" % number), range(1500)))
    kept = SharedLines(path, 6_000).read()
    assert len(set(kept)) == len(kept) >= 1000
    assert {len(line) for line in kept} == {5}


def test_a_second_object_reads_the_lines_of_the_first(tmp_path: Path) -> None:
    SharedLines(tmp_path / "lines.jsonl", 100).add(b"one\n")
    assert SharedLines(tmp_path / "lines.jsonl", 100).read() == [b"one"]


def test_lines_stay_in_the_process_while_the_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    lines = SharedLines(folder / "lines.jsonl", 100)
    lines.add(b"one\n")
    assert lines.read() == [b"one"], "without the folder"
    assert lines.failure == "No such file or directory"
    folder.mkdir()
    monkeypatch.setattr(shared_lines, "FileIO", FullFile)
    lines.add(b"two\n")
    assert (folder / "lines.jsonl").read_bytes() == b"", "a part of a line is removed again"
    monkeypatch.undo()
    lines.add(b"three\n")
    assert lines.read() == SharedLines(folder / "lines.jsonl", 100).read() == [b"one", b"two", b"three"]
    assert lines.failure is None


def test_kept_lines_take_no_space_until_there_is_enough_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = SharedLines(tmp_path / "lines.jsonl", 100)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=9, f_bavail=7, f_frsize=1))
    lines.add(b"too long\n")
    assert lines.failure == "No space left on device"
    lines.add(b"four\n")
    assert lines.read() == [b"too long", b"four"]
    assert not (tmp_path / "lines.jsonl").exists()


class FullFile(FileIO):
    """A file with space for one more byte."""

    def write(self, data: bytes, /) -> int:  # type: ignore[override] # bytes are enough here
        return super().write(data[:1])
