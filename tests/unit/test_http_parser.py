from __future__ import annotations

import http.client
import io
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridges_proxy.upstream.http.parser import MAX_FIELDS, MAX_LINE_BYTES, ResponseReader

if TYPE_CHECKING:
    from collections.abc import Iterator


class Wire(socket.socket):
    """A connection on which so much has come, and no more will."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._content = content

    def makefile(self, *_args: object, **_kwargs: object) -> io.BufferedReader:  # type: ignore[override] # all that is used of it
        return io.BufferedReader(io.BytesIO(self._content))


def read_by(kind: type[http.client.HTTPResponse], content: bytes) -> http.client.HTTPResponse:
    with Wire(content) as wire:
        answer = kind(wire, method="POST")
    answer.begin()
    return answer


def facts(answer: http.client.HTTPResponse) -> Iterator[object]:
    yield answer.status
    yield answer.reason
    yield answer.version
    yield answer.will_close
    yield answer.length
    yield [
        (name, value.strip()) for name, value in answer.headers.items() if name.lower() != "transfer-encoding"
    ]
    if answer.length != 0:  # http.client looks for chunks in answers that have no body
        with suppress(http.client.IncompleteRead):
            yield answer.read()


names = st.sampled_from(["Content-Type", "content-length", "CONNECTION", "Keep-Alive", "X-Odd", "Date"])
values = st.sampled_from(["", "0", "5", "-5", "5, 5", "close", "Keep-Alive", "a: b", "caf\u00e9", " x\t"])
fields = st.lists(
    st.builds("{}:{}".format, names, values) | st.just("Transfer-Encoding: chunked"), max_size=6
)
heads = st.builds(
    lambda version, status, found: "\r\n".join([f"{version} {status}", *found, "", ""]),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/0.9"]),
    st.sampled_from(["200 OK", "200", "404  Not Found ", "204 No", "304 Same", "101 Other", "503 \u00fc"]),
    fields,
)


@settings(deadline=None, derandomize=True, max_examples=500)
@given(head=heads, body=st.sampled_from([b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n"]), goes_on=st.booleans())
def test_an_answer_reads_as_http_client_reads_it(head: str, body: bytes, *, goes_on: bool) -> None:
    before = b"HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n" if goes_on else b""
    content = before + head.encode("iso-8859-1") + body

    theirs, ours = read_by(http.client.HTTPResponse, content), read_by(ResponseReader, content)

    assert list(facts(ours)) == list(facts(theirs))


@pytest.mark.parametrize(
    "head",
    [
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
    ],
)
def test_what_is_no_answer_is_an_error(head: bytes) -> None:
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        read_by(ResponseReader, head)


def test_as_many_fields_as_are_allowed_pass() -> None:
    answer = read_by(ResponseReader, b"HTTP/1.1 200 OK\r\n" + b"A: 1\r\n" * MAX_FIELDS + b"\r\n")

    assert answer.headers.get_all("A") == ["1"] * MAX_FIELDS


@pytest.mark.parametrize("digits", [18, 19, 5_000])
def test_a_length_beyond_all_bodies_makes_no_sense(digits: int) -> None:
    answer = read_by(ResponseReader, b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * digits + b"\r\n\r\nbody")

    assert answer.length == (int("1" * 18) if digits == 18 else None)
    assert answer.will_close == (digits > 18)
