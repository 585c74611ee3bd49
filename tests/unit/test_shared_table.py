"""The table in memory that workers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.runtime.shared_table import (
    BUCKET_BYTES,
    BUCKET_ENTRIES,
    ENTRY_BYTES,
    Record,
    SharedTable,
)
from tests.support.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

KEYS = st.binary(min_size=16, max_size=16)
RECORDS = st.builds(
    Record,
    st.integers(0, (1 << 32) - 1),
    st.lists(st.binary(min_size=8, max_size=8), max_size=3).map(tuple),
)


def key_of(number: int) -> bytes:
    return number.to_bytes(16, "little")


@given(st.dictionaries(KEYS, RECORDS, max_size=8))
def test_a_table_with_space_keeps_each_record(records: dict[bytes, Record]) -> None:
    table = SharedTable(None, 1 << 20)
    for key, record in records.items():
        table.put(key, Record(0, ()))
        table.put(key, record)

    assert {key: table.get(key) for key in records} == records
    assert table.get(b"\xff" * 16) is None or b"\xff" * 16 in records


def test_workers_share_a_file(tmp_path: Path) -> None:
    first, second = (SharedTable(tmp_path / "table", 1 << 16) for _ in range(2))
    first.put(key_of(7), Record(42, (b"run-of-a",)))

    assert second.get(key_of(7)) == Record(42, (b"run-of-a",))
    assert SharedTable(tmp_path / "table", 1 << 16).get(key_of(7)) == Record(42, (b"run-of-a",))
    assert (tmp_path / "table").stat().st_size == 1 << 16


def test_a_full_bucket_loses_its_least_recently_used_entry() -> None:
    clock = Clock()
    table = SharedTable(None, BUCKET_BYTES, clock)
    for number in range(BUCKET_ENTRIES):
        clock.advance(10)
        table.put(key_of(number), Record(number, ()))
    clock.advance(10)
    assert table.get(key_of(0)) == Record(0, ())
    table.put(key_of(100), Record(100, ()))

    present = [number for number in (*range(BUCKET_ENTRIES), 100) if table.get(key_of(number))]
    assert present == [0, *range(2, BUCKET_ENTRIES), 100]


def test_an_entry_that_was_changed_in_part_is_absent(tmp_path: Path) -> None:
    table = SharedTable(tmp_path / "table", BUCKET_BYTES)
    table.put(key_of(1), Record(5, (b"run-of-a",)))
    content = (tmp_path / "table").read_bytes()
    start = content.index(key_of(1)) // ENTRY_BYTES * ENTRY_BYTES
    for offset in range(16, 52):
        with (tmp_path / "table").open("r+b") as file:
            file.seek(start + offset)
            file.write(bytes([content[start + offset] ^ 1]))
        assert table.get(key_of(1)) is None, offset
        (tmp_path / "table").write_bytes(content)
    assert table.get(key_of(1)) == Record(5, (b"run-of-a",))


def test_a_table_of_no_bytes_keeps_nothing() -> None:
    table = SharedTable(None, 0)
    table.put(key_of(1), Record(5, ()))

    assert table.get(key_of(1)) is None
