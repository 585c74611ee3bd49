from __future__ import annotations

import http.client
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridges_proxy.upstream.http.chunked_body import MAX_LINE_BYTES, MAX_TRAILERS, ChunkedBody

if TYPE_CHECKING:
    from collections.abc import Iterable

END = b"0\r\n\r\n"


class Arriving(io.RawIOBase):
    """A connection on which pieces arrive one after the other."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # what BufferedReader passes
        if not self._pieces:
            return 0
        piece = self._pieces[0][: len(buffer)]
        self._pieces[0] = self._pieces[0][len(piece) :]
        if not self._pieces[0]:
            del self._pieces[0]
        buffer[: len(piece)] = piece
        return len(piece)


def arriving(*pieces: bytes) -> ChunkedBody:
    return ChunkedBody(io.BufferedReader(Arriving(pieces)))


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted(place % (len(stream) + 1) for place in places)
    return [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


def all_of(file: ChunkedBody) -> bytes:
    return b"".join(iter(file.read1, b""))


def as_http_client_reads_it(stream: bytes) -> bytes:
    class Socket:
        def makefile(self, _mode: str) -> io.BytesIO:
            return io.BytesIO(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + stream)

    answer = http.client.HTTPResponse(Socket())  # type: ignore[arg-type] # all that it asks of a socket
    answer.begin()
    return answer.read()


chunks = st.builds(
    lambda data, size, extension, end: (size % len(data)).encode() + extension + end + data + end,
    st.binary(min_size=1, max_size=40),
    st.sampled_from(["%x", "%X", "0%x", "%04X"]),
    st.sampled_from([b"", b" ", b"; name=value", b';name="a, b"', b" \t;x"]),
    st.just(b"\r\n"),
)
trailers = st.sampled_from([b"", b"Digest: x\r\n", b"A: 1\r\nB: 2\r\n"])
bodies = st.builds(
    lambda services, size, ends: b"".join(services) + size + b"\r\n" + ends + b"\r\n",
    st.lists(chunks, max_size=8),
    st.sampled_from([b"0", b"000", b"0;last"]),
    trailers,
)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(stream=bodies, places=st.lists(st.integers(0, 500), max_size=12))
def test_any_body_cut_anywhere_reads_as_http_client_reads_it(stream: bytes, places: list[int]) -> None:
    assert all_of(arriving(*cut(stream, places))) == as_http_client_reads_it(stream)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(stream=bodies, place=st.integers(0, 500))
def test_a_body_that_breaks_off_anywhere_is_incomplete(stream: bytes, place: int) -> None:
    with pytest.raises(http.client.IncompleteRead):
        all_of(arriving(stream[: place % len(stream)]))


@settings(deadline=None, derandomize=True, max_examples=400)
@given(stream=st.lists(st.sampled_from([b"0", b"5", b"a", b"\r", b"\n", b";", b" ", b"\r\n"])).map(b"".join))
def test_whatever_comes_ends_in_data_or_as_incomplete(stream: bytes) -> None:
    try:
        found = all_of(arriving(stream))
    except http.client.IncompleteRead:
        return
    assert len(found) < len(stream)


def test_one_read_takes_all_chunks_that_have_come() -> None:
    file = arriving(b"2\r\nab\r\n3\r\ncde\r\n1\r\n", b"f\r\n" + END)

    assert file.read1(100) == b"abcde"
    assert file.read1(100) == b"f"
    assert file.read1(100) == b""


def test_a_read_gives_no_more_than_it_was_asked_for() -> None:
    file = arriving(b"5\r\nabcde\r\n" + END)

    assert [file.read1(2), file.read1(0), file.read1(2), file.read1(2), file.read1(2)] == [
        b"ab",
        b"",
        b"cd",
        b"e",
        b"",
    ]


@pytest.mark.parametrize(("size", "found"), [(4, b"abcd"), (5, b"abcde"), (9, b"abcdef"), (-1, b"abcdef")])
def test_a_read_of_a_size_waits_for_all_of_it(size: int, found: bytes) -> None:
    assert arriving(b"3\r\nabc\r\n", b"3\r\ndef\r\n", END).read(size) == found


def test_the_end_is_known_with_the_last_byte_and_nothing_behind_it_is_read() -> None:
    file = arriving(b"1\r\na\r\n" + END)
    assert file.read1() == b"a"

    assert file.at_end


@pytest.mark.parametrize(
    "stream",
    [
        b"-1\r\na\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"1_0\r\n" + b"a" * 16 + b"\r\n",
        b" 1\r\na\r\n",
        b"\r\n1\r\na\r\n",
        b"g\r\n",
        b"1\r\nab\r\n",
        b"1\r\na1\r\nb\r\n",
        b"1\ra\r\n",
        b"f" * 16 + b"\r\n",
        b"1;" + b"x" * MAX_LINE_BYTES,
        b"0\r\nA: " + b"x" * MAX_LINE_BYTES,
        b"0\r\n" + b"A: 1\r\n" * (MAX_TRAILERS + 1) + b"\r\n",
    ],
)
def test_what_is_no_chunk_breaks_the_body_once_all_before_it_has_been_read(stream: bytes) -> None:
    file = arriving(b"3\r\nabc\r\n" + stream, END)
    assert file.read1().startswith(b"abc")

    for _ in range(2):
        with pytest.raises(http.client.IncompleteRead):
            all_of(file)


def test_as_many_trailers_as_are_allowed_pass() -> None:
    assert all_of(arriving(b"1\r\na\r\n0\r\n" + b"A: 1\r\n" * MAX_TRAILERS + b"\r\n")) == b"a"


def test_closing_it_closes_the_file() -> None:
    beneath = io.BufferedReader(Arriving([END]))
    file = ChunkedBody(beneath)
    file.close()

    assert (file.closed, beneath.closed) == (True, True)
