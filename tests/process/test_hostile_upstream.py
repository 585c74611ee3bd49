"""A hostile upstream, and a server without free file descriptors.

Memory stays bounded, each hold is settled, and other calls are served.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from ridges_proxy.upstream.body_reader import MAX_RESPONSE_BYTES
from ridges_proxy.upstream.client import MAX_JSON_BYTES
from ridges_proxy.upstream.sse import MAX_EVENT_BYTES
from tests.process import expected_holds
from tests.process.server import GUNICORN, INFERENCE, Proxy, chat, text, wait_until
from tests.process.wire import Wire, head, post
from tests.support.redis_kinds import write_certificate
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.process.fake_chutes_control import Upstream

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
MEBIBYTE = b"x" * (1 << 20)
FAILURES = 3
GOOD_EMBEDDING = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n[[0.5]]"
MOST_GROWTH_KB = 160_000
"""For an endless answer, or for the densest JSON in the largest event that is read (2 MiB), twice."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def pour(start: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    """Send a start, and then the same piece until the other side closes: at most 1 GiB."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(start)
        for _ in range((1 << 30) // len(piece)):
            sock.sendall(piece)

    return serve


def pour_and_wait(start: bytes, piece: bytes, total_bytes: int) -> Callable[[socket.socket], None]:
    """Send a start, the same piece up to a size, and then nothing until the other side closes."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(start)
        for _ in range(total_bytes // len(piece)):
            sock.sendall(piece)
        sock.recv(1)

    return serve


def send(*pieces: bytes) -> Callable[[socket.socket], None]:
    """Send these bytes, and close."""
    return lambda sock: sock.sendall(b"".join(pieces))


ANSWERS = {
    "a line of a gibibyte": pour(STREAM + chunk(b"data: "), chunk(MEBIBYTE)),
    "an event of a gibibyte, in lines": pour(STREAM, chunk(b"data: " + b"y" * 4_000 + b"\n")),
    "comments without end": pour(STREAM, chunk(b": " + b"z" * 8_000 + b"\n")),
    "empty events without end": pour_and_wait(STREAM, chunk(b"\n\n" * 4_000), MAX_RESPONSE_BYTES // 2),
    "heads without end": pour(b"HTTP/1.1 200 OK\r\n", b"X-More: yes\r\n" * 100),
    "a head's line without end": pour(b"HTTP/1.1 200 OK\r\nX-Long: ", MEBIBYTE),
    "interim answers without end": pour(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "a chunk's size without end": pour(STREAM, b"0" * 4_096),
    "trailers without end": pour(STREAM + b"0\r\n", b"X-More: yes\r\n" * 100),
    "a body without end": pour(PLAIN, MEBIBYTE),
    "a negative length": send(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", MEBIBYTE),
    "two lengths": send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    "no HTTP at all": send(bytes(range(256)) * 64),
    "nothing but a status": send(b"HTTP/1.1 200"),
    "events of nothing but brackets": pour(
        STREAM, chunk(b'data: {"choices":[{}' + b",{}" * 650_000 + b"]}\n\n")
    ),
    "an error of a gibibyte": pour(b"HTTP/1.1 500 No\r\nContent-Type: text/plain\r\n\r\n", MEBIBYTE),
}


ENDED_BY_TIME = "empty events without end"
"""They take no memory, so that of all limits only the deadline ends them."""

CODES = {"an error of a gibibyte": "upstream_failed"}


@contextmanager
def upstream_that_serves(
    serves: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Start an upstream that serves each connection of a call with this function after its first bytes."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def handle(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            connection = tls.wrap_socket(sock, server_side=True) if tls else sock
            with connection:
                if connection.recv(65_536).startswith(b"POST"):  # the list of models is not of interest
                    serves(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threads.append(threading.Thread(target=handle, args=(sock,), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()


class HostileUpstream:
    """Serves every connection with `answer`, which a test sets."""

    answer: Callable[[socket.socket], None]

    def __call__(self, sock: socket.socket) -> None:
        self.answer(sock)


@pytest.fixture(scope="module")
def upstream() -> HostileUpstream:
    return HostileUpstream()


@pytest.fixture(scope="module")
def upstream_url(upstream: HostileUpstream) -> Iterator[str]:
    with upstream_that_serves(upstream) as url:
        yield url


@pytest.fixture(scope="module")
def proxy(upstream_url: str) -> Iterator[Proxy]:
    """A proxy whose calls all go to the hostile upstream. Its time limits end none of them."""
    with Proxy(
        None,
        CHUTES_BASE_URL=upstream_url,
        CHUTES_EMBEDDING_URL=upstream_url,
        DEADLINE_SECONDS="600",
        IDLE_TIMEOUT_SECONDS="600",
        CIRCUIT_FAILURES="1000",
    ) as started:
        yield started


@each_row("name", [name for name in ANSWERS if name != ENDED_BY_TIME])
def test_a_hostile_stream_is_cut_off(proxy: Proxy, upstream: HostileUpstream, name: str) -> None:
    upstream.answer = ANSWERS[name]
    check_cut_off(proxy, CODES.get(name, "upstream_broken"))
    upstream.answer = send(GOOD_EMBEDDING)
    assert proxy.embed(uuid4().hex).status == 200


def test_a_stream_that_only_a_time_limit_can_end_is_cut_off(
    fake_chutes: Upstream, upstream: HostileUpstream, upstream_url: str
) -> None:
    upstream.answer = ANSWERS[ENDED_BY_TIME]
    with Proxy(
        fake_chutes, CHUTES_BASE_URL=upstream_url, DEADLINE_SECONDS="3", IDLE_TIMEOUT_SECONDS="3"
    ) as impatient:
        check_cut_off(impatient, "upstream_timeout")
        assert impatient.embed(uuid4().hex).status == 200


def check_cut_off(proxy: Proxy, code: str) -> None:
    run = uuid4().hex
    with growth_below(MOST_GROWTH_KB, proxy):
        assert proxy.infer(run).outcome == (500, code)
    usage = proxy.usage(run)
    assert (usage.held, proxy.in_flight()) == (0, 0)
    assert usage.spent <= expected_holds.hold("hi")
    assert MAX_EVENT_BYTES < MOST_GROWTH_KB << 10


@contextmanager
def growth_below(most_kb: int, proxy: Proxy) -> Iterator[None]:
    """Check that the peak memory of the proxy's worker is less than so much above its memory now."""
    (worker,) = proxy.workers()
    Path(f"/proc/{worker}/clear_refs").write_text("5", "utf-8")  # sets the peak to the present size
    before_kb = peak_kb(worker)
    yield
    assert peak_kb(worker) - before_kb < most_kb


def peak_kb(pid: int) -> int:
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(line)


JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DENSE = b"[" + b"[]," * (MAX_JSON_BYTES // 3 - 2) + b"[]]"
BRACKETS = "nothing but brackets"
JSON_ANSWERS = {
    "a body without end": pour(JSON + b"\r\n", MEBIBYTE),
    "a length of a gibibyte": pour(JSON + b"Content-Length: %d\r\n\r\n" % (1 << 30), MEBIBYTE),
    "a length of 5,000 digits": pour(JSON + b"Content-Length: %b\r\n\r\n" % (b"9" * 5_000), MEBIBYTE),
    BRACKETS: send(JSON + b"Content-Length: %d\r\n\r\n" % len(DENSE), DENSE),
}
MOST_GROWTH_FOR_BRACKETS_KB = 1_200_000
"""Eleven million lists in Python, which exist while the answer is parsed."""


@each_row("path", ["/agents/embedding", "/v1/embeddings", "/v1/chat/completions"])
@each_row("name", JSON_ANSWERS)
def test_a_hostile_answer_in_one_piece_is_cut_off(
    proxy: Proxy, upstream: HostileUpstream, name: str, path: str
) -> None:
    run = uuid4().hex
    upstream.answer = JSON_ANSWERS[name]
    parses_brackets = path == "/v1/chat/completions" and name == BRACKETS
    with growth_below(MOST_GROWTH_FOR_BRACKETS_KB if parses_brackets else MOST_GROWTH_KB, proxy):
        body = (
            text(run, "hi") if "embedding" in path else chat(run, "hi", max_tokens=expected_holds.MAX_TOKENS)
        )
        answer = proxy.ask("POST", path, body)
    assert answer.status >= 500
    assert b'"upstream_broken"' in answer.body
    usage = proxy.usage(run)
    assert (usage.held, proxy.in_flight()) == (0, 0)
    assert usage.spent <= (
        expected_holds.EMBEDDING_HOLD if "embedding" in path else expected_holds.hold("hi")
    )


def test_an_upstream_with_a_wrong_certificate_gets_no_key(fake_chutes: Upstream, tmp_path: Path) -> None:
    write_certificate(tmp_path / "key.pem", tmp_path / "certificate.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    received: list[bytes] = []
    with (
        upstream_that_serves(lambda sock: received.append(sock.recv(1)), tls) as url,
        Proxy(fake_chutes, CHUTES_BASE_URL=url) as proxy,
    ):
        assert proxy.infer("run").outcome == (500, "upstream_unreachable")
        usage = proxy.usage("run")
    assert (usage.spent, usage.held, received) == (0, 0, [])


def test_a_server_without_free_file_descriptors_serves_again_when_some_are_free(
    fake_chutes: Upstream,
) -> None:
    """A call that cannot be sent is not charged, and does not count for the circuit breaker."""
    serve = f"{GUNICORN} wsgi:app --keep-alive 600"  # no idle connection is closed during the test
    command = ["bash", "-c", f"ulimit -n 80; exec {serve}"]
    refused = (500, "upstream_unreachable")
    runs = [f"run-{number}" for number in range(FAILURES + 1)]
    with Proxy(fake_chutes, command=command, CIRCUIT_FAILURES=str(FAILURES)) as proxy:
        with proxy.connect() as wire, ExitStack() as connections:
            wire.send(head("/health", method="GET"))
            assert wire.answer().status == 200
            for _ in range(120):  # most of them wait in the kernel's queue
                connections.enter_context(Wire(proxy.port))
            assert proxy.lines.wait(event="file limit reached: new connections wait")

            def outcome(run: str) -> tuple[int, str | None]:
                wire.send(post(INFERENCE, chat(run, "hi")))
                return wire.answer().outcome

            # A task of the worker may have had a descriptor at that moment, and has given it back.
            wait_until(lambda: outcome("early") == refused, "no free descriptor")
            assert [outcome(run) for run in runs] == [refused] * len(runs)
        wait_until(lambda: proxy.infer("run").status == 200, "an answer")
        assert proxy.ready().json["upstream"] == {"down": []}
        assert {proxy.usage(run) for run in runs} == {proxy.usage("never-seen")}
