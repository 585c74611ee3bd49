from __future__ import annotations

import json
import sys
import tracemalloc
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.upstream import sse
from ridges_proxy.upstream.sse import MAX_EVENT_BYTES, Event, EventReader
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

BOM = b"\xef\xbb\xbf"
SEPARATORS_THAT_ARE_TEXT = "\u2028\u2029\u0085\x0b\x0c\x1c"


def events_of(stream: bytes) -> list[Event]:
    """The reference: a parser of the complete stream that follows the text of the standard."""
    text = stream.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[Event] = []
    data: list[bytes] = []
    for line in [*text.split(b"\n"), b""]:
        field, _, value = line.partition(b":")
        if not line and data:
            events.append(Event(b"\n".join(data)))
            data = []
        elif line.startswith(b"{"):
            events.append(Event(line, bare=True))
        elif field == b"data":
            data.append(value.removeprefix(b" "))
    return events


def read(pieces: Iterable[bytes]) -> list[Event]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.close()


def cut(stream: bytes, size_bytes: int) -> Iterator[bytes]:
    return (stream[start : start + size_bytes] for start in range(0, len(stream), size_bytes))


texts = st.text(st.sampled_from('ab:{}" é\U0001f600\ufeff' + SEPARATORS_THAT_ARE_TEXT), max_size=6).map(
    str.encode
)
lines = st.one_of(
    st.just(b""),
    st.builds(lambda text: b":" + text, texts),
    st.builds(lambda space, text: b"data:" + space + text, st.sampled_from([b"", b" ", b"  "]), texts),
    st.builds(
        lambda name, text: name + b": " + text, st.sampled_from([b"event", b"id", b"retry", b"dat"]), texts
    ),
    st.sampled_from([b"data", b"data:", b"data: ", b"database: x", b" data: x", b"Data: x", b"[DONE]"]),
    st.builds(lambda text: b'{"error": "' + text + b'"}', texts),
    texts,
)
ends = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r"])
streams = st.builds(
    lambda bom, pairs, last: bom + b"".join(line + end for line, end in pairs) + last,
    st.sampled_from([b"", b"", BOM, BOM + BOM, BOM[:2]]),
    st.lists(st.tuples(lines, ends), max_size=12),
    lines,
)
noise = st.lists(st.sampled_from([b"\r", b"\n", b"data:", b"{", b" ", b":", b"x", BOM]), max_size=30).map(
    b"".join
)


@given(stream=streams | noise, data=st.data())
def test_any_split_of_any_stream_gives_the_events_of_the_complete_stream(
    stream: bytes, data: st.DataObject
) -> None:
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    bounds = zip([0, *places], [*places, len(stream)], strict=True)

    assert read(stream[start:stop] for start, stop in bounds) == events_of(stream)


@given(stream=streams | noise)
@example(BOM + b"data: a\r\n\r\ndata: b\r\rdata: c\n\n")
def test_single_bytes_and_the_complete_stream_give_the_same_events(stream: bytes) -> None:
    assert read(cut(stream, 1)) == read([stream]) == events_of(stream)


def test_a_stream_has_these_events() -> None:
    rows: list[tuple[bytes, list[Event]]] = [
        (b"", []),
        (b"\n\n\r\n\r\r", []),
        (b"data: a\n\n", [Event(b"a")]),
        (b"data:a\n\n", [Event(b"a")]),
        (b"data:  a \n\n", [Event(b" a ")]),
        (b"data: a\r\n\r\n", [Event(b"a")]),
        (b"data: a\r\r", [Event(b"a")]),
        (b"data: a\r\n\ndata: b\n\n", [Event(b"a"), Event(b"b")]),
        (b"data: a\ndata: b\n\n", [Event(b"a\nb")]),
        (b"data: a\n\ndata: b\n\n", [Event(b"a"), Event(b"b")]),
        (b"data: a", [Event(b"a")]),
        (b"data: a\n", [Event(b"a")]),
        (b"data\n\n", [Event(b"")]),
        (b"data:\n\n", [Event(b"")]),
        (b"data:\ndata:\n\n", [Event(b"\n")]),
        (b": ping\n\ndata: a\n\n", [Event(b"a")]),
        (b"data: a\n: ping\ndata: b\n\n", [Event(b"a\nb")]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [Event(b"a")]),
        (b" data: a\nDATA: b\ndatax: c\n\n", []),
        (b'{"error":"x"}', [Event(b'{"error":"x"}', bare=True)]),
        (b'data: a\n\n{"error":"x"}\n', [Event(b"a"), Event(b'{"error":"x"}', bare=True)]),
        (b'data: {"a":1}\n\n', [Event(b'{"a":1}')]),
        (BOM + b"data: a\n\n", [Event(b"a")]),
        (b"data: a\n" + BOM + b"data: b\n\n", [Event(b"a")]),
        ("data: a\u2028b\u0085c\x0bd\x0ce\n\n".encode(), [Event("a\u2028b\u0085c\x0bd\x0ce".encode())]),
        (b"data: \xff\xfe\n\n", [Event(b"\xff\xfe")]),
    ]

    def check(row: tuple[bytes, list[Event]]) -> None:
        stream, expected = row
        assert read([stream]) == expected
        assert read(cut(stream, 1)) == expected

    check_rows(rows, check)


