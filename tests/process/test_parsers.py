"""Raw requests by RFC 9110 and 9112: both parsers give the same answers, and end the connection alike."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.server.request_head import c_parser_version
from tests.process.server import INFERENCE, Proxy, chat
from tests.process.wire import Wire, head, post
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

pytestmark = pytest.mark.skipif(
    c_parser_version() is None and not os.environ.get("CI"), reason="the C parser is not installed"
)

GET = b"GET /ready HTTP/1.1\r\n"
HOST = b"Host: proxy\r\n"
END = b"\r\n"
NEXT = GET + HOST + b"Connection: close\r\n\r\n"
"""Sent behind each request. Its answer shows that the connection was kept, and that the request had ended."""

BODY = json.dumps(chat("parsers", "hi")).encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
SMUGGLED = post(INFERENCE, chat("smuggled", "hi"))

KEPT = [200, 200]
CLOSED = [200]
REFUSED = [400]


def get(*fields: bytes, line: bytes = GET) -> bytes:
    return line + HOST + b"".join(fields) + END


def call(*fields: bytes, body: bytes = BODY, version: bytes = b"HTTP/1.1") -> bytes:
    """Return an inference call with these raw fields behind the usual ones."""
    usual = head(INFERENCE).removesuffix(END).replace(b"HTTP/1.1", version, 1)
    return usual + b"".join(fields) + END + body


ROWS: dict[str, tuple[bytes, list[int]]] = {
    # The request line: RFC 9112, sections 2.2 and 3.
    "a plain request": (get(), KEPT),
    "an empty line before it": (END + get(), KEPT),
    "two empty lines before it": (END * 2 + get(), REFUSED),
    "an LF before it": (b"\n" + get(), REFUSED),
    "a space before it": (b" " + get(), REFUSED),
    "two spaces before the target": (get(line=b"GET  /ready HTTP/1.1\r\n"), REFUSED),
    "two spaces before the version": (get(line=b"GET /ready  HTTP/1.1\r\n"), REFUSED),
    "a space behind the version": (get(line=b"GET /ready HTTP/1.1 \r\n"), REFUSED),
    "a tab for a space": (get(line=b"GET\t/ready HTTP/1.1\r\n"), REFUSED),
    "a line that ends with LF": (get(line=b"GET /ready HTTP/1.1\n"), REFUSED),
    "a line that ends with CR": (get(line=b"GET /ready HTTP/1.1\r"), REFUSED),
    "a method in lower case": (get(line=b"get /ready HTTP/1.1\r\n"), REFUSED),
    "a method that is no token": (get(line=b"G{T /ready HTTP/1.1\r\n"), REFUSED),
    "no target": (get(line=b"GET HTTP/1.1\r\n"), REFUSED),
    "a target with a NUL": (get(line=b"GET /ready\0 HTTP/1.1\r\n"), REFUSED),
    "a target with a byte that is not ASCII": (get(line=b"GET /ready?\xe9 HTTP/1.1\r\n"), REFUSED),
    "a relative target": (get(line=b"GET ready HTTP/1.1\r\n"), REFUSED),
    "an absolute target": (get(line=b"GET http://proxy/ready HTTP/1.1\r\n"), KEPT),
    "an absolute target with an IPv6 address": (get(line=b"GET http://[::1]:80/ready HTTP/1.1\r\n"), KEPT),
    "an absolute target with half an address": (get(line=b"GET http://[::1/ready HTTP/1.1\r\n"), REFUSED),
    "an asterisk": (get(line=b"GET * HTTP/1.1\r\n"), REFUSED),
    "an authority": (get(line=b"GET proxy:80 HTTP/1.1\r\n"), REFUSED),
    "a tunnel": (get(line=b"CONNECT proxy:80 HTTP/1.1\r\n"), [404]),
    "no version": (get(line=b"GET /ready\r\n"), REFUSED),
    "HTTP/1.2": (get(line=b"GET /ready HTTP/1.2\r\n"), KEPT),
    "HTTP/2.0": (get(line=b"GET /ready HTTP/2.0\r\n"), REFUSED),
    "HTTP/0.9": (get(line=b"GET /ready HTTP/0.9\r\n"), REFUSED),
    "HTTP/1.10": (get(line=b"GET /ready HTTP/1.10\r\n"), REFUSED),
    "http/1.1": (get(line=b"GET /ready http/1.1\r\n"), REFUSED),
    "a line of 4,094 bytes": (get(line=b"GET /ready?%b HTTP/1.1\r\n" % (b"a" * 4074)), KEPT),
    "a line of 4,095 bytes": (get(line=b"GET /ready?%b HTTP/1.1\r\n" % (b"a" * 4075)), [414]),
    # Persistence and pipelines: RFC 9112, section 9.
    "a connection to be closed": (get(b"Connection: close\r\n"), CLOSED),
    "HTTP/1.0": (get(line=b"GET /ready HTTP/1.0\r\n"), CLOSED),
    "HTTP/1.0 with keep-alive": (get(b"Connection: keep-alive\r\n", line=b"GET /ready HTTP/1.0\r\n"), KEPT),
    "two requests at once": (get() + get(), [200, *KEPT]),
    "a call and a request at once": (call(LENGTH) + get(), [200, *KEPT]),
    # Fields: RFC 9110, section 5, and RFC 9112, section 5.
    "no value": (get(b"X:\r\n"), KEPT),
    "tabs and spaces around a value": (get(b"X: \t v \t \r\n"), KEPT),
    "a value that is not ASCII": (get(b"X: \xe9\xff\r\n"), KEPT),
    "a space before the colon": (get(b"X : v\r\n"), REFUSED),
    "no name": (get(b": v\r\n"), REFUSED),
    "no colon": (get(b"X\r\n"), REFUSED),
    "a name that is not ASCII": (get(b"X\xe9: v\r\n"), REFUSED),
    "a folded value": (get(b"X: v\r\n w\r\n"), REFUSED),
    "a fold before the first field": (GET + b" X: v\r\n" + HOST + END, REFUSED),
    "a NUL in a value": (get(b"X: a\0b\r\n"), REFUSED),
    "a CR in a value": (get(b"X: a\rb\r\n"), REFUSED),
    "a DEL in a value": (get(b"X: a\x7fb\r\n"), REFUSED),
    "a field that ends with LF": (get(b"X: v\n"), REFUSED),
    "a head that ends with LF": (GET + HOST + b"\n", REFUSED),
    "a head that ends with CR CR LF": (GET + HOST + b"\r\r\n", REFUSED),
    "an IPv6 host": (GET + b"Host: [::1]:8000\r\n\r\n", KEPT),
    "two hosts": (get(HOST), REFUSED),
    "two types": (get(b"Content-Type: a/b\r\n" * 2), REFUSED),
    "an underscore in the name of a length": (get(b"Content_Length: 5\r\n"), KEPT),
    "100 fields": (get(b"X: v\r\n" * 99), KEPT),
    "101 fields": (get(b"X: v\r\n" * 100), [431]),
    "300 fields": (get(b"X: v\r\n" * 299), [431]),
    "a field of 8,190 bytes": (get(b"X: %b\r\n" % (b"v" * 8185)), KEPT),
    "a field of 8,191 bytes": (get(b"X: %b\r\n" % (b"v" * 8186)), [431]),
    "a field of 8,191 bytes, most of them spaces": (get(b"X:%bv\r\n" % (b" " * 8186)), [431]),
    # Content-Length: RFC 9110, section 8.6, and RFC 9112, section 6.3.
    "a length": (call(LENGTH), KEPT),
    "a length with zeros before it": (call(b"Content-Length: 000%d\r\n" % len(BODY)), KEPT),
    "two lengths": (call(LENGTH, b"Content-Length: 0\r\n", body=SMUGGLED), REFUSED),
    "the same length twice": (call(LENGTH, LENGTH), REFUSED),
    "a list of lengths": (call(b"Content-Length: %d, %d\r\n" % (len(BODY), len(BODY))), REFUSED),
    "an empty length": (call(b"Content-Length:\r\n", body=SMUGGLED), REFUSED),
    "a length with a sign": (call(b"Content-Length: +%d\r\n" % len(BODY)), REFUSED),
    "a negative length": (call(b"Content-Length: -1\r\n", body=SMUGGLED), REFUSED),
    "a hexadecimal length": (call(b"Content-Length: 0x10\r\n", body=SMUGGLED), REFUSED),
    "a length with an underscore": (call(b"Content-Length: 1_0\r\n", body=SMUGGLED), REFUSED),
    "a length in superscript": (call(b"Content-Length: \xb2\r\n", body=SMUGGLED), REFUSED),
    "a length of 2^64": (call(b"Content-Length: %d\r\n" % 2**64, body=b""), [413]),
    # Transfer-Encoding: RFC 9112, sections 6.1, 6.3 and 7.
    "chunks": (call(CHUNKED, body=CHUNKS), KEPT),
    "chunks, the coding in upper case": (call(CHUNKED.upper(), body=CHUNKS), KEPT),
    "chunks with an extension": (call(CHUNKED, body=CHUNKS.replace(b"\r\n", b';a="b"\r\n', 1)), KEPT),
    "chunks with a trailer": (call(CHUNKED, body=CHUNKS[:-2] + b"X: v\r\n\r\n"), KEPT),
    "chunks with a length as a trailer": (call(CHUNKED, body=CHUNKS[:-2] + LENGTH + END), REFUSED),
    "a chunk that ends with LF": (call(CHUNKED, body=CHUNKS.replace(b"}\r\n", b"}\n")), REFUSED),
    "a size of a chunk that ends with LF": (call(CHUNKED, body=b"0\n\n" + SMUGGLED), REFUSED),
    "a size of a chunk with a prefix": (call(CHUNKED, body=b"0x0\r\n\r\n" + SMUGGLED), REFUSED),
    "a size of a chunk with a sign": (call(CHUNKED, body=b"+0\r\n\r\n" + SMUGGLED), REFUSED),
    "an extension with a CR": (call(CHUNKED, body=b"0;\r\r\n\r\n" + SMUGGLED), REFUSED),
    "chunks and a length": (call(CHUNKED, LENGTH, body=b"0\r\n\r\n" + SMUGGLED), REFUSED),
    "a length and chunks": (call(LENGTH, CHUNKED, body=b"0\r\n\r\n" + SMUGGLED), REFUSED),
    "chunks on HTTP/1.0": (call(CHUNKED, body=CHUNKS, version=b"HTTP/1.0"), REFUSED),
    "chunked twice": (call(CHUNKED, CHUNKED, body=CHUNKS), REFUSED),
    "chunked twice in a list": (call(b"Transfer-Encoding: chunked, chunked\r\n", body=CHUNKS), REFUSED),
    "chunked before identity": (call(b"Transfer-Encoding: chunked, identity\r\n", body=SMUGGLED), REFUSED),
    "identity alone": (call(b"Transfer-Encoding: identity\r\n", LENGTH), REFUSED),
    "gzip alone": (call(b"Transfer-Encoding: gzip\r\n", body=SMUGGLED), REFUSED),
    "an unknown coding": (call(b"Transfer-Encoding: xchunked\r\n", body=SMUGGLED), [501]),
    "an empty coding": (call(b"Transfer-Encoding: ,chunked\r\n", body=CHUNKS), [501]),
    "a coding with a parameter": (call(b"Transfer-Encoding: chunked;q=1\r\n", body=CHUNKS), [501]),
    "a control character before the coding": (
        call(b"Transfer-Encoding: \x0bchunked\r\n", body=CHUNKS),
        REFUSED,
    ),
    "an underscore in the name of the coding": (call(b"Transfer_Encoding: chunked\r\n", LENGTH), KEPT),
    # Expect: RFC 9110, section 10.1.1.
    "a continue": (call(LENGTH, b"Expect: 100-Continue\r\n"), [100, *KEPT]),
    "a continue on HTTP/1.0": (call(LENGTH, b"Expect: 100-continue\r\n", version=b"HTTP/1.0"), CLOSED),
    "another expectation": (call(LENGTH, b"Expect: 200-ok\r\n"), [417]),
}


@pytest.fixture(scope="module", params=["python", "fast"])
def proxy(request: pytest.FixtureRequest, fake_chutes: Upstream) -> Iterator[Proxy]:
    with Proxy(fake_chutes, "--http-parser", request.param, RATE_LIMIT_PER_RUN="off") as started:
        yield started


def statuses(proxy: Proxy, request: bytes) -> list[int]:
    """Send a request and another one behind it. Return the statuses of all answers on the connection."""
    found: list[int] = []
    with Wire(proxy.port) as wire, suppress(EOFError, ConnectionResetError):
        wire.send(request + NEXT)
        while True:
            found.append(wire.answer().status)
    return found


def test_a_request_has_the_same_outcome_with_each_parser(proxy: Proxy) -> None:
    def check(name: str) -> None:
        request, expected = ROWS[name]
        assert statuses(proxy, request) == expected

    check_rows(ROWS, check)
    assert proxy.usage("smuggled").calls == 0
