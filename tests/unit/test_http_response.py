"""Responses of an upstream, by RFC 9112 and 9110: any bytes, in any pieces."""

from __future__ import annotations

from http.client import HTTPException, IncompleteRead
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.upstream.http.head import MAX_FIELDS, MAX_HEAD_BYTES
from ridges_proxy.upstream.http.parser import MAX_FRAMING_BYTES
from ridges_proxy.upstream.http.response import MAX_INTERIM, ResponseReader
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
LENGTH = OK + b"Content-Length: 5\r\n"
HELLO = LENGTH + b"\r\nhello"
SURPLUS = [b"\r\n", b"\n", b"x", b"\0", b"HTTP", HELLO, CHUNKED + b"1\r\nx\r\n" + END, END]


class Connection:
    """A connection that receives its pieces one after the other, and then ends."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.sock = self
        self.pieces = [piece for piece in pieces if piece]
        self.closed = False

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            return b""
        piece, self.pieces[0] = self.pieces[0][:size], self.pieces[0][size:]
        if not self.pieces[0]:
            del self.pieces[0]
        return piece

    def close(self) -> None:
        self.closed = True

    @property
    def is_reusable(self) -> bool:
        """Whether the pool uses it again: it drops a connection that has received more."""
        return not (self.closed or self.pieces)


def read_head(*pieces: bytes, written: bool = True) -> tuple[ResponseReader, Connection]:
    connection = Connection(pieces)
    return ResponseReader(cast("Any", connection), is_request_written=written), connection


def read(*pieces: bytes) -> tuple[int, bytes, bool]:
    """Return the status, the body, and whether the connection may be used again."""
    response, connection = read_head(*pieces)
    body = response.read()
    assert response.closed
    return response.status, body, connection.is_reusable


def result(pieces: Iterable[bytes]) -> tuple[object, ...]:
    """Return all that a response shows: also the body before an error, and the error's kind."""
    connection = Connection(pieces)
    body = b""
    try:
        response = ResponseReader(cast("Any", connection), is_request_written=True)
    except HTTPException:
        assert connection.closed
        return ("no head",)
    try:
        while piece := response.read1():
            body += piece
    except IncompleteRead:
        response.close()
        assert connection.closed
        return response.status, list(response.headers.items()), body, "cut"
    return response.status, list(response.headers.items()), body, connection.is_reusable


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted(place % (len(stream) + 1) for place in places)
    return [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


# --- heads -------------------------------------------------------------------------------------------------

HEADS_WITH_HELLO = {
    "a length": (LENGTH, True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 5\r\n", True),
    "a reason in Latin-1": (b"HTTP/1.1 200 caf\xe9 \t\r\nContent-Length: 5\r\n", True),
    "no space before a value": (OK + b"content-length:5\r\n", True),
    "space around a value": (OK + b"CONTENT-LENGTH: \t 5 \t\r\n", True),
    "zeros before a length": (OK + b"Content-Length: 005\r\n", True),
    "a higher minor version": (b"HTTP/1.2 200 OK\r\nContent-Length: 5\r\n", True),
    "a length twice": (LENGTH + b"Content-Length: 5\r\n", True),
    "a length twice in a list": (OK + b"Content-Length: 5, 5\r\n", True),
    "a length three times": (LENGTH + b"content-length: 05 ,5\r\nX: y\r\n", True),
    "a folded field": (LENGTH + b"X-Long: a\r\n  b\r\n\tc\r\n", True),
    "a folded length": (OK + b"Content-Length:\r\n 5\r\n", True),
    "a folded line that is empty": (LENGTH + b"X: a\r\n \r\n", True),
    "a length in the folded part of another field": (LENGTH + b"X: a\r\n Content-Length: 6\r\n", True),
    "an upgrade offered": (LENGTH + b"Connection: upgrade\r\nUpgrade: h2c\r\n", True),
    "keep-alive": (LENGTH + b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", True),
    "an option that only begins as close": (LENGTH + b"Connection: closed\r\n", True),
    "close": (LENGTH + b"Connection: close\r\n", False),
    "close in capitals": (LENGTH + b"CONNECTION: Close \r\n", False),
    "close in a list": (LENGTH + b"Connection: x ,close,y\r\n", False),
    "close beside keep-alive": (LENGTH + b"Connection: keep-alive, close\r\n", False),
    "close in a second field": (LENGTH + b"Connection: keep-alive\r\nConnection: close\r\n", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", False),
    "HTTP/1.0 with keep-alive": (LENGTH.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n", False),
    "no length": (OK, False),
    "no length but keep-alive": (OK + b"Connection: keep-alive\r\n", False),
}

INVALID_HEADS = {
    "nothing": b"",
    "an empty line": b"\r\n\r\n",
    "an empty line before it": b"\r\n" + OK + b"\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "letters as status": b"HTTP/1.1 abc\r\n\r\n",
    "a short status": b"HTTP/1.1 20 OK\r\n\r\n",
    "a low status": b"HTTP/1.1 099 Low\r\n\r\n",
    "a long status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "a tab": b"HTTP/1.1\t200 OK\r\n\r\n",
    "small letters": b"http/1.1 200 OK\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "the end of the connection after a line": OK,
    "the end of the connection after a field": OK + b"A: 1\r\n",
    "the end of the connection in a field": OK + b"A: 1",
    "lines that end with LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "a field that ends with LF": OK + b"A: 1\nContent-Length: 0\r\n\r\n",
    "an empty line that ends with LF": OK + b"Content-Length: 0\r\n\n",
    "CR in a value": OK + b"A: 1\r2\r\n\r\n",
    "NUL in a value": OK + b"A: 1\x002\r\n\r\n",
    "a field without a colon": OK + b"no field\r\n\r\n",
    "a field without a name": OK + b": nameless\r\n\r\n",
    "space behind a name": OK + b"Content-Length : 5\r\n\r\nhello",
    "space in a name": OK + b"Content Length: 5\r\n\r\nhello",
    "space before the first field": OK + b" A: 1\r\n\r\n",
    "an unknown transfer coding": OK + b"Transfer-Encoding: gzip\r\n\r\n",
    "identity as transfer coding": OK + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    "a transfer coding before chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END,
    "a transfer coding after chunked": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + END,
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + END,
    "chunked in two fields": CHUNKED[:-2] + CHUNKED[len(OK) :] + END,
    "chunked with a parameter": OK + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + END,
    "an empty transfer coding": OK + b"Transfer-Encoding:\r\n\r\n" + END,
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\n\r\n" + HELLO,
    "a switch that was asked for": b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + HELLO,
    "too many interim responses": b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM + 1) + HELLO,
    "an invalid head after an interim one": b"HTTP/1.1 103 Early\r\n\r\n\r\n" + HELLO,
    "two lengths": LENGTH + b"Content-Length: 6\r\n\r\nhello!",
    "two lengths in a list": OK + b"Content-Length: 5, 6\r\n\r\nhello!",
    "a head that is too long": OK + b"A: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
    "a head that never ends": OK + b"A: 1\r\n" * MAX_HEAD_BYTES,
    "too many fields": OK + b"A: 1\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    **{
        f"a length of {length[:30]!r}": OK + b"Content-Length: " + length + b"\r\n\r\nhello"
        for length in (
            b"",
            b"+5",
            b"-5",
            b"5 5",
            b"5, 5X",
            b"5, 5\x0b",
            b"5,",
            b",5",
            b"0x5",
            b"5.0",
            b"five",
            b"\xb5",
            b"1" * 19,
            b"9" * 5_000,
        )
    },
}

BODILESS = (204, 304)
INTERIM = [status for status in range(100, 200) if status != 101]


def test_a_head_decides_the_length_and_the_connections_fate() -> None:
    def check(name: str) -> None:
        head, is_reusable = HEADS_WITH_HELLO[name]
        assert read(head + b"\r\nhello") == (200, b"hello", is_reusable)

    check_rows(HEADS_WITH_HELLO, check)


def test_an_invalid_head_is_an_error_and_closes_the_connection() -> None:
    def check(name: str) -> None:
        connection = Connection([INVALID_HEADS[name]])
        with pytest.raises(HTTPException):
            ResponseReader(cast("Any", connection), is_request_written=True)
        assert connection.closed

    check_rows(INVALID_HEADS, check)


def test_what_cannot_become_a_head_is_an_error_before_its_end() -> None:
    class Silent(Connection):
        def recv(self, size: int) -> bytes:
            assert self.pieces, "the next read would wait"
            return super().recv(size)

    def check(start: bytes) -> None:
        with pytest.raises(HTTPException):
            ResponseReader(cast("Any", Silent([start])), is_request_written=True)

    check_rows(
        [b"I", b"<html>", b"HTTP/2", b"\r\n", b"HTTP/1.1 200 OK\n\n", OK + b"A:" + b"x" * MAX_HEAD_BYTES],
        check,
    )


def test_fields_are_kept_as_they_were_sent() -> None:
    response, _ = read_head(
        OK + b"X-A:  caf\xe9 \r\nx-a: 2\r\nFolded: a\r\n \t b\r\nEmpty:\r\nContent-Length: 0\r\n\r\n"
    )

    assert list(response.headers.items()) == [
        ("X-A", "caf\xe9"),
        ("X-A", "2"),
        ("Folded", "a b"),
        ("Empty", ""),
        ("Content-Length", "0"),
    ]


def test_of_several_lengths_one_is_left_and_the_other_fields_stay() -> None:
    def check(lengths: bytes) -> None:
        response, _ = read_head(OK + b"X-A: X1X\r\n" + lengths + b"X-B: 2\r\n\r\nhello")
        assert sorted(response.headers.items()) == [("Content-Length", "5"), ("X-A", "X1X"), ("X-B", "2")]

    twice = b"Content-Length: 5\r\n" * 2
    check_rows([twice, b"content-length: 5, 5\r\n", twice.lower(), twice.upper()], check)


def test_the_largest_allowed_head_is_read() -> None:
    response, _ = read_head(OK + b"A: 1\r\n" * MAX_FIELDS + b"\r\n")
    assert response.headers.getlist("A") == ["1"] * MAX_FIELDS
    start = OK + b"Content-Length: 0\r\nA: "
    response, _ = read_head(start + b"x" * (MAX_HEAD_BYTES - len(start + b"\r\n\r\n")) + b"\r\n\r\n")
    assert len(response.headers["A"]) > MAX_HEAD_BYTES - 100


def test_interim_responses_are_skipped() -> None:
    fields = [
        b"",
        b"Link: </a>\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
    ]

    def check(status: int) -> None:
        for each in fields:
            interim = b"HTTP/1.1 %d Wait\r\n%b\r\n" % (status, each)
            assert read(interim, HELLO) == (200, b"hello", True)
            assert read(interim * MAX_INTERIM + HELLO) == (200, b"hello", True)

    check_rows(INTERIM, check)


def test_a_status_without_a_body_ends_with_its_head() -> None:
    def check(row: tuple[int, bytes]) -> None:
        status, fields = row
        head = b"HTTP/1.1 %d None\r\n%b\r\n" % (status, fields)
        assert read(head) == (status, b"", True)
        assert read(head + HELLO) == (status, b"", False)

    fields = [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"]
    check_rows([(status, each) for status in BODILESS for each in fields], check)


def test_a_response_before_its_request_was_written_is_never_a_success() -> None:
    def check(row: tuple[int, bool]) -> None:
        status, is_read = row
        answer = HELLO.replace(b"200", b"%d" % status)
        if not is_read:
            with pytest.raises(HTTPException):
                read_head(answer, written=False)
            return
        response, connection = read_head(answer, written=False)
        assert (response.read(), connection.closed) == (b"hello", True)

    check_rows(
        [(200, False), (201, False), (299, False), (300, True), (307, True), (413, True), (503, True)], check
    )


# --- bodies ------------------------------------------------------------------------------------------------

VALID_CHUNKS = [
    b"5\r\nhello\r\n" + END,
    b"2\r\nhe\r\n3\r\nllo\r\n" + END,
    b"0005\r\nhello\r\n000\r\n\r\n",
    b"5 \t\r\nhello\r\n" + END,
    b"5;name=value\r\nhello\r\n0;last\r\n\r\n",
    b'5;name="a, b";c\r\nhello\r\n' + END,
    b"5\r\nhello\r\n0\r\nDigest: x\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nConnection: close\r\n\r\n",
    b"5\r\nhello\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"5\r\nhello\r\n0\r\nA: " + b"x" * (MAX_FRAMING_BYTES // 2) + b"\r\n\r\n",
]

INVALID_CHUNKS = [
    b"-1\r\na\r\n",
    b"+1\r\na\r\n",
    b"0x1\r\na\r\n",
    b"1_0\r\n" + b"a" * 16 + b"\r\n",
    b" 1\r\na\r\n",
    b"\r\n1\r\na\r\n",
    b"g\r\n",
    b"1\na\r\n",
    b"1\r\na\n",
    b"1\r\nab\r\n",
    b"1\r\na1\r\nb\r\n",
    b"1\ra\r\n",
    b"1;a\nb\r\na\r\n",
    b"f" * 17 + b"\r\n",
    b"1;" + b"x" * 3 * MAX_FRAMING_BYTES,
    b"0" * 3 * MAX_FRAMING_BYTES,
    b"0\r\nA: " + b"x" * 3 * MAX_FRAMING_BYTES,
    b"0\r\n" + b"A: 1\r\n" * MAX_FRAMING_BYTES + b"\r\n",
    b"0\r\nno field\r\n\r\n",
    b"0\r\n folded: 1\r\n\r\n",
    b"0\r\nA : 1\r\n\r\n",
    b"0\r\n\n",
    # The next two are valid by the RFC (optional space, a folded line), and llhttp refuses them.
    b"1 ; a = b\r\na\r\n",
    b"0\r\nA: 1\r\n folded\r\n\r\n",
]


def test_the_data_of_all_chunks_is_read() -> None:
    def check(chunks: bytes) -> None:
        assert read(CHUNKED + chunks) == (200, b"hello", True)

    check_rows(VALID_CHUNKS, check)


def test_trailers_are_not_merged_with_the_head() -> None:
    response, connection = read_head(CHUNKED + b"0\r\nConnection: close\r\nX: y\r\n\r\n")

    assert (response.read(), list(response.headers)) == (b"", ["Transfer-Encoding"])
    assert not connection.closed


def test_a_transfer_coding_overrides_every_length() -> None:
    def check(length: bytes) -> None:
        field = b"Content-Length: " + length + b"\r\n"
        for head in (CHUNKED[:-2] + field, OK + field + CHUNKED[len(OK) : -2], CHUNKED[:-2] + field * 2):
            response, connection = read_head(head + b"\r\n" + VALID_CHUNKS[0])
            assert "Content-Length" not in response.headers
            assert (response.read(), connection.closed) == (b"hello", True)

    check_rows([b"5", b"0", b"500", b"-1", b"x", b"5, 6", b""], check)


def test_chunks_in_http_1_0_are_read_and_the_connection_is_closed() -> None:
    assert read(CHUNKED.replace(b"1.1", b"1.0") + VALID_CHUNKS[0]) == (200, b"hello", False)


def test_an_invalid_chunk_breaks_the_body_after_the_data_before_it() -> None:
    def check(chunks: bytes) -> None:
        response, connection = read_head(CHUNKED, b"3\r\nabc\r\n" + chunks, END)
        assert response.read1().startswith(b"abc")
        for _ in range(2):
            with pytest.raises(IncompleteRead):
                response.read()
        response.close()
        assert connection.closed

    check_rows(INVALID_CHUNKS, check)


def test_nothing_is_read_behind_an_invalid_chunk() -> None:
    response, connection = read_head(CHUNKED, b"3\r\nabc\r\nx", END)
    assert response.read1() == b"abc"
    with pytest.raises(IncompleteRead):
        response.read1()
    assert connection.pieces == [END]


def test_any_surplus_closes_the_connection_and_is_not_read() -> None:
    answers = [HELLO, CHUNKED + VALID_CHUNKS[0], CHUNKED + VALID_CHUNKS[6]]

    def check(row: tuple[bytes, bytes]) -> None:
        answer, surplus = row
        assert read(answer + surplus) == (200, b"hello", False)
        assert read(answer, surplus) == (200, b"hello", False)
        assert read(answer[:-1], answer[-1:] + surplus) == (200, b"hello", False)

    check_rows([(answer, surplus) for answer in answers for surplus in SURPLUS], check)


def test_one_read_returns_all_data_that_has_arrived() -> None:
    response, _ = read_head(CHUNKED, b"2\r\nab\r\n3\r\ncde\r\n1\r\n", b"f\r\n" + END)

    assert [response.read1(100) for _ in range(3)] == [b"abcde", b"f", b""]


def test_a_read_returns_at_most_its_size() -> None:
    response, connection = read_head(CHUNKED + b"5\r\nabcde\r\n" + END)

    assert [response.read1(2) for _ in range(4)] == [b"ab", b"cd", b"e", b""]
    assert not connection.closed


def test_a_read_of_a_size_waits_for_all_of_it() -> None:
    def check(row: tuple[int, bytes]) -> None:
        size, expected = row
        response, _ = read_head(CHUNKED, b"3\r\nabc\r\n", b"3\r\ndef\r\n", END)
        assert response.read(size) == expected

    check_rows([(0, b""), (4, b"abcd"), (5, b"abcde"), (9, b"abcdef"), (-1, b"abcdef")], check)


def test_the_end_is_known_with_the_last_byte() -> None:
    response, connection = read_head(CHUNKED + b"1\r\na\r\n" + END)

    assert (response.read1(), response.closed, connection.closed) == (b"a", True, False)


def test_a_response_that_was_not_read_to_its_end_closes_the_connection() -> None:
    def check(pieces: tuple[bytes, ...]) -> None:
        response, connection = read_head(*pieces)
        response.read1(1)
        response.close()
        assert (connection.closed, response.read1(), response.closed) == (True, b"", True)

    check_rows([(LENGTH + b"\r\nhell",), (CHUNKED, VALID_CHUNKS[0][:-1]), (OK + b"\r\n", b"hello")], check)


def test_closing_a_response_that_was_read_leaves_its_connection_to_the_next() -> None:
    response, connection = read_head(HELLO)
    response.read()
    response.close()

    assert not connection.closed


# --- any pieces --------------------------------------------------------------------------------------------

MESSAGES = [
    *(head + b"\r\nhello" for head, _ in HEADS_WITH_HELLO.values()),
    *(message for message in INVALID_HEADS.values() if len(message) < 500),
    *(CHUNKED + chunks for chunks in VALID_CHUNKS if len(chunks) < 500),
    *(CHUNKED + b"3\r\nabc\r\n" + chunks for chunks in INVALID_CHUNKS if len(chunks) < 500),
    *(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + HELLO + surplus for surplus in SURPLUS),
    *(CHUNKED + VALID_CHUNKS[6] + surplus for surplus in SURPLUS),
]


def test_a_message_is_read_alike_byte_by_byte() -> None:
    def check(message: bytes) -> None:
        assert result(cut(message, range(len(message)))) == result([message])

    check_rows(MESSAGES, check)


@given(message=st.sampled_from(MESSAGES), places=st.lists(st.integers(0, 500), max_size=6))
def test_a_message_is_read_alike_in_any_pieces(message: bytes, places: list[int]) -> None:
    assert result(cut(message, places)) == result([message])


chunks_of = st.builds(
    lambda data, size, extension: ((size % len(data)).encode() + extension + b"\r\n" + data + b"\r\n", data),
    st.binary(min_size=1, max_size=40),
    st.sampled_from(["%x", "%X", "0%x", "%04X"]),
    st.sampled_from([b"", b" ", b";name=value", b';name="a, b"']),
)
ends_of = st.builds(
    lambda size, trailers: size + b"\r\n" + trailers + b"\r\n",
    st.sampled_from([b"0", b"000", b"0;last"]),
    st.sampled_from([b"", b"Digest: x\r\n", b"A: 1\r\nB: 2\r\n"]),
)


@given(
    st.lists(chunks_of, max_size=8), ends_of, st.lists(st.integers(0, 500), max_size=12), st.integers(0, 500)
)
def test_any_chunks_are_read_and_incomplete_wherever_they_are_cut(
    chunks: list[tuple[bytes, bytes]], end: bytes, places: list[int], place: int
) -> None:
    stream = b"".join(chunk for chunk, _ in chunks) + end
    expected = b"".join(data for _, data in chunks)

    assert read(CHUNKED, *cut(stream, places)) == (200, expected, True)
    response, _ = read_head(CHUNKED, stream[: place % len(stream)])
    with pytest.raises(IncompleteRead):
        response.read()


@given(
    st.lists(st.sampled_from([b"0", b"5", b"a", b"\r", b"\n", b";", b" ", b"\r\n", b"HTTP/1.1 200"])).map(
        b"".join
    )
)
def test_any_bytes_are_a_body_or_an_error(stream: bytes) -> None:
    for start in (b"", OK, OK + b"\r\n", CHUNKED, LENGTH):
        *_, outcome = result([start + stream])
        assert outcome in {True, False, "cut", "no head"}
