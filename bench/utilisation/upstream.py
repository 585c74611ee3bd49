"""An upstream that counts and bills by real tokenizers. It speaks the part of OpenAI's API that is used."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from bench.utilisation.gates import Meter
from bench.utilisation.model import DEFAULT_MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.utilisation.model import Answer, Model

EVENTS = 12
"""Events of a streamed answer, at most. Each has several tokens, as with speculative decoding."""


class Upstream(ThreadingHTTPServer):
    """A server with these models, and its bill."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, models: dict[str, Model]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models
        self.meter = Meter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def upstream(models: dict[str, Model]) -> Iterator[Upstream]:
    """The upstream in threads of this process, so that a text is counted once for the agents and for it."""
    with Upstream(models) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = self.server.models[body["model"]]
        prompt_tokens = model.prompt_tokens(body["messages"])
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or DEFAULT_MAX_TOKENS
        answer = model.answer(body["messages"], limit)
        time.sleep(answer.seconds)
        self.server.meter.add(model.cost_nanousd(prompt_tokens, answer.tokens))
        completion = _Completion(model.name, prompt_tokens, answer)
        if body.get("stream"):
            self._send("text/event-stream", completion.stream(body.get("stream_options") or {}))
        else:
            self._send("application/json", json.dumps(completion.whole()).encode())

    def do_GET(self) -> None:
        models = [{"id": name, "object": "model"} for name in self.server.models]
        self._send("application/json", json.dumps({"object": "list", "data": models}).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Log nothing."""

    def _send(self, content_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Completion:
    """An answer in OpenAI's format."""

    def __init__(self, model: str, prompt_tokens: int, answer: Answer) -> None:
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._answer = answer
        self._finish_reason = "length" if answer.is_cut else "stop"

    def whole(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": self._answer.content}
        if self._answer.reasoning:
            message["reasoning_content"] = self._answer.reasoning
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        return self._object("chat.completion", [choice], usage=self._usage(self._answer.tokens))

    def stream(self, options: dict[str, Any]) -> bytes:
        """All events. With `continuous_usage_stats` each of them has the usage so far."""
        events, sent = [self._delta({"role": "assistant", "content": ""}, 0, options)], 0
        deltas = self._deltas()
        for number, delta in enumerate(deltas, 1):
            sent = self._answer.tokens * number // len(deltas)
            events.append(self._delta(delta, sent, options))
        events.append(self._delta({}, sent, options, self._finish_reason))
        if options.get("include_usage"):
            events.append(self._object("chat.completion.chunk", [], usage=self._usage(self._answer.tokens)))
        data = [json.dumps(event) for event in events]
        return "".join(f"data: {each}\n\n" for each in [*data, "[DONE]"]).encode()

    def _deltas(self) -> list[dict[str, str]]:
        texts = {"reasoning_content": self._answer.reasoning, "content": self._answer.content}
        step = max(1, sum(map(len, texts.values())) // (EVENTS - 2))
        return [
            {name: text[start : start + step]}
            for name, text in texts.items()
            for start in range(0, len(text), step)
        ]

    def _delta(
        self, delta: dict[str, str], tokens: int, options: dict[str, Any], finish_reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        shows_usage = options.get("continuous_usage_stats")
        usage = {"usage": self._usage(tokens)} if shows_usage else {}
        return self._object("chat.completion.chunk", [choice], **usage)

    def _object(self, kind: str, choices: list[dict[str, Any]], **fields: object) -> dict[str, Any]:
        envelope = {"id": "chatcmpl-1", "object": kind, "created": 1_790_000_000, "model": self._model}
        return {**envelope, "choices": choices, **fields}

    def _usage(self, completion_tokens: int) -> dict[str, int]:
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self._prompt_tokens + completion_tokens,
        }
