"""Requests of an OpenAI client, and the forms of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.contract_http.service import CHAT, HEADERS, REQUEST_ID, TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask
    from werkzeug.test import TestResponse

CHAT_PATH = "/v1/chat/completions"
HELLO_HOLD_NANOUSD = (35 + 16 + 256 + 8192) * 270
"""The hold of CHAT: the bound of its prompt and OPENAI_MAX_TOKENS, at the default price."""

WHOLE = {
    "id": "chat-1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
"""A complete answer that costs 4,050 nano-USD."""

COST = b": cost 0.000004050 remaining 1.999995950 state ok\n\n"


def ask(app: Flask, path: str, body: Mapping[str, object], **headers: str) -> TestResponse:
    """Send a request and read the complete answer. A stream ends only when the server closes it."""
    return app.test_client().post(path, json=body, headers=HEADERS | headers, buffered=True)


def chat(app: Flask, **fields: object) -> TestResponse:
    return ask(app, CHAT_PATH, {**CHAT, **fields})


def stream(app: Flask, **fields: object) -> TestResponse:
    return chat(app, stream=True, **fields)


def embed(app: Flask, **fields: object) -> TestResponse:
    return ask(app, "/v1/embeddings", {**TEXT, **fields})


def estimate(app: Flask, **fields: object) -> TestResponse:
    return ask(app, "/v1/estimate", {**CHAT, **fields})


def envelope(code: str, kind: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The complete body of an error."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return {"error": error, "request_id": REQUEST_ID}


def error_event(code: str, kind: str, message: str) -> bytes:
    return b"data: " + orjson.dumps(envelope(code, kind, message)) + b"\n\n"


def begin(app: Flask) -> TestResponse:
    """Request a stream, and read nothing."""
    return app.test_client().post(CHAT_PATH, json={**CHAT, "stream": True}, headers=HEADERS)
