"""An upstream of bad will, and a server out of files: bounded, settled, and others are served."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.upstream.sse import MAX_EVENT_BYTES
from tests.process import terms
from tests.process.server import GUNICORN, Proxy, eventually
from tests.process.wire import Wire
from tests.support.redis_kinds import write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.process.stand_in_control import StandIn

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
MEBIBYTE = b"x" * (1 << 20)
MOST_GROWTH_KB = 160_000
"""For an answer without end: ten times the largest event that is read (16 MiB)."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def pour(start: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    """Send a start, and then the same piece until the other side has had enough; a gibibyte at most."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(start)
        for _ in range((1 << 30) // len(piece)):
            sock.sendall(piece)

    return serve


def say(*pieces: bytes) -> Callable[[socket.socket], None]:
    """Send these, and hang up."""
    return lambda sock: sock.sendall(b"".join(pieces))


LIES = {
    "a line of a gibibyte": pour(STREAM + chunk(b"data: "), chunk(MEBIBYTE)),
    "an event of a gibibyte, in lines": pour(STREAM, chunk(b"data: " + b"y" * 4_000 + b"\n")),
    "comments without end": pour(STREAM, chunk(b": " + b"z" * 8_000 + b"\n")),
    "empty events without end": pour(STREAM, chunk(b"\n\n" * 4_000)),
    "heads without end": pour(b"HTTP/1.1 200 OK\r\n", b"X-More: yes\r\n" * 100),
    "a head's line without end": pour(b"HTTP/1.1 200 OK\r\nX-Long: ", MEBIBYTE),
    "interim answers without end": pour(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "a chunk's size without end": pour(STREAM, b"0" * 4_096),
    "trailers without end": pour(STREAM + b"0\r\n", b"X-More: yes\r\n" * 100),
    "a body without end": pour(PLAIN, MEBIBYTE),
    "a negative length": say(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", MEBIBYTE),
    "two lengths": say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    "no HTTP at all": say(bytes(range(256)) * 64),
    "nothing but a status": say(b"HTTP/1.1 200"),
    "an error of a gibibyte": pour(b"HTTP/1.1 500 No\r\nContent-Type: text/plain\r\n\r\n", MEBIBYTE),
}


CODES = {
    "empty events without end": "upstream_timeout",  # they cost time, not room: the deadline ends them
    "an error of a gibibyte": "upstream_failed",
}
"""Of those that no limit of size ends."""


@contextmanager
def upstream_that(
    serves: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """An upstream that treats every connection like this, once something has come over it."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def attend(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            speaking = tls.wrap_socket(sock, server_side=True) if tls else sock
            with speaking:
                if speaking.recv(65_536):
                    serves(speaking)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threads.append(threading.Thread(target=attend, args=(sock,), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()


@pytest.mark.parametrize("lie", LIES)
def test_an_upstream_without_measure_is_cut_off(stand_in: StandIn, lie: str) -> None:
    with (
        upstream_that(LIES[lie]) as url,
        Proxy(stand_in, CHUTES_BASE_URL=url, DEADLINE_SECONDS="5", IDLE_TIMEOUT_SECONDS="5") as proxy,
    ):
        before_kb = peak_kb(proxy)
        assert proxy.infer("run").outcome == (500, CODES.get(lie, "upstream_broken"))
        assert peak_kb(proxy) - before_kb < MOST_GROWTH_KB
        books = proxy.usage("run")
        assert (books.held, proxy.in_flight()) == (0, 0)
        assert books.spent <= terms.hold("hi")
        assert proxy.embed("run").status == 200
    assert MAX_EVENT_BYTES < MOST_GROWTH_KB << 10


def peak_kb(proxy: Proxy) -> int:
    """The most that the worker ever had in memory."""
    (worker,) = proxy.workers()
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker}/status").read_text())
    return int(line)


def test_an_upstream_with_a_wrong_certificate_is_never_told_the_key(
    stand_in: StandIn, tmp_path: Path
) -> None:
    write_certificate(tmp_path / "key.pem", tmp_path / "certificate.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    heard: list[bytes] = []
    with (
        upstream_that(lambda sock: heard.append(sock.recv(1)), tls) as url,
        Proxy(stand_in, CHUTES_BASE_URL=url) as proxy,
    ):
        assert proxy.infer("run").outcome == (500, "upstream_unreachable")
        books = proxy.usage("run")
    assert (books.spent, books.held, heard) == (0, 0, [])


def test_a_server_out_of_files_serves_again_when_it_has_some(stand_in: StandIn) -> None:
    """And what it cannot send for want of one, it does not charge."""
    command = ["bash", "-c", f"ulimit -n 80; exec {GUNICORN} wsgi:app"]
    with Proxy(stand_in, command=command) as proxy:
        assert proxy.infer("run").status == 200
        spent = proxy.usage("run").spent
        with ExitStack() as besiegers:
            for _ in range(120):  # most of them wait in the kernel's queue
                besiegers.enter_context(Wire(proxy.port))
        eventually(lambda: proxy.infer("run").status == 200, "an answer")
        assert proxy.lines.wait(event="no more files may be opened: connections wait")
        books = proxy.usage("run")
        assert (books.spent % spent, books.held) == (0, 0)
