"""The HTTP requests that the benchmarks send."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from bench.servers import PROXY_KEY

MODEL = "deepseek-ai/DeepSeek-V3-0324"
AUTHORIZATION = {"Authorization": f"Bearer {PROXY_KEY}"}
PROXY_HEADERS = {**AUTHORIZATION, "X-Run-Id": "bench"}
INFERENCE_PATH = "/agents/inference"
COMPLETIONS_PATH = "/v1/chat/completions"
EMBEDDING_PATH = "/agents/embedding"


@dataclass(frozen=True)
class Request:
    """A POST request."""

    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def to_bytes(self, more_headers: dict[str, str] | None = None) -> bytes:
        """The request as it is sent. `more_headers` replace headers of the same name."""
        headers = {
            "Host": "bench",
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body)),
            **self.headers,
            **(more_headers or {}),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}\r\n".encode() + self.body


def chat(
    path: str,
    events: object = 20,
    *,
    messages: int = 1,
    stream: bool = False,
    headers: dict[str, str] = PROXY_HEADERS,
) -> Request:
    """A chat: one short message, before it any number of messages of 1,500 characters.

    The stub reads the number of events from the last message.
    """
    long_messages = [{"role": "user", "content": ("lorem ipsum " * 125)[:1500]}] * (messages - 1)
    last_message = {"role": "user", "content": f"Say something. events={events}"}
    body: dict[str, object] = {"model": MODEL, "messages": [*long_messages, last_message]}
    if path.startswith("/v1"):
        body["stream"] = stream
    return Request(path, json.dumps(body).encode(), headers)


def embedding() -> Request:
    return Request(EMBEDDING_PATH, json.dumps({"input": "some text"}).encode(), PROXY_HEADERS)


ROUTES = {
    INFERENCE_PATH: chat(INFERENCE_PATH),
    EMBEDDING_PATH: embedding(),
    "/v1 whole": chat(COMPLETIONS_PATH),
    "/v1 streamed": chat(COMPLETIONS_PATH, stream=True),
}
"""A request for each route, under the names that the tables use."""

RELAY_REQUEST = replace(ROUTES[INFERENCE_PATH], path="/relay")
"""The same chat for the bare relay."""
