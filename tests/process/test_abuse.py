"""Raw bytes that no client of good faith sends: refused or let go, nothing booked, and others are served."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.process.server import CANARY, INFERENCE, Proxy, chat
from tests.process.wire import Wire, head, post

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

BODY = json.dumps(chat("abuse", "hi")).encode()
LENGTH = f"Content-Length: {len(BODY)}\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def asked(*lines: str, path: str = INFERENCE, method: str = "POST", version: str = "HTTP/1.1") -> bytes:
    """A request's head with these lines beside the usual ones, as they stand."""
    usual = head(path, method=method).decode().partition("\r\n")[2].removesuffix("\r\n")
    return f"{method} {path} {version}\r\n{usual}{''.join(lines)}\r\n".encode("latin-1")


ABUSES = {
    "two lengths": asked(LENGTH, "Content-Length: 1\r\n") + BODY,
    "the same length twice": asked(LENGTH, LENGTH) + BODY,
    "lengths in a list": asked(f"Content-Length: {len(BODY)}, {len(BODY)}\r\n") + BODY,
    "a length with a sign": asked(f"Content-Length: +{len(BODY)}\r\n") + BODY,
    "a negative length": asked("Content-Length: -1\r\n") + BODY,
    "a hexadecimal length": asked("Content-Length: 0x10\r\n") + BODY,
    "a length and chunks": asked(LENGTH, "Transfer-Encoding: chunked\r\n") + CHUNKS,
    "chunks twice": asked("Transfer-Encoding: chunked, chunked\r\n") + CHUNKS,
    "chunks that are not last": asked("Transfer-Encoding: chunked, identity\r\n") + CHUNKS,
    "a coding nobody knows": asked("Transfer-Encoding: cow\r\n") + CHUNKS,
    "a hidden coding": asked("Transfer-Encoding: \x0bchunked\r\n") + CHUNKS,
    "chunks on HTTP/1.0": asked("Transfer-Encoding: chunked\r\n", version="HTTP/1.0") + CHUNKS,
    "a chunk of a negative size": asked("Transfer-Encoding: chunked\r\n") + b"-1\r\n\r\n0\r\n\r\n",
    "a chunk of 2^64 bytes": asked("Transfer-Encoding: chunked\r\n") + b"f" * 16 + b"\r\n{}",
    "a chunk's endless extension": asked("Transfer-Encoding: chunked\r\n") + b"1;" + b"x" * 1_000_000,
    "4 GB announced": asked("Content-Length: 4294967296\r\n"),
    "a header of 1 MB": asked(f"X-Long: {'x' * (1 << 20)}\r\n", LENGTH) + BODY,
    "10,000 headers": asked(*(f"X-{number}: 1\r\n" for number in range(10_000)), LENGTH) + BODY,
    "an endless request line": b"POST /" + b"a" * 1_000_000,
    "a folded header": asked("X-Folded: one\r\n two\r\n", LENGTH) + BODY,
    "a space before the colon": asked("Content-Length : 5\r\n") + BODY,
    "a NUL in a header": asked("X-Nul: a\x00b\r\n", LENGTH) + BODY,
    "a bare CR in a header": asked("X-Cr: a\rb\r\n", LENGTH) + BODY,
    "lines that end with LF": asked(LENGTH).replace(b"\r\n", b"\n") + BODY,
    "no version": f"POST {INFERENCE}\r\n\r\n".encode(),
    "a version of tomorrow": asked(LENGTH, version="HTTP/9.9") + BODY,
    "a method of spaces": asked(LENGTH, method="PO ST") + BODY,
    "HTTP/2 by surprise": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64),
    "TLS by surprise": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
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
"""None: closed without a word. Not 499: that is a call which was let in, and whose client has gone."""


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    with Proxy(fake_chutes, "--keep-alive", "2", BODY_TIMEOUT_SECONDS="2") as started:
        yield started


@pytest.mark.parametrize("abuse", ABUSES)
def test_what_is_no_request_is_refused_or_let_go(proxy: Proxy, chutes: Upstream, abuse: str) -> None:
    with Wire(proxy.port) as wire:
        try:
            wire.send(ABUSES[abuse])
            status = int(wire.first_line().split()[1])
        except (ConnectionError, EOFError):
            status = None
    assert status in ({501} if abuse == "a coding nobody knows" else REFUSALS)
    assert chutes.books()["count"] == 0
    assert proxy.usage("abuse") == proxy.usage("never-seen")
    assert proxy.infer("good").status == 200


def test_what_stands_behind_a_refused_request_is_not_taken_for_another(
    proxy: Proxy, chutes: Upstream
) -> None:
    smuggled = post(INFERENCE, chat("smuggled", "hi"))
    for lines in ((LENGTH, "Transfer-Encoding: chunked\r\n"), (LENGTH, "Content-Length: 1\r\n")):
        with Wire(proxy.port) as wire:
            wire.send(asked(*lines) + b"0\r\n\r\n" + smuggled)
            wire.answer()
            assert wire.ended()
    assert proxy.usage("smuggled").calls == chutes.books()["count"] == 0


SIEGE = 2_500
"""Connections: more than a worker lets wait for a head and for a body together."""


@pytest.mark.parametrize(
    "start",
    [
        b"",
        head(INFERENCE)[:40],
        head(INFERENCE, Content_Length="1000") + b'{"run_id":',
        head("/nowhere", Content_Length="1000") + b"half of what nobody reads",
    ],
    ids=["nothing", "half a head", "half a body", "half a body that nobody reads"],
)
def test_a_working_client_is_served_beside_thousands_that_only_wait(
    fake_chutes: Upstream, chutes: Upstream, start: bytes
) -> None:
    """MAX_CONCURRENT_CALLS=1 leaves the worker 3,001 connections; so they would be full without a limit."""
    with (
        Proxy(fake_chutes, MAX_CONCURRENT_CALLS="1", BODY_TIMEOUT_SECONDS="600") as proxy,
        ExitStack() as besiegers,
    ):
        for number in range(2 * SIEGE):
            wire = besiegers.enter_context(Wire(proxy.port))
            wire.send(start)
            if number % 500 == 0:
                assert proxy.infer("good").status == 200
        for _ in range(10):
            assert proxy.infer("good").status == 200
    assert CANARY not in "".join(proxy.lines.raw)
    assert chutes.books()["count"] == 2 * SIEGE // 500 + 10
