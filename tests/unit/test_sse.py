from __future__ import annotations

import json
import sys
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.upstream import sse
from ridges_proxy.upstream.sse import MAX_EVENT_BYTES, Event, EventReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

BOM = b"\xef\xbb\xbf"
SEPARATORS_THAT_ARE_TEXT = "\u2028\u2029\u0085\x0b\x0c\x1c"


def events_of(stream: bytes) -> list[Event]:
    """The reference: the whole stream at once, in the words of the format's description."""
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


words = st.text(st.sampled_from('ab:{}" é\U0001f600\ufeff' + SEPARATORS_THAT_ARE_TEXT), max_size=6).map(
    str.encode
)
lines = st.one_of(
    st.just(b""),
    st.builds(lambda word: b":" + word, words),
    st.builds(lambda space, word: b"data:" + space + word, st.sampled_from([b"", b" ", b"  "]), words),
    st.builds(
        lambda name, word: name + b": " + word, st.sampled_from([b"event", b"id", b"retry", b"dat"]), words
    ),
    st.sampled_from([b"data", b"data:", b"data: ", b"database: x", b" data: x", b"Data: x", b"[DONE]"]),
    st.builds(lambda word: b'{"error": "' + word + b'"}', words),
    words,
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


@settings(deadline=None, derandomize=True, max_examples=400)
@given(stream=streams | noise, data=st.data())
def test_any_split_of_any_stream_gives_the_events_of_the_whole(stream: bytes, data: st.DataObject) -> None:
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    bounds = zip([0, *places], [*places, len(stream)], strict=True)

    assert read(stream[start:stop] for start, stop in bounds) == events_of(stream)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(stream=streams | noise)
@example(BOM + b"data: a\r\n\r\ndata: b\r\rdata: c\n\n")
def test_byte_by_byte_and_all_at_once_are_the_same(stream: bytes) -> None:
    assert read(cut(stream, 1)) == read([stream]) == events_of(stream)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", []),
        (b"\n\n\r\n\r\r", []),
        (b"data: a\n\n", [Event(b"a")]),
        (b"data:a\n\n", [Event(b"a")]),
        (b"data:  a \n\n", [Event(b" a ")]),
        (b"data: a\r\n\r\n", [Event(b"a")]),
        (b"data: a\r\r", [Event(b"a")]),
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
    ],
)
def test_a_stream_means_these_events(stream: bytes, expected: list[Event]) -> None:
    assert read([stream]) == expected
    assert read(cut(stream, 1)) == expected


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_comes_with_the_bytes_that_complete_it(end: bytes) -> None:
    reader = EventReader()

    assert reader.feed(b"data: a" + end) == []
    assert reader.feed(end) == [Event(b"a")]
    assert reader.close() == []


def test_a_line_end_split_between_cr_and_lf_is_one_line_end() -> None:
    reader = EventReader()

    assert reader.feed(b"data: a\r") == []
    assert reader.feed(b"") == []
    assert reader.feed(b"\n") == []
    assert reader.feed(b"data: b\r") == []
    assert reader.feed(b"\n\r") == [Event(b"a\nb")]
    assert reader.feed(b"\ndata: c\r\n\r\n") == [Event(b"c")]


def test_a_bare_line_waits_for_its_end() -> None:
    reader = EventReader()

    assert reader.feed(b'{"err') == []
    assert reader.feed(b'or":1}') == []
    assert reader.feed(b"\n") == [Event(b'{"error":1}', bare=True)]


# --- the work of a long line -------------------------------------------------------------------------------


class Watched(bytes):
    """Notes whenever it is searched for line ends; what is made of it is watched no more."""

    searched: list[int]

    def splitlines(self, keepends: bool = False) -> list[bytes]:  # noqa: FBT001, FBT002 - the base class's
        self.searched.append(len(self))
        return super().splitlines(keepends)

    def __add__(self, other: object) -> bytes:
        raise AssertionError("what has come before is not to be searched again")

    __radd__ = __add__


