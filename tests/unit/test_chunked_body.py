from __future__ import annotations

import http.client
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.upstream.http.chunked_body import MAX_LINE_BYTES, MAX_TRAILERS, ChunkedBody
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

END = b"0\r\n\r\n"


class Arriving(io.RawIOBase):
    """A connection that receives its pieces one after the other."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # the type that BufferedReader passes
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


def read_all(file: ChunkedBody) -> bytes:
    return b"".join(iter(file.read1, b""))


def read_by_http_client(stream: bytes) -> bytes:
    class Socket:
        def makefile(self, _mode: str) -> io.BytesIO:
            return io.BytesIO(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + stream)

    response = http.client.HTTPResponse(Socket())  # type: ignore[arg-type] # the only method of a socket that is used
    response.begin()
    return response.read()


chunks = st.builds(
    lambda data, size, extension, end: (size % len(data)).encode() + extension + end + data + end,
    st.binary(min_size=1, max_size=40),
    st.sampled_from(["%x", "%X", "0%x", "%04X"]),
    st.sampled_from([b"", b" ", b"; name=value", b';name="a, b"', b" \t;x"]),
    st.just(b"\r\n"),
)
trailers = st.sampled_from([b"", b"Digest: x\r\n", b"A: 1\r\nB: 2\r\n"])
bodies = st.builds(
    lambda parts, size, ends: b"".join(parts) + size + b"\r\n" + ends + b"\r\n",
    st.lists(chunks, max_size=8),
    st.sampled_from([b"0", b"000", b"0;last"]),
    trailers,
)


@given(stream=bodies, places=st.lists(st.integers(0, 500), max_size=12))
def test_any_body_in_any_pieces_is_read_as_by_http_client(stream: bytes, places: list[int]) -> None:
    assert read_all(arriving(*cut(stream, places))) == read_by_http_client(stream)


@given(stream=bodies, place=st.integers(0, 500))
def test_a_body_that_is_cut_anywhere_is_incomplete(stream: bytes, place: int) -> None:
    with pytest.raises(http.client.IncompleteRead):
        read_all(arriving(stream[: place % len(stream)]))


@given(stream=st.lists(st.sampled_from([b"0", b"5", b"a", b"\r", b"\n", b";", b" ", b"\r\n"])).map(b"".join))
def test_any_bytes_are_read_or_incomplete(stream: bytes) -> None:
    try:
        data = read_all(arriving(stream))
    except http.client.IncompleteRead:
        return
    assert len(data) < len(stream)


def test_one_read_returns_all_chunks_that_have_arrived() -> None:
    file = arriving(b"2\r\nab\r\n3\r\ncde\r\n1\r\n", b"f\r\n" + END)

    assert file.read1(100) == b"abcde"
    assert file.read1(100) == b"f"
    assert file.read1(100) == b""


def test_a_read_returns_at_most_its_size() -> None:
    file = arriving(b"5\r\nabcde\r\n" + END)

    assert [file.read1(2), file.read1(0), file.read1(2), file.read1(2), file.read1(2)] == [
        b"ab",
        b"",
        b"cd",
        b"e",
        b"",
    ]


def test_a_read_of_a_size_waits_for_all_of_it() -> None:
    def check(row: tuple[int, bytes]) -> None:
        size, expected = row
        assert arriving(b"3\r\nabc\r\n", b"3\r\ndef\r\n", END).read(size) == expected

    check_rows([(4, b"abcd"), (5, b"abcde"), (9, b"abcdef"), (-1, b"abcdef")], check)


def test_the_end_is_known_with_the_last_byte() -> None:
    file = arriving(b"1\r\na\r\n" + END)
    assert file.read1() == b"a"

    assert file.at_end


def test_an_invalid_chunk_breaks_the_body_after_the_data_before_it() -> None:
    rows = [
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
    ]

    def check(stream: bytes) -> None:
        file = arriving(b"3\r\nabc\r\n" + stream, END)
        assert file.read1().startswith(b"abc")

        for _ in range(2):
            with pytest.raises(http.client.IncompleteRead):
                read_all(file)

    check_rows(rows, check)


def test_the_largest_allowed_number_of_trailers_is_read() -> None:
    assert read_all(arriving(b"1\r\na\r\n0\r\n" + b"A: 1\r\n" * MAX_TRAILERS + b"\r\n")) == b"a"


def test_closing_the_body_closes_the_file() -> None:
    beneath = io.BufferedReader(Arriving([END]))
    file = ChunkedBody(beneath)
    file.close()

    assert (file.closed, beneath.closed) == (True, True)
