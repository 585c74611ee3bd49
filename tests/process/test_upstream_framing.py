"""Framings of an upstream's responses: each run gets its own answer, or an error.

Two runs take turns on one connection. One gets the response of a row, the other a plain one. Each answer
names its run, which shows whether it reached the right one. The rules are those of RFC 9112 and 9110.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pytest

from tests.process import expected_holds
from tests.process.expected_holds import NANOUSD_PER_TOKEN
from tests.process.server import Proxy
from tests.support.table import each_row

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

PROMPT_TOKENS, COMPLETION_TOKENS = 9, 3
USAGE = (PROMPT_TOKENS + COMPLETION_TOKENS) * NANOUSD_PER_TOKEN
PAUSE, PAUSE_SECONDS = b"(pause)", 0.05
RUN = re.compile(rb"run-[0-9a-f]{32}")


class Row(NamedTuple):
    """A response, and what it means for the run that gets it."""

    sent: bytes
    """With BODY, LENGTH, CHUNKS (without the last), HALF (the first half of BODY) or PAUSE in it."""
    code: str = ""
    """Of the error; empty where the run gets its own answer."""
    kept: bool = False
    """Whether the connection is used again."""
    charged: str = "usage"
    """By the money table: "usage", "nothing", "hold", or "part" for an answer that broke off."""
    then_closes: bool = False
    """Whether the upstream closes the connection afterwards."""


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
SIZED = OK + b"Content-Length: LENGTH\r\n"
PLAIN = SIZED + b"\r\nBODY"
CODED = OK + b"Transfer-Encoding: chunked\r\n"
CHUNKED = CODED + b"\r\nCHUNKS0\r\n\r\n"
BOTH = CODED + b"Content-Length: 5\r\n\r\nCHUNKS0\r\n\r\n"
ERROR = b'HTTP/1.1 %s\r\nContent-Length: 15\r\n\r\n{"detail":"no"}'
BAD = "upstream_broken"
FAILED = "upstream_failed"


def invalid(sent: bytes) -> Row:
    """Return a row without a valid head: nothing came back, so the whole hold may be billed."""
    return Row(sent, BAD, charged="hold")


ROWS: dict[str, Row] = {
    "a length": Row(PLAIN, kept=True),
    "chunks": Row(CHUNKED, kept=True),
    **{
        f"interim {status}": Row(
            b"HTTP/1.1 %d Wait\r\nLink: </a>\r\n\r\n" % status + PAUSE + PLAIN, kept=True
        )
        for status in (100, 102, 103, 104, 150, 199)
    },
    "several interim responses": Row(b"HTTP/1.1 103 Early\r\n\r\n" * 10 + CHUNKED, kept=True),
    "an interim response with framing": Row(
        b"HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n" + PLAIN, kept=True
    ),
    "an interim response that closes": Row(b"HTTP/1.1 103 E\r\nConnection: close\r\n\r\n" + PLAIN, kept=True),
    "too many interim responses": invalid(b"HTTP/1.1 103 Early\r\n\r\n" * 11 + CHUNKED),
    "only an interim response": invalid(b"HTTP/1.1 103 Early\r\n\r\n")._replace(then_closes=True),
    "a switch of protocols": invalid(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + PLAIN),
    "a folded field": Row(SIZED + b"X: a\r\n b\r\n\tc\r\n\r\nBODY", kept=True),
    "a folded first field": invalid(OK[: OK.index(b"\n") + 1] + b" X: a\r\n" + b"\r\nBODY"),
    "both framings": Row(BOTH),
    "both framings, the length first": Row(SIZED + b"Transfer-Encoding: chunked\r\n\r\nCHUNKS0\r\n\r\n"),
    "an invalid length beside chunks": Row(CODED + b"Content-Length: x\r\n\r\nCHUNKS0\r\n\r\n"),
    "equal lengths": Row(SIZED + b"Content-Length: LENGTH\r\n\r\nBODY", kept=True),
    "equal lengths in a list": Row(OK + b"Content-Length: LENGTH, LENGTH\r\n\r\nBODY", kept=True),
    "different lengths": invalid(SIZED + b"Content-Length: 5\r\n\r\nBODY"),
    "different lengths in a list": invalid(OK + b"Content-Length: LENGTH, 5\r\n\r\nBODY"),
    **{
        f"a length of {length!r}": invalid(OK + b"Content-Length: " + length + b"\r\n\r\nBODY")
        for length in (b"", b"-5", b"+LENGTH", b"LENGTH LENGTH", b"0x50", b"1e3", b"1" * 30)
    },
    **{
        f"a transfer coding of {coding!r}": invalid(
            OK + b"Transfer-Encoding: " + coding + b"\r\n\r\nCHUNKS0\r\n\r\n"
        )
        for coding in (
            b"",
            b"gzip",
            b"identity",
            b"gzip, chunked",
            b"chunked, gzip",
            b"chunked, chunked",
            b"xchunked",
        )
    },
    "two transfer codings": invalid(CODED + b"Transfer-Encoding: chunked\r\n\r\nCHUNKS0\r\n\r\n"),
    "trailers": Row(CODED + b"\r\nCHUNKS0\r\nDigest: x\r\nContent-Length: 1\r\n\r\n", kept=True),
    "trailers after a pause": Row(CODED + b"\r\nCHUNKS0\r\nDige" + PAUSE + b"st: x\r\n\r\n", kept=True),
    "an invalid trailer": Row(CODED + b"\r\nCHUNKS0\r\nno field\r\n\r\n"),
    "an invalid chunk behind the answer": Row(CODED + b"\r\nCHUNKSx\r\n"),
    "an invalid chunk inside the answer": Row(CODED + b"\r\n3\r\n: a\r\nx\r\n", BAD, charged="part"),
    "a chunk that is longer than its size": Row(CODED + b"\r\n1\r\n: a\r\n0\r\n\r\n", BAD, charged="part"),
    "surplus line ends": Row(PLAIN + b"\r\n"),
    "a second response": Row(PLAIN + PLAIN),
    "a second response behind chunks": Row(CHUNKED + CHUNKED),
    "a second response while the connection is idle": Row(CHUNKED + PAUSE + PLAIN),
    "a second end of chunks": Row(CHUNKED + b"0\r\n\r\n"),
    "more than the length": Row(PLAIN + b": more\n\n"),
    "an interim response behind the answer": Row(PLAIN + b"HTTP/1.1 100 Continue\r\n\r\n"),
    "HTTP/1.0": Row(PLAIN.replace(b"1.1", b"1.0"), then_closes=True),
    "HTTP/1.0 with keep-alive": Row(SIZED.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n\r\nBODY"),
    "HTTP/1.0 with chunks": Row(CHUNKED.replace(b"1.1", b"1.0")),
    "HTTP/1.2": Row(PLAIN.replace(b"1.1", b"1.2"), kept=True),
    "HTTP/2": invalid(PLAIN.replace(b"1.1", b"2.0")),
    "the end of the connection": Row(OK + b"\r\nBODY", then_closes=True),
    "the end of the connection, too early": Row(OK + b"\r\n: a\n\n", BAD, charged="part", then_closes=True),
    "a length that is too long": Row(
        OK + b"Content-Length: 9999\r\n\r\n: a\n\n", BAD, charged="part", then_closes=True
    ),
    "a length that is too short": Row(OK + b"Content-Length: 5\r\n\r\nBODY", BAD, charged="part"),
    "a length of 0": Row(OK + b"Content-Length: 0\r\n\r\n", BAD, charged="part", kept=True),
    "no body and no length": Row(OK + b"\r\n", BAD, charged="part", then_closes=True),
    "close": Row(SIZED + b"Connection: close\r\n\r\nBODY"),
    "close in a list": Row(SIZED + b"Connection: keep-alive, Close\r\n\r\nBODY"),
    "close in a second field": Row(SIZED + b"Connection: keep-alive\r\nConnection: close\r\n\r\nBODY"),
    **{
        f"204 with {fields!r}": Row(b"HTTP/1.1 204 No\r\n%b\r\n" % fields, FAILED, kept=True, charged="hold")
        for fields in (b"", b"Content-Length: 500\r\n", b"Transfer-Encoding: chunked\r\n")
    },
    **{
        f"304 with {fields!r}": Row(
            b"HTTP/1.1 304 No\r\n%b\r\n" % fields, FAILED, kept=True, charged="nothing"
        )
        for fields in (b"", b"Content-Length: 500\r\n", b"Transfer-Encoding: chunked\r\n")
    },
    "204 with a body": Row(b"HTTP/1.1 204 No\r\n\r\nBODY", FAILED, charged="hold"),
    "304 with a body": Row(
        b"HTTP/1.1 304 No\r\nContent-Length: LENGTH\r\n\r\nBODY", FAILED, charged="nothing"
    ),
    "a refusal": Row(ERROR % b"500 No", FAILED, kept=True, charged="nothing"),
    "a refusal after an interim response": Row(
        b"HTTP/1.1 103 E\r\n\r\n" + PAUSE + ERROR % b"500 No", FAILED, kept=True, charged="nothing"
    ),
    "a refusal with an answer behind it": Row(ERROR % b"500 No" + PLAIN, FAILED, charged="nothing"),
    "lines that end with LF": invalid(PLAIN.replace(b"\r\n", b"\n")),
    "NUL in a field": invalid(SIZED + b"X: \0\r\n\r\nBODY"),
    "space before a colon": invalid(OK + b"Content-Length : LENGTH\r\n\r\nBODY"),
    "an empty line before the response": invalid(b"\r\n" + PLAIN),
    "a head in two halves": Row(SIZED[:40] + PAUSE + SIZED[40:] + b"\r\nBODY", kept=True),
    "a head that is cut": invalid(SIZED)._replace(then_closes=True),
    "nothing": invalid(b"")._replace(then_closes=True),
}


def events_of(run: bytes) -> bytes:
    """Return a stream whose text is the name of the run."""
    choice = {"index": 0, "delta": {"content": run.decode()}, "finish_reason": "stop"}
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS}
    chunk = {"id": "c", "choices": [choice]}
    return b"data: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (
        json.dumps(chunk).encode(),
        json.dumps({"id": "c", "choices": [], "usage": usage}).encode(),
    )


def chunks_of(body: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in body.splitlines(keepends=True))


@dataclass
class Upstream:
    """Sends the row's response to a run in turn, and a plain one to the next. Counts the connections."""

    row: Row = ROWS["a length"]
    requests: int = 0
    connections: int = 0

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        listener = socket.create_server(("127.0.0.1", 0))
        threads = [threading.Thread(target=self._accept, args=[listener])]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            threads[0].join()
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=[sock], daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock, sock.makefile("rb") as stream:
            while run := read_run(stream):
                self.requests += 1
                row = self.row if self.requests % 2 else ROWS["a length"]
                body = events_of(run)
                sent = row.sent.replace(b"LENGTH", b"%d" % len(body))
                sent = sent.replace(b"CHUNKS", chunks_of(body)).replace(b"BODY", body)
                for piece in sent.split(PAUSE):
                    sock.sendall(piece)
                    if PAUSE in sent:
                        time.sleep(PAUSE_SECONDS)
                if row.then_closes:
                    return