def test_an_event_is_returned_with_the_bytes_that_complete_it() -> None:
    def check(end: bytes) -> None:
        reader = EventReader()

        assert reader.feed(b"data: a" + end) == []
        assert reader.feed(end) == [Event(b"a")]
        assert reader.close() == []

    check_rows([b"\n", b"\r", b"\r\n"], check)


def test_a_line_end_split_between_cr_and_lf_is_one_line_end() -> None:
    reader = EventReader()

    assert reader.feed(b"data: a\r") == []
    assert reader.feed(b"") == []
    assert reader.feed(b"\n") == []
    assert reader.feed(b"data: b\r") == []
    assert reader.feed(b"\n\r") == [Event(b"a\nb")]
    assert reader.feed(b"\ndata: c\r\n\r\n") == [Event(b"c")]
    assert reader.feed(b"data: d\r") == []
    assert reader.feed(b"\ndata: e\n\n") == [Event(b"d\ne")]


def test_a_bare_line_is_returned_with_its_end() -> None:
    reader = EventReader()

    assert reader.feed(b'{"err') == []
    assert reader.feed(b'or":1}') == []
    assert reader.feed(b"\n") == [Event(b'{"error":1}', bare=True)]


def test_bytes_are_unread_until_their_event_is_complete() -> None:
    reader, unread = EventReader(), list[int]()
    for piece in (b": pi", b"ng\n", b"data: ab", b"c\n", b"\n", b"da"):
        reader.feed(piece)
        unread.append(reader.unread_bytes)
    assert unread == [4, 0, 8, 4, 0, 2], "data counts with the newline that may join it to more"


# --- the cost of a long line -------------------------------------------------------------------------------


class RecordedBytes(bytes):
    """Bytes that record each search for line ends. Bytes that are made from them record nothing."""

    searched: list[int]

    def splitlines(self, keepends: bool = False) -> list[bytes]:  # noqa: FBT001, FBT002 - the base class's
        self.searched.append(len(self))
        return super().splitlines(keepends)

    def __add__(self, other: object) -> bytes:
        raise AssertionError("earlier bytes must not be searched again")

    __radd__ = __add__


def allocated_bytes_for(line_bytes: int, piece_bytes: int) -> int:
    """The sum of the peak allocations of all feeds: copied bytes are allocated."""
    pieces = [*cut(b"data: " + b"x" * line_bytes, piece_bytes), b"\n\n"]
    reader = EventReader()
    events: list[Event] = []
    total_bytes = 0
    tracemalloc.start()
    try:
        for piece in pieces:
            before_bytes = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            events += reader.feed(piece)
            total_bytes += max(0, tracemalloc.get_traced_memory()[1] - before_bytes)
    finally:
        tracemalloc.stop()
    assert [len(event.data) for event in events] == [line_bytes]
    return total_bytes


LONG_LINES = [(16 << 10, 1), (256 << 10, 64), (1 << 19, 1000), (1 << 19, 4096), (1 << 19, 65_536)]


def test_a_line_twice_as_long_copies_twice_the_bytes() -> None:
    def check(row: tuple[int, int]) -> None:
        line_bytes, piece_bytes = row
        once_bytes = allocated_bytes_for(line_bytes, piece_bytes)
        twice_bytes = allocated_bytes_for(2 * line_bytes, piece_bytes)

        assert twice_bytes < 2.2 * once_bytes + 10_000

    check_rows(LONG_LINES, check)


