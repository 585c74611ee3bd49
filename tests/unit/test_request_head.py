"""Heads of requests, read with the C parser and without it: the result is the same for any bytes."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.version import Version

from ridges_proxy.server import request_head
from ridges_proxy.server.request_head import OLDEST_C_PARSER, RequestHead, c_parser_version, http_parser
from tests.support.table import check_rows

needs_c_parser = pytest.mark.skipif(
    c_parser_version() is None and not os.environ.get("CI"), reason="the C parser is not installed"
)

PEER = ("127.0.0.1", 50_000)
LINE = b"POST /agents/inference HTTP/1.1\r\n"
HOST = b"Host: proxy\r\n"
HEAD = LINE + HOST + b"\r\n"


@cache
def config(parser: str) -> Config:
    made = Config()
    made.set("http_parser", parser)
    made.set("forwarder_headers", "")
    return made


def read(kind: type[Request], parser: str, pieces: list[bytes]) -> tuple[object, ...]:
    """Return all of a head that the server can see, what follows it, and the pieces that were not waited for.

    A refused head: the error and those pieces.
    """
    left = iter(pieces)
    unreader = IterUnreader(left)
    try:
        request: Any = kind(config(parser), unreader, PEER)
    except Exception as error:  # noqa: BLE001 - every error is compared
        return type(error).__name__, str(error), list(left)
    body = request.body.reader
    return (
        (request.method, request.uri, request.path, request.query, request.fragment, request.version),
        (request.headers, request.scheme, request.should_close(), request._expected_100_continue),
        (type(body).__name__, getattr(body, "length", None)),
        (unreader.take_buffered(), list(left)),
    )


def both(*pieces: bytes) -> tuple[object, ...]:
    """Read with both parsers. Fails unless they agree in everything."""
    found = read(RequestHead, "fast", list(pieces))
    assert found == read(Request, "python", list(pieces))
    return found


def accepted(*pieces: bytes) -> bool:
    return not isinstance(both(*pieces)[0], str)


LINE_LIMIT, FIELD_LIMIT, FIELDS = 4094, 8190, 100
"""Gunicorn's defaults for the bytes of the request line and of a header, and for the number of headers."""

NAMES = [
    *("Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Content-Type"),
    *("X-Forwarded-For", "TE", "Upgrade", "X-Forwarded-Proto", "X-Forwarded-Ssl", "Trailer", "X_Under"),
    *("SCRIPT_NAME", "host", "content-length", "TRANSFER-ENCODING", "Content-Length ", " Host"),
    *("X\x00", "", "X\xe9", "X:Y", "x" * 300),
]
VALUES = [
    *("proxy", "[::1]:80", "0", "5", "+5", "-1", "0x5", "5_0", "5,5", "chunked", "Chunked"),
    *("chunked,chunked", "gzip,chunked", "chunked,gzip", "gzip", "identity", ",chunked", "xchunked"),
    *("chunked;q=1", "close", "keep-alive", "100-continue", "100-Continue", "200-ok", "http", ""),
    *("5 5", "\xb2", str(2**63), str(2**64), "9" * 30, "Keep-Alive, close", "https", "v" * 300, "\xff"),
    *("\x0bchunked", "chunked\x00", "a\rb", "a\nb", "a\x7fb", "v" * (FIELD_LIMIT - 20)),
    *(" " * FIELD_LIMIT,),
]
METHODS = [
    *("GET", "POST", "PUT", "OPTIONS", "CONNECT", "PRI", "M-SEARCH", "get", "GeT", "G", "GE", "G#T"),
    *("G!T", "A" * 20, "A" * 21, "", "GE T", "G\x00T", "G\xe9T", "\tGET", " GET"),
]
TARGETS = [
    *("/", "*", "/a?b=c#d", "//a/b", "http://proxy/a", "https://proxy", "http://[::1]/a"),
    *("http://[::1/a", "proxy:80", "a", "?a", "/%00", "://", "http://proxy:99999/", "/..//"),
    *("ftp://[v1.a]/", "", "/\xe9", "/a\x00", "/a\tb", "/a b", "/\x7f", "/" + "a" * (LINE_LIMIT - 14)),
    *("/" + "a" * LINE_LIMIT,),
]
VERSIONS = [
    *("HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/0.9", "HTTP/9.9", "http/1.1"),
    *("HTTP/1.10", "HTTP/1", "H", "", "HTTP/1.1 ", "HTTP/1,1", "HTTP/\xb2.1", "FTP/1.1"),
    *("HTTP/1.1\x00", "HTTP /1.1"),
]


def mostly(usual: str, others: list[str]) -> st.SearchStrategy[str]:
    """Return a strategy for a value that is usual in seven of eight cases: one fault shows more than many."""
    return st.sampled_from([usual] * (7 * len(others)) + others)