def read_run(stream: io.BufferedReader) -> bytes:
    """Read a request, and return the run that its prompt names; nothing at the end of the connection."""
    length = 0
    while (line := stream.readline()) not in {b"", b"\r\n"}:
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    found = RUN.search(stream.read(length))
    return found[0] if found else b""


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture(scope="module")
def proxy(upstream: Upstream) -> Iterator[Proxy]:
    with (
        upstream.serving() as url,
        Proxy(None, CHUTES_BASE_URL=url, CIRCUIT_FAILURES="0", IDLE_TIMEOUT_SECONDS="10") as started,
    ):
        yield started


@each_row("name", ROWS)
def test_each_run_gets_its_own_answer_or_an_error(proxy: Proxy, upstream: Upstream, name: str) -> None:
    row, plain = ROWS[name], ROWS["a length"]
    upstream.row = plain
    check_call(proxy, plain)  # from here on there is a connection to use again
    upstream.requests, before = 0, upstream.connections
    upstream.row = row

    for _ in range(2):
        check_call(proxy, row)
        if PAUSE in row.sent:
            time.sleep(2 * PAUSE_SECONDS)  # until all is sent
        check_call(proxy, plain)

    assert upstream.requests == 4
    assert upstream.connections - before == (0 if row.kept else 2)


def check_call(proxy: Proxy, row: Row) -> None:
    run = f"run-{uuid4().hex}"
    answer = proxy.infer(run, run)
    if row.code:
        assert answer.outcome == (500, row.code)
    else:
        assert (answer.status, answer.json) == (200, run)
    usage = proxy.usage(run)
    hold = expected_holds.hold(run)
    least, most = {
        "usage": (USAGE, USAGE),
        "nothing": (0, 0),
        "hold": (hold, hold),
        "part": (expected_holds.bound(run), hold),
    }[row.charged]
    assert usage.held == 0
    assert least <= usage.spent <= most