def test_each_byte_is_searched_once_for_a_line_end() -> None:
    def check(row: tuple[int, int]) -> None:
        line_bytes, piece_bytes = row
        stream = b"data: " + b"x" * line_bytes + b"\n\n"
        pieces = [RecordedBytes(piece) for piece in cut(stream, piece_bytes)]
        RecordedBytes.searched = []

        read(pieces)

        assert RecordedBytes.searched == list(map(len, pieces))

    check_rows(LONG_LINES, check)


def test_twice_as_many_pieces_take_twice_the_calls() -> None:
    def calls_for(piece_bytes: int, pieces: int) -> int:
        stream = b"data: " + b"x" * pieces * piece_bytes
        reader, parts, calls = EventReader(), list(cut(stream, piece_bytes)), 0

        def count(_frame: FrameType, event: str, _arg: object) -> None:
            nonlocal calls
            calls += event in {"call", "c_call"}

        sys.setprofile(count)
        try:
            for part in parts:
                reader.feed(part)
            reader.close()
        finally:
            sys.setprofile(None)
        return calls

    def check(piece_bytes: int) -> None:
        assert calls_for(piece_bytes, 8000) < 2.1 * calls_for(piece_bytes, 4000)

    check_rows([1, 7, 64], check)


def test_a_line_of_2_mb_is_joined_again() -> None:
    data = json.dumps({"content": "x\u2028é" * 250_000}, ensure_ascii=False).encode()
    assert len(data) > 1_500_000

    for piece_bytes in (64, 65_536, len(data) + 100):
        assert read(cut(b"data: " + data + b"\r\n\r\n", piece_bytes)) == [Event(data)]


# --- limits ------------------------------------------------------------------------------------------------


LIMIT = 1000


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", LIMIT)


def test_the_limit_is_2_mib() -> None:
    assert MAX_EVENT_BYTES == 2 * 1024 * 1024


@pytest.mark.usefixtures("small_limit")
def test_a_line_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    def check(row: tuple[bytes, int]) -> None:
        start, piece_bytes = row
        line = start.ljust(LIMIT, b"y")

        read(cut(line + b"\n\n", piece_bytes))
        with pytest.raises(UpstreamBrokenError):
            read(cut(line + b"y\n\n", piece_bytes))

    check_rows(product([b"data: ", b"{", b": ", b"event: ", b"x"], [1, 100, 999, 1000, 5000]), check)


@pytest.mark.usefixtures("small_limit")
def test_an_unfinished_line_is_refused_before_it_ends() -> None:
    reader = EventReader()
    reader.feed(b"y" * LIMIT)

    with pytest.raises(UpstreamBrokenError):
        reader.feed(b"y")


@pytest.mark.usefixtures("small_limit")
def test_the_lines_of_one_event_count_together_with_the_newlines_between_them() -> None:
    stream = b"data: " + b"y" * 499 + b"\n" + b"data: " + b"y" * 500 + b"\n"

    def check(piece_bytes: int) -> None:
        assert [len(event.data) for event in read(cut(stream + b"\n", piece_bytes))] == [LIMIT]
        with pytest.raises(UpstreamBrokenError):
            read(cut(stream + b"data\n\n", piece_bytes))

    check_rows([1, 100, 5000], check)


@pytest.mark.usefixtures("small_limit")
def test_an_event_above_the_limit_is_refused_before_it_ends() -> None:
    reader = EventReader()
    reader.feed(b"data: " + b"y" * 499 + b"\n" + b"data: " + b"y" * 500 + b"\n")

    with pytest.raises(UpstreamBrokenError):
        reader.feed(b"data\n")


@pytest.mark.usefixtures("small_limit")
def test_lines_without_data_count_as_well() -> None:
    assert read([b"data\n" * (LIMIT + 1) + b"\n"]) == [Event(b"\n" * LIMIT)]
    with pytest.raises(UpstreamBrokenError):
        read([b"data\n" * (LIMIT + 2)])


@pytest.mark.usefixtures("small_limit")
def test_several_events_do_not_count_together() -> None:
    events = [
        b"data: " + b"y" * 900 + b"\n\n",
        b"data: " + b"y" * 90 + b"\n" + b"data: " + b"y" * 900 + b"\n\n",
    ]

    assert len(read(cut(b"".join(events * 3), 333))) == 6
