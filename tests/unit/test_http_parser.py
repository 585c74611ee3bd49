from __future__ import annotations

import http.client
import io
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.upstream.http.parser import MAX_FIELDS, MAX_LINE_BYTES, ResponseReader
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator


class Wire(socket.socket):
    """A connection that has received the content and then ends."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._content = content

    def makefile(self, *_args: object, **_kwargs: object) -> io.BufferedReader:  # type: ignore[override] # the only method that is used
        return io.BufferedReader(io.BytesIO(self._content))


def read_by(kind: type[http.client.HTTPResponse], content: bytes) -> http.client.HTTPResponse:
    with Wire(content) as wire:
        response = kind(wire, method="POST")
    response.begin()
    return response


def attributes(response: http.client.HTTPResponse) -> Iterator[object]:
    yield response.status
    yield response.reason
    yield response.version
    yield response.will_close
    yield response.length
    yield [
        (name, value.strip())
        for name, value in response.headers.items()
        if name.lower() != "transfer-encoding"
    ]
    if response.length != 0:  # http.client looks for chunks even if the status allows no body
        with suppress(http.client.IncompleteRead):
            yield response.read()


names = st.sampled_from(["Content-Type", "content-length", "CONNECTION", "Keep-Alive", "X-Odd", "Date"])
values = st.sampled_from(["", "0", "5", "-5", "5, 5", "close", "Keep-Alive", "a: b", "caf\u00e9", " x\t"])
fields = st.lists(
    st.builds("{}:{}".format, names, values) | st.just("Transfer-Encoding: chunked"), max_size=6
)
heads = st.builds(
    lambda version, status, lines: "\r\n".join([f"{version} {status}", *lines, "", ""]),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/0.9"]),
    st.sampled_from(["200 OK", "200", "404  Not Found ", "204 No", "304 Same", "101 Other", "503 \u00fc"]),
    fields,
)


@given(head=heads, body=st.sampled_from([b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n"]), interim=st.booleans())
def test_a_response_is_read_as_by_http_client(head: str, body: bytes, *, interim: bool) -> None:
    before = b"HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n" if interim else b""
    content = before + head.encode("iso-8859-1") + body

    theirs, ours = read_by(http.client.HTTPResponse, content), read_by(ResponseReader, content)

    assert list(attributes(ours)) == list(attributes(theirs))


def test_an_invalid_head_is_an_error() -> None:
    rows = [
        b"",
        b"\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 1000 High\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nA: 1\r\n",
        b"HTTP/1.1 200 OK\r\nA: 1",
        b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: nameless\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * MAX_LINE_BYTES + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: 1\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    ]

    def check(head: bytes) -> None:
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            read_by(ResponseReader, head)

    check_rows(rows, check)


def test_the_largest_allowed_number_of_fields_is_read() -> None:
    response = read_by(ResponseReader, b"HTTP/1.1 200 OK\r\n" + b"A: 1\r\n" * MAX_FIELDS + b"\r\n")

    assert response.headers.get_all("A") == ["1"] * MAX_FIELDS


def test_a_content_length_of_more_than_18_digits_is_ignored() -> None:
    def check(digits: int) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * digits + b"\r\n\r\nbody"
        response = read_by(ResponseReader, head)

        assert response.length == (int("1" * 18) if digits == 18 else None)
        assert response.will_close == (digits > 18)

    check_rows([18, 19, 5_000], check)