ends = mostly("\r\n", ["\n", "\r", "\r\r\n", "\r\n ", "\r\n\t", "\n\r\n", "\r\n\r\n", ""])
spaces = mostly(" ", ["  ", "\t", "", " \t", "\r", "\x0b", "\xa0"])
names = st.sampled_from(NAMES)
colons = mostly(": ", [":", " : ", ":\t", "", ":  ", ":\r\n "])
values = st.one_of(st.sampled_from(VALUES), st.text(st.characters(max_codepoint=255), max_size=8))
fields = st.builds("".join, st.tuples(names, colons, values, mostly("", [" ", "\t", "\x00"]), ends))
lines = st.tuples(
    *(mostly("", ["\r\n", "\r\n\r\n", "\n", " ", "\r"]), mostly("GET", METHODS), spaces),
    *(mostly("/", TARGETS), spaces, mostly("HTTP/1.1", VERSIONS), ends),
)
heads = st.builds(
    lambda line, listed, end, body: "".join([*line, *listed, end, body]).encode("latin-1"),
    lines,
    st.lists(fields, max_size=5),
    ends,
    st.sampled_from(["", "hello", "5\r\nhello\r\n0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "\x00" * 20]),
)


@needs_c_parser
@given(data=heads, cut=st.one_of(st.none(), st.integers(1, 400)))
@example(data=LINE + b"Expect: 200-ok\r\n\r\n", cut=None)
def test_any_head_is_read_the_same_with_both_parsers(data: bytes, cut: int | None) -> None:
    both(data) if cut is None else both(data[:cut], data[cut:])


@needs_c_parser
@given(
    data=st.binary(max_size=200), before=st.sampled_from([b"", LINE, LINE + HOST, b"GET /", b"GET / HTTP/"])
)
def test_any_bytes_are_read_the_same_with_both_parsers(before: bytes, data: bytes) -> None:
    both(before + data)


@needs_c_parser
def test_a_head_is_read_the_same_wherever_it_is_cut() -> None:
    def check(cut: int) -> None:
        assert accepted(HEAD[:cut], HEAD[cut:] + b"hello")

    check_rows(range(1, len(HEAD) + 1), check)


@needs_c_parser
def test_a_refusal_does_not_wait_for_more() -> None:
    beginnings = [b"GET / H\r\n\r\n", b"GET /" + b"a" * 5000, b"GET / HTTP/1.1\n", LINE + b"X: 1\n"]

    def check(beginning: bytes) -> None:
        assert both(beginning, b"more")[-1] == [b"more"]

    check_rows(beginnings, check)


@needs_c_parser
def test_the_limits_of_a_head_are_the_same() -> None:
    line = b"GET /%b HTTP/1.1\r\n"

    def field(spaces: int, value: int) -> bytes:
        return HEAD[:-2] + b"X:" + b" " * spaces + b"v" * value + b"\r\n\r\n"

    def check(row: tuple[bytes, bool]) -> None:
        head, is_accepted = row
        assert accepted(head) == is_accepted

    check_rows(
        [
            (HEAD[:-2] + b"X: 1\r\n" * (FIELDS - 1) + b"\r\n", True),
            (HEAD[:-2] + b"X: 1\r\n" * FIELDS + b"\r\n", False),
            (HEAD[:-2] + b"X: 1\r\n" * 300 + b"\r\n", False),
            (HEAD[:-2] + b"X_Y: 1\r\n" * 300 + b"\r\n", True),
            (field(0, FIELD_LIMIT - 4), True),
            (field(0, FIELD_LIMIT - 3), False),
            (field(FIELD_LIMIT - 5, 1), True),
            (field(FIELD_LIMIT - 4, 1), False),
            (line % (b"a" * (LINE_LIMIT - 14)) + b"\r\n", True),
            (line % (b"a" * (LINE_LIMIT - 13)) + b"\r\n", False),
            (b"\r\n" + line % (b"a" * (LINE_LIMIT - 14)) + b"\r\n", True),
            (b"\r\n" + line % (b"a" * (LINE_LIMIT - 13)) + b"\r\n", False),
        ],
        check,
    )


@needs_c_parser
def test_a_usual_head_is_read_without_gunicorns_own_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read(Request, "python", [HEAD])
    monkeypatch.setattr(Request, "_parse_python", None)

    assert read(RequestHead, "fast", [HEAD]) == expected


def test_a_c_parser_that_was_not_tested_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(row: tuple[Version | None, str]) -> None:
        version, parser = row
        monkeypatch.setattr(request_head, "c_parser_version", lambda: version)
        assert http_parser() == parser

    check_rows(
        [(None, "python"), (Version("0.6.9"), "python"), (OLDEST_C_PARSER, "auto"), (Version("0.7"), "auto")],
        check,
    )
