"""An upstream that needs almost no processor time: it sends responses that are prepared in advance.

    python bench/stub.py [PORT]

Prints its port. The end of a request's body chooses the response: `events=20` for 20 events at once,
`events=200@50` for 200 events at 50 a second, `events=20 prompt=900` for a usage of 900 prompt tokens. The
stub reads nothing else but the path and `stream`. Of HTTP/1.1 it knows what the measured clients need:
keep-alive, Content-Length, and one request at a time on a connection.
"""

from __future__ import annotations

import heapq
import json
import re
import select
import socket
import sys
import time
from functools import cache

MODEL = "deepseek-ai/DeepSeek-V3-0324"
PROMPT_TOKENS = 12
"""Reported where the request asks for no other number."""

WORD = "word "

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_EVENTS = re.compile(rb"events=([0-9]+)(?:@([0-9]+))?(?: prompt=([0-9]+))?")
_STREAMED = re.compile(rb'"stream": ?true')
HEAD_BYTES = 2_048
"""Far more than the heads of the measured clients."""


def _json_response(document: object) -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(value: object) -> bytes:
    return _chunk(b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n")


def _delta_event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _event({**_envelope("chat.completion.chunk"), "choices": [choice]})


def _envelope(kind: str) -> dict[str, object]:
    return {"id": "chatcmpl-5f6ad1c2b3e94d0f", "object": kind, "created": 1_790_000_000, "model": MODEL}


def _usage(events: int, prompt_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": events,
        "total_tokens": prompt_tokens + events,
    }


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ROLE_EVENT = _delta_event({"role": "assistant", "content": ""})
WORD_EVENT = _delta_event({"content": WORD})


@cache
def stream_end(events: int, prompt_tokens: int = PROMPT_TOKENS) -> bytes:
    """The events behind the words: the finish reason, the usage, and the end of the stream."""
    usage = _event(
        {**_envelope("chat.completion.chunk"), "choices": [], "usage": _usage(events, prompt_tokens)}
    )
    return _delta_event({}, "stop") + usage + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


@cache
def stream(events: int, prompt_tokens: int = PROMPT_TOKENS) -> bytes:
    """A complete stream, each event in a chunk of its own."""
    return STREAM_HEAD + ROLE_EVENT + WORD_EVENT * events + stream_end(events, prompt_tokens)


@cache
def completion(events: int, prompt_tokens: int = PROMPT_TOKENS) -> bytes:
    """A chat completion that is not streamed."""
    message = {"role": "assistant", "content": WORD * events}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    document = {**_envelope("chat.completion"), "choices": [choice], "usage": _usage(events, prompt_tokens)}
    return _json_response(document)


EMBEDDING = _json_response([[round(0.001 * index, 4) for index in range(1024)]])


DueEvent = tuple[float, int, int, int, float]
"""The next event of a paced stream: when it is due, its connection, the events left, all events, and the
seconds between two. A plain tuple, because building anything else would slow the stub down."""


class Stub:
    """One thread with one epoll and a heap of due events."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=8_192)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, tuple[socket.socket, bytearray]] = {}
        """Each socket and the bytes received on it, by file descriptor."""
        self._due: list[DueEvent] = []

    def serve(self) -> None:
        """Serve until the process is stopped."""
        while True:
            wait_seconds = max(0.0, self._due[0][0] - time.monotonic()) if self._due else -1
            for file_descriptor, _ in self._poll.poll(wait_seconds):
                if file_descriptor == self._listener.fileno():
                    self._accept()
                else:
                    self._receive(file_descriptor)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                self._send_event(*heapq.heappop(self._due))

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(10)
            self._connections[sock.fileno()] = sock, bytearray()
            self._poll.register(sock, select.EPOLLIN)

    def _receive(self, connection: int) -> None:
        sock, received = self._connections[connection]
        try:
            data = sock.recv(1 << 20)
            received += data
            if data and (head_end := received.find(b"\r\n\r\n", 0, HEAD_BYTES)) >= 0:
                length = _CONTENT_LENGTH.search(received, 0, head_end)
                if len(received) - head_end - 4 >= (int(length[1]) if length else 0):
                    self._respond(connection, sock, bytes(received), head_end)
                    received.clear()
        except OSError:
            data = b""
        if not data:
            self._close(connection)

    def _respond(self, connection: int, sock: socket.socket, request: bytes, head_end: int) -> None:
        if b"/embed" in request[:64]:
            sock.sendall(EMBEDDING)
            return
        found = _EVENTS.findall(request, head_end)
        count, rate, prompt = found[-1] if found else (b"20", b"", b"")
        events, prompt_tokens = int(count), int(prompt or PROMPT_TOKENS)
        if not _STREAMED.search(request, head_end):
            sock.sendall(completion(events, prompt_tokens))
        elif rate:
            sock.sendall(STREAM_HEAD + ROLE_EVENT)
            interval_seconds = 1 / int(rate)
            due_at = time.monotonic() + interval_seconds
            heapq.heappush(self._due, (due_at, connection, events, events, interval_seconds))
        else:
            sock.sendall(stream(events, prompt_tokens))

    def _send_event(
        self, due_at: float, connection: int, events_left: int, events: int, interval_seconds: float
    ) -> None:
        if connection not in self._connections:
            return
        sock, _ = self._connections[connection]
        try:
            sock.sendall(WORD_EVENT if events_left > 1 else WORD_EVENT + stream_end(events))
        except OSError:
            self._close(connection)
            return
        if events_left > 1:
            following = (due_at + interval_seconds, connection, events_left - 1, events, interval_seconds)
            heapq.heappush(self._due, following)

    def _close(self, connection: int) -> None:
        sock, _ = self._connections.pop(connection)
        self._poll.unregister(sock)
        sock.close()


def main() -> None:
    stub = Stub(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(stub.port, flush=True)
    stub.serve()


if __name__ == "__main__":
    main()