def allocated_bytes_for(line_bytes: int, piece_bytes: int) -> int:
    """The sum over all feeds of the most that each allocated: what is copied has to be allocated."""
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


@pytest.mark.parametrize(("line_bytes", "piece_bytes"), LONG_LINES)
def test_a_line_twice_as_long_copies_twice_the_bytes(line_bytes: int, piece_bytes: int) -> None:
    once_bytes = allocated_bytes_for(line_bytes, piece_bytes)
    twice_bytes = allocated_bytes_for(2 * line_bytes, piece_bytes)

    assert twice_bytes < 2.2 * once_bytes + 10_000


@pytest.mark.parametrize(("line_bytes", "piece_bytes"), LONG_LINES)
def test_each_byte_is_searched_once_for_a_line_end(line_bytes: int, piece_bytes: int) -> None:
    stream = b"data: " + b"x" * line_bytes + b"\n\n"
    pieces = [Watched(piece) for piece in cut(stream, piece_bytes)]
    Watched.searched = []

    read(pieces)

    assert Watched.searched == list(map(len, pieces))


@pytest.mark.parametrize("piece_bytes", [1, 7, 64])
def test_twice_as_many_pieces_take_twice_the_calls(piece_bytes: int) -> None:
    def calls_for(pieces: int) -> int:
        stream = b"data: " + b"x" * pieces * piece_bytes
        reader, services, calls = EventReader(), list(cut(stream, piece_bytes)), 0

        def count(_frame: FrameType, event: str, _arg: object) -> None:
            nonlocal calls
            calls += event in {"call", "c_call"}

        sys.setprofile(count)
        try:
            for part in services:
                reader.feed(part)
            reader.close()
        finally:
            sys.setprofile(None)
        return calls

    assert calls_for(8000) < 2.1 * calls_for(4000)


def test_a_line_of_2_mb_is_whole_again() -> None:
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
@pytest.mark.parametrize("piece_bytes", [1, 100, 999, 1000, 5000])
@pytest.mark.parametrize("start", [b"data: ", b"{", b": ", b"event: ", b"x"])
def test_a_line_of_the_limit_passes_and_one_byte_more_does_not(start: bytes, piece_bytes: int) -> None:
    line = start.ljust(LIMIT, b"y")

    read(cut(line + b"\n\n", piece_bytes))
    with pytest.raises(UpstreamBrokenError):
        read(cut(line + b"y\n\n", piece_bytes))


@pytest.mark.usefixtures("small_limit")
def test_an_unfinished_line_is_refused_before_it_ends() -> None:
    reader = EventReader()
    reader.feed(b"y" * LIMIT)

    with pytest.raises(UpstreamBrokenError):
        reader.feed(b"y")


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("piece_bytes", [1, 100, 5000])
def test_the_lines_of_one_event_count_together_with_what_joins_them(piece_bytes: int) -> None:
    stream = b"data: " + b"y" * 499 + b"\n" + b"data: " + b"y" * 500 + b"\n"

    assert [len(event.data) for event in read(cut(stream + b"\n", piece_bytes))] == [LIMIT]
    with pytest.raises(UpstreamBrokenError):
        read(cut(stream + b"data\n\n", piece_bytes))


@pytest.mark.usefixtures("small_limit")
def test_lines_of_no_data_add_up_too() -> None:
    assert read([b"data\n" * (LIMIT + 1) + b"\n"]) == [Event(b"\n" * LIMIT)]
    with pytest.raises(UpstreamBrokenError):
        read([b"data\n" * (LIMIT + 2)])


@pytest.mark.usefixtures("small_limit")
def test_events_do_not_add_up() -> None:
    events = [
        b"data: " + b"y" * 900 + b"\n\n",
        b"data: " + b"y" * 90 + b"\n" + b"data: " + b"y" * 900 + b"\n\n",
    ]

    assert len(read(cut(b"".join(events * 3), 333))) == 6
