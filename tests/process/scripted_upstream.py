"""An upstream whose answers a test computes from each request, and what it bills for them."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    Answer = Callable[[dict[str, Any]], "Response"]


@dataclass(frozen=True)
class Response:
    """A response. A body of several pieces is streamed: it ends, or is closed, where the client leaves."""

    body: bytes | Iterable[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def whole(document: object, status: int = 200) -> Response:
    """Return a response with this JSON."""
    return Response(json.dumps(document).encode(), status)


def completion(text: str = "Hi", usage: object = None, **message: object) -> Response:
    """Return a complete answer in one piece."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}}
    return whole({"id": "c", "choices": [choice | {"finish_reason": "stop"}], "usage": usage})


def event(document: object) -> bytes:
    """Return an event of a stream. Bytes are sent as they are."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return b"data: " + data + b"\n\n"


def delta(usage: object = None, finish: str | None = None, **content: object) -> dict[str, Any]:
    """Return a chunk with this content."""
    chunk = {"id": "c", "choices": [{"index": 0, "delta": content, "finish_reason": finish}]}
    return chunk if usage is None else {**chunk, "usage": usage}


def stream(*chunks: object, usage: object = None) -> Response:
    """Return a complete stream of these chunks, with the usage at its end."""
    end = [delta(finish="stop"), {"id": "c", "choices": [], "usage": usage}, b"[DONE]"]
    return Response([event(chunk) for chunk in [*chunks, *end]])


def usage_of(prompt: float, completed: float) -> dict[str, float]:
    """Return a usage in OpenAI's form."""
    return {"prompt_tokens": prompt, "completion_tokens": completed, "total_tokens": prompt + completed}


class ScriptedUpstream:
    """A server that answers every request with `answer`, and keeps the requests."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _: completion(usage=usage_of(10, 5))
        self.requests: list[dict[str, Any]] = []
        self._billed_nanousd = 0
        self._open = 0
        self._changed = threading.Condition()

    @property
    def billed_nanousd(self) -> int:
        """The bill of all calls that have ended. Waits for those that have not."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._open, 20), "a call has not ended"
            return self._billed_nanousd

    def bill(self, nanousd: int) -> None:
        """Add the bill of a call."""
        with self._changed:
            self._billed_nanousd += nanousd

    def reset(self) -> None:
        """Forget the bill and the requests."""
        assert self.billed_nanousd >= 0
        self.requests.clear()
        self._billed_nanousd = 0

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serve in threads. Yields the value of CHUTES_BASE_URL, and of CHUTES_EMBEDDING_URL."""
        handler = type("Handler", (_Handler,), {"upstream": self})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/v1"
            finally:
                server.shutdown()
                thread.join()

    @contextlib.contextmanager
    def call(self, request: dict[str, Any]) -> Generator[Response]:
        """Answer a request. The call ends with the context."""
        with self._changed:
            self._open += 1
            self.requests.append(request)
        try:
            yield self.answer(request)
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: ScriptedUpstream

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with contextlib.suppress(OSError), self.upstream.call(request) as response:
            if isinstance(response.body, bytes):
                self._start(response, "application/json", {"Content-Length": str(len(response.body))})
                self.wfile.write(response.body)
            else:
                self._start(response, "text/event-stream", {"Transfer-Encoding": "chunked"})
                self._stream(response.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Log nothing."""

    def _start(self, response: Response, content_type: str, framing: dict[str, str]) -> None:
        self.send_response(response.status)
        for name, value in {"Content-Type": content_type, **framing, **response.headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _stream(self, pieces: Iterable[bytes]) -> None:
        iterator = iter(pieces)
        try:
            for piece in iterator:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        finally:
            if hasattr(iterator, "close"):
                iterator.close()
