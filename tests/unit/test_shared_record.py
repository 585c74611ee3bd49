"""The record that a master shares with its workers."""

from __future__ import annotations

from ridges_proxy.runtime.shared_record import HEAD, SharedRecord


def test_the_last_content_is_read_whole() -> None:
    record = SharedRecord(8)
    assert record.read() == b""
    for content in (b"12345678", b"abc", b""):
        assert record.write(content)
        assert record.read() == content


def test_a_content_that_is_too_large_changes_nothing() -> None:
    record = SharedRecord(8)
    record.write(b"before")
    assert not record.write(b"123456789")
    assert record.read() == b"before"


def test_a_content_that_is_being_written_is_not_read() -> None:
    record = SharedRecord(8)
    record.write(b"before")
    record._memory[HEAD.size] ^= 1
    assert record.read() is None
