"""An upstream that costs next to nothing: answers written beforehand, sent when asked for.

    python bench/stub.py [PORT]

prints its port. A request's last bytes say what it wants: `events=20` for so many events at once,
`events=200@50` for so many, fifty a second. Whatever else it holds is not read. It speaks enough HTTP/1.1 for
every client that is measured: keep-alive, Content-Length, one request at a time on a connection.
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
WORD = "word "

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_WISH = re.compile(rb"events=([0-9]+)(?:@([0-9]+))?")
_STREAM = re.compile(rb'"stream": ?true')
HEAD_BYTES = 2_048
"""Far more than the heads of the clients that are measured."""


def _reply(body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(value: object) -> bytes:
    return _chunk(b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n")


def _delta(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _event({**_envelope("chat.completion.chunk"), "choices": [choice]})


def _envelope(kind: str) -> dict[str, object]:
    return {"id": "chatcmpl-5f6ad1c2b3e94d0f", "object": kind, "created": 1_790_000_000, "model": MODEL}


def _usage(events: int) -> dict[str, int]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": events,
        "total_tokens": PROMPT_TOKENS + events,
    }


BEGIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
OPENING = _delta({"role": "assistant", "content": ""})
WORD_EVENT = _delta({"content": WORD})


@cache
def closing(events: int) -> bytes:
    """What follows the words: why they end, the usage, and the end of the stream."""
    usage = _event({**_envelope("chat.completion.chunk"), "choices": [], "usage": _usage(events)})
    return _delta({}, "stop") + usage + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


@cache
def streamed(events: int) -> bytes:
    """All of a stream, each event in a chunk of its own."""
    return BEGIN + OPENING + WORD_EVENT * events + closing(events)


@cache
def whole(events: int) -> bytes:
    """A chat completion in one piece."""
    message = {"role": "assistant", "content": WORD * events}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    document = {**_envelope("chat.completion"), "choices": [choice], "usage": _usage(events)}
    return _reply(json.dumps(document).encode())


EMBEDDING = _reply(json.dumps([[round(0.001 * index, 4) for index in range(1024)]]).encode())


class Stub:
    """One thread, one epoll, and a heap of the events that are due."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=8_192)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, tuple[socket.socket, bytearray]] = {}
        self._due: list[
            tuple[float, int, int, int, float]
        ] = []  # when, whom, events left, of, seconds between

    def serve(self) -> None:
        """For ever."""
        while True:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else -1
            for number, _ in self._poll.poll(wait):
                if number == self._listener.fileno():
                    self._accept()
                else:
                    self._receive(number)
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

    def _receive(self, number: int) -> None:
        sock, received = self._connections[number]
        try:
            piece = sock.recv(1 << 20)
            received += piece
            if piece and (end := received.find(b"\r\n\r\n", 0, HEAD_BYTES)) >= 0:
                length = _LENGTH.search(received, 0, end)
                if len(received) - end - 4 >= (int(length[1]) if length else 0):
                    self._answer(number, sock, bytes(received), end)
                    received.clear()
        except OSError:
            piece = b""
        if not piece:
            self._drop(number)

    def _answer(self, number: int, sock: socket.socket, request: bytes, head_end: int) -> None:
        if b"/embed" in request[:64]:
            sock.sendall(EMBEDDING)
            return
        wishes = _WISH.findall(request, head_end)
        events, rate = wishes[-1] if wishes else (b"20", b"")
        if not _STREAM.search(request, head_end):
            sock.sendall(whole(int(events)))
        elif rate:
            sock.sendall(BEGIN + OPENING)
            step = 1 / int(rate)
            heapq.heappush(self._due, (time.monotonic() + step, number, int(events), int(events), step))
        else:
            sock.sendall(streamed(int(events)))

    def _send_event(self, when: float, number: int, left: int, events: int, step: float) -> None:
        if number not in self._connections:
            return
        sock, _ = self._connections[number]
        try:
            sock.sendall(WORD_EVENT if left > 1 else WORD_EVENT + closing(events))
        except OSError:
            self._drop(number)
            return
        if left > 1:
            heapq.heappush(self._due, (when + step, number, left - 1, events, step))

    def _drop(self, number: int) -> None:
        sock, _ = self._connections.pop(number)
        self._poll.unregister(sock)
        sock.close()


def main() -> None:
    stub = Stub(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(stub.port, flush=True)
    stub.serve()


if __name__ == "__main__":
    main()
