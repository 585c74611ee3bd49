"""Malformed requests, and thousands of connections that only wait: nothing is spent, others are served."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.process.server import CANARY, INFERENCE, Proxy, chat
from tests.process.wire import Wire, head, post
from tests.support.chutes import emptied
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

BODY = json.dumps(chat("abuse", "hi")).encode()
LENGTH = f"Content-Length: {len(BODY)}\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def head_with(*lines: str, path: str = INFERENCE, method: str = "POST", version: str = "HTTP/1.1") -> bytes:
    """Return the head of a request with these raw lines after the default ones."""
    default_lines = head(path, method=method).decode().partition("\r\n")[2].removesuffix("\r\n")
    return f"{method} {path} {version}\r\n{default_lines}{''.join(lines)}\r\n".encode("latin-1")


UNKNOWN_CODING = "an unknown transfer coding"
MALFORMED = {
    "two lengths": head_with(LENGTH, "Content-Length: 1\r\n") + BODY,
    "the same length twice": head_with(LENGTH, LENGTH) + BODY,
    "lengths in a list": head_with(f"Content-Length: {len(BODY)}, {len(BODY)}\r\n") + BODY,
    "a length with a sign": head_with(f"Content-Length: +{len(BODY)}\r\n") + BODY,
    "a negative length": head_with("Content-Length: -1\r\n") + BODY,
    "a hexadecimal length": head_with("Content-Length: 0x10\r\n") + BODY,
    "a length and chunks": head_with(LENGTH, "Transfer-Encoding: chunked\r\n") + CHUNKS,
    "chunks twice": head_with("Transfer-Encoding: chunked, chunked\r\n") + CHUNKS,
    "chunked before another coding": head_with("Transfer-Encoding: chunked, identity\r\n") + CHUNKS,
    UNKNOWN_CODING: head_with("Transfer-Encoding: cow\r\n") + CHUNKS,
    "a control character before the coding": head_with("Transfer-Encoding: \x0bchunked\r\n") + CHUNKS,
    "chunks on HTTP/1.0": head_with("Transfer-Encoding: chunked\r\n", version="HTTP/1.0") + CHUNKS,
    "a chunk of a negative size": head_with("Transfer-Encoding: chunked\r\n") + b"-1\r\n\r\n0\r\n\r\n",
    "a chunk of 2^64 bytes": head_with("Transfer-Encoding: chunked\r\n") + b"f" * 16 + b"\r\n{}",
    "a chunk extension of 1 MB": head_with("Transfer-Encoding: chunked\r\n") + b"1;" + b"x" * 1_000_000,
    "a length of 4 GB": head_with("Content-Length: 4294967296\r\n"),
    "a header of 1 MB": head_with(f"X-Long: {'x' * (1 << 20)}\r\n", LENGTH) + BODY,
    "10,000 headers": head_with(*(f"X-{number}: 1\r\n" for number in range(10_000)), LENGTH) + BODY,
    "a request line of 1 MB": b"POST /" + b"a" * 1_000_000,
    "a folded header": head_with("X-Folded: one\r\n two\r\n", LENGTH) + BODY,
    "a space before the colon": head_with("Content-Length : 5\r\n") + BODY,
    "a NUL in a header": head_with("X-Nul: a\x00b\r\n", LENGTH) + BODY,
    "a bare CR in a header": head_with("X-Cr: a\rb\r\n", LENGTH) + BODY,
    "lines that end with LF": head_with(LENGTH).replace(b"\r\n", b"\n") + BODY,
    "no version": f"POST {INFERENCE}\r\n\r\n".encode(),
    "an unknown version": head_with(LENGTH, version="HTTP/9.9") + BODY,
    "a method with a space": head_with(LENGTH, method="PO ST") + BODY,
    "HTTP/2 without an upgrade": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64),
    "TLS on the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "random bytes": bytes(range(256)) * 64,
    "JSON 100,000 deep": post(INFERENCE, "").partition(b"Content-Length")[0]
    + b"Content-Length: 200000\r\n\r\n"
    + b"[" * 100_000
    + b"]" * 100_000,
    "objects 100,000 deep": post(INFERENCE, "").partition(b"Content-Length")[0]
    + b"Content-Length: 600001\r\n\r\n"
    + b'{"a":' * 100_000
    + b"1"
    + b"}" * 100_000,
}

REFUSALS = {None, *range(400, 499)}
"""None: closed without an answer. 499 is excluded: it is the status of a call whose client has hung up."""

WAITING = 3_300
"""Connections of one kind. Without a limit on them, they would take all that the worker accepts."""

INCOMPLETE = {
    "nothing": b"",
    "half a head": head(INFERENCE)[:40],
    "half a body": head(INFERENCE, Content_Length="1000") + b'{"run_id":',
    "half a body that the proxy does not read": head("/nowhere", Content_Length="1000") + b"half a body",
}


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    with Proxy(fake_chutes, "--keep-alive", "2", BODY_TIMEOUT_SECONDS="2") as started:
        yield started


@each_row("name", MALFORMED, before={"chutes": emptied})
def test_a_malformed_request_is_refused(proxy: Proxy, chutes: Upstream, name: str) -> None:
    with Wire(proxy.port) as wire:
        try:
            wire.send(MALFORMED[name])
            status = int(wire.first_line().split()[1])
        except (ConnectionError, EOFError):
            status = None
    assert status in ({501} if name == UNKNOWN_CODING else REFUSALS)
    assert chutes.books()["count"] == 0
    assert proxy.usage("abuse") == proxy.usage("never-seen")
    assert proxy.infer("good").status == 200


def test_bytes_behind_a_refused_request_are_not_read_as_another_request(
    proxy: Proxy, chutes: Upstream
) -> None:
    smuggled = post(INFERENCE, chat("smuggled", "hi"))
    for lines in ((LENGTH, "Transfer-Encoding: chunked\r\n"), (LENGTH, "Content-Length: 1\r\n")):
        with Wire(proxy.port) as wire:
            wire.send(head_with(*lines) + b"0\r\n\r\n" + smuggled)
            wire.answer()
            assert wire.ended()
    assert proxy.usage("smuggled").calls == chutes.books()["count"] == 0


@pytest.fixture(scope="module")
def besieged(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy whose worker accepts 3,001 connections. No time limit ends an incomplete body."""
    with Proxy(fake_chutes, MAX_CONCURRENT_CALLS="1", BODY_TIMEOUT_SECONDS="600") as started:
        yield started


@each_row("name", INCOMPLETE, before={"chutes": emptied})
def test_others_are_served_beside_thousands_of_waiting_connections(
    besieged: Proxy, chutes: Upstream, name: str
) -> None:
    with ExitStack() as stack:
        for number in range(WAITING):
            wire = stack.enter_context(Wire(besieged.port))
            wire.send(INCOMPLETE[name])
            if number % 500 == 0:
                assert besieged.infer("good").status == 200
        for _ in range(10):
            assert besieged.infer("good").status == 200
    assert CANARY not in "".join(besieged.lines.raw)
    assert chutes.books()["count"] == 7 + 10
