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

from ridges_proxy.upstream.body_reader import MAX_RESPONSE_BYTES
from ridges_proxy.upstream.client import MAX_JSON_BYTES
from ridges_proxy.upstream.sse import MAX_EVENT_BYTES
from tests.process import terms
from tests.process.server import GUNICORN, INFERENCE, Proxy, chat, text, wait_until
from tests.process.wire import Wire, head, post
from tests.support.redis_kinds import write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.process.fake_chutes_control import Upstream

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
MEBIBYTE = b"x" * (1 << 20)
FAILURES = 3
MOST_GROWTH_KB = 160_000
"""For an answer without end, or the densest of JSON in the largest event that is read (2 MiB), twice."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def pour(start: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    """Send a start, and then the same piece until the other side has had enough; a gibibyte at most."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(start)
        for _ in range((1 << 30) // len(piece)):
            sock.sendall(piece)

    return serve


def pour_and_wait(start: bytes, piece: bytes, total_bytes: int) -> Callable[[socket.socket], None]:
    """Send a start, the same piece up to a size, and then nothing until the other side has had enough."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(start)
        for _ in range(total_bytes // len(piece)):
            sock.sendall(piece)
        sock.recv(1)

    return serve


def say(*pieces: bytes) -> Callable[[socket.socket], None]:
    """Send these, and hang up."""
    return lambda sock: sock.sendall(b"".join(pieces))


LIES = {
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
    "a negative length": say(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", MEBIBYTE),
    "two lengths": say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    "no HTTP at all": say(bytes(range(256)) * 64),
    "nothing but a status": say(b"HTTP/1.1 200"),
    "events of nothing but brackets": pour(
        STREAM, chunk(b'data: {"choices":[{}' + b",{}" * 650_000 + b"]}\n\n")
    ),
    "an error of a gibibyte": pour(b"HTTP/1.1 500 No\r\nContent-Type: text/plain\r\n\r\n", MEBIBYTE),
}


ENDED_BY_TIME = "empty events without end"
"""They cost no room: of the limits only the deadline ends them."""

CODES = {"an error of a gibibyte": "upstream_failed"}


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


class Liar:
    """Treats every connection in the one way that is the latest to be told."""

    lie: Callable[[socket.socket], None]

    def __call__(self, sock: socket.socket) -> None:
        self.lie(sock)


@pytest.fixture(scope="module")
def liar() -> Liar:
    return Liar()


@pytest.fixture(scope="module")
def liars_url(liar: Liar) -> Iterator[str]:
    with upstream_that(liar) as url:
        yield url


@pytest.fixture(scope="module")
def shared_proxy(fake_chutes: Upstream, liars_url: str) -> Iterator[Proxy]:
    """A proxy whose limits of time are above all that it can need."""
    with Proxy(
        fake_chutes,
        CHUTES_BASE_URL=liars_url,
        DEADLINE_SECONDS="600",
        IDLE_TIMEOUT_SECONDS="600",
        CIRCUIT_FAILURES="1000",
    ) as started:
        yield started


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie != ENDED_BY_TIME])
def test_an_upstream_without_measure_is_cut_off(shared_proxy: Proxy, liar: Liar, run: str, lie: str) -> None:
    liar.lie = LIES[lie]
    check_cut_off(shared_proxy, run, CODES.get(lie, "upstream_broken"))


def test_an_upstream_without_end_is_cut_off_by_its_time(
    fake_chutes: Upstream, liar: Liar, liars_url: str
) -> None:
    liar.lie = LIES[ENDED_BY_TIME]
    with Proxy(
        fake_chutes, CHUTES_BASE_URL=liars_url, DEADLINE_SECONDS="3", IDLE_TIMEOUT_SECONDS="3"
    ) as brief_proxy:
        check_cut_off(brief_proxy, "run", "upstream_timeout")


def check_cut_off(proxy: Proxy, run: str, code: str) -> None:
    with growth_below(MOST_GROWTH_KB, proxy):
        assert proxy.infer(run).outcome == (500, code)
    books = proxy.usage(run)
    assert (books.held, proxy.in_flight()) == (0, 0)
    assert books.spent <= terms.hold("hi")
    assert proxy.embed(run).status == 200
    assert MAX_EVENT_BYTES < MOST_GROWTH_KB << 10


@contextmanager
def growth_below(most_kb: int, proxy: Proxy) -> Iterator[None]:
    """Of the memory of the proxy's worker: how far its peak may be above what it has now."""
    (worker,) = proxy.workers()
    Path(f"/proc/{worker}/clear_refs").write_text("5", "utf-8")  # makes the peak what there is now
    before_kb = peak_kb(worker)
    yield
    assert peak_kb(worker) - before_kb < most_kb


def peak_kb(pid: int) -> int:
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(line)


JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DENSE = b"[" + b"[]," * (MAX_JSON_BYTES // 3 - 2) + b"[]]"
BRACKETS = "nothing but brackets"
KEPT = {
    "a body without end": pour(JSON + b"\r\n", MEBIBYTE),
    "a length of a gibibyte": pour(JSON + b"Content-Length: %d\r\n\r\n" % (1 << 30), MEBIBYTE),
    "a length of 5,000 digits": pour(JSON + b"Content-Length: %b\r\n\r\n" % (b"9" * 5_000), MEBIBYTE),
    BRACKETS: say(JSON + b"Content-Length: %d\r\n\r\n" % len(DENSE), DENSE),
}
MOST_GROWTH_FOR_BRACKETS_KB = 1_200_000
"""What Python makes of eleven million lists, for the moment of its reading."""


@pytest.fixture(scope="module")
def keeper(liars_url: str) -> Iterator[Proxy]:
    """A proxy whose upstreams all lie."""
    with Proxy(
        None, CHUTES_BASE_URL=liars_url, CHUTES_EMBEDDING_URL=liars_url, CIRCUIT_FAILURES="1000"
    ) as started:
        yield started


@pytest.mark.parametrize("path", ["/agents/embedding", "/v1/embeddings", "/v1/chat/completions"])
@pytest.mark.parametrize("lie", KEPT)
def test_an_answer_in_one_piece_without_measure_is_cut_off(
    keeper: Proxy, liar: Liar, run: str, lie: str, path: str
) -> None:
    liar.lie = KEPT[lie]
    reads_brackets = path == "/v1/chat/completions" and lie == BRACKETS
    with growth_below(MOST_GROWTH_FOR_BRACKETS_KB if reads_brackets else MOST_GROWTH_KB, keeper):
        body = text(run, "hi") if "embedding" in path else chat(run, "hi", max_tokens=terms.MAX_TOKENS)
        answer = keeper.ask("POST", path, body)
    assert answer.status >= 500
    assert b'"upstream_broken"' in answer.body
    books = keeper.usage(run)
    assert (books.held, keeper.in_flight()) == (0, 0)
    assert books.spent <= (terms.EMBEDDING_HOLD if "embedding" in path else terms.hold("hi"))


def test_an_upstream_with_a_wrong_certificate_is_never_told_the_key(
    fake_chutes: Upstream, tmp_path: Path
) -> None:
    write_certificate(tmp_path / "key.pem", tmp_path / "certificate.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    heard: list[bytes] = []
    with (
        upstream_that(lambda sock: heard.append(sock.recv(1)), tls) as url,
        Proxy(fake_chutes, CHUTES_BASE_URL=url) as proxy,
    ):
        assert proxy.infer("run").outcome == (500, "upstream_unreachable")
        books = proxy.usage("run")
    assert (books.spent, books.held, heard) == (0, 0, [])


def test_a_server_out_of_files_serves_again_when_it_has_some(fake_chutes: Upstream) -> None:
    """What it cannot send for want of one it does not charge, nor does it take the upstream for down."""
    serve = f"{GUNICORN} wsgi:app --keep-alive 600"  # no idle connection makes room while the test lasts
    command = ["bash", "-c", f"ulimit -n 80; exec {serve}"]
    runs = [f"run-{number}" for number in range(FAILURES + 1)]
    with Proxy(fake_chutes, command=command, CIRCUIT_FAILURES=str(FAILURES)) as proxy:
        with proxy.connect() as wire, ExitStack() as besiegers:
            wire.send(head("/health", method="GET"))
            assert wire.answer().status == 200
            for _ in range(120):  # most of them wait in the kernel's queue
                besiegers.enter_context(Wire(proxy.port))
            assert proxy.lines.wait(event="file limit reached: new connections wait")
            for run in runs:
                wire.send(post(INFERENCE, chat(run, "hi")))
                assert wire.answer().outcome == (500, "upstream_unreachable")
        wait_until(lambda: proxy.infer("run").status == 200, "an answer")
        assert proxy.ready().json["upstream"] == {"down": []}
        assert {proxy.usage(run) for run in runs} == {proxy.usage("never-seen")}
