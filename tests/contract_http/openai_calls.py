"""What clients of OpenAI's API send, and what the faked upstream answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.contract_http.service import CHAT, HEADERS, REQUEST_ID, TEXT, answer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask
    from werkzeug.test import TestResponse

COMPLETION = {
    "id": "chat-1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
"""A whole answer of 10 + 5 tokens: 4,050 nano-USD."""

WHOLE = orjson.dumps(COMPLETION)
STREAMED = answer_of("Hi")

OPENAI_MAX_TOKENS = 8192


def chat(
    app: Flask,
    given: Mapping[str, object] | None = None,
    headers: Mapping[str, str] = HEADERS,
    **fields: object,
) -> TestResponse:
    """Ask for a chat completion; the fields given replace or join those of CHAT."""
    body = {**CHAT, **(given or {}), **fields}
    return app.test_client().post("/v1/chat/completions", json=body, headers=headers)


def estimate(app: Flask, given: Mapping[str, object] | None = None, **fields: object) -> TestResponse:
    """Ask what the same chat would hold."""
    body = {**CHAT, **(given or {}), **fields}
    return app.test_client().post("/v1/estimate", json=body, headers=HEADERS)


def vectors(app: Flask, **fields: object) -> TestResponse:
    """Ask for embeddings; the fields given replace or join those of TEXT."""
    return app.test_client().post("/v1/embeddings", json={**TEXT, **fields}, headers=HEADERS)


def get(app: Flask, path: str) -> TestResponse:
    return app.test_client().get(path, headers=HEADERS)


def openai_envelope(message: str, kind: str, code: str, param: str | None = None) -> dict[str, Any]:
    """The whole body of an error."""
    return {
        "error": {"message": message, "type": kind, "param": param, "code": code},
        "request_id": REQUEST_ID,
    }
