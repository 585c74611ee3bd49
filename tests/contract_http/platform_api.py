"""Requests of the platform's agents, and the forms of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.contract_http.service import DONE, HEADERS, HELLO, RUN, sse, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask
    from werkzeug.test import TestResponse

INFERENCE, EMBEDDING, USAGE = "/api/inference", "/api/embedding", "/api/usage"

CHAT = {"evaluation_run_id": RUN, "messages": [HELLO]}
TEXT = {"evaluation_run_id": RUN, "input": "Hello"}

TOOL = {
    "name": "edit_file",
    "description": "Change a file",
    "parameters": [
        {"name": "path", "type": "string", "description": "The file", "required": True},
        {"name": "lines", "type": "array", "description": "New lines"},
    ],
}
FUNCTION_TOOL = {
    "type": "function",
    "function": {
        "name": "edit_file",
        "description": "Change a file",
        "parameters": {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "The file"},
                "lines": {"type": "array", "description": "New lines"},
            },
            "required": ["path"],
        },
    },
}
"""TOOL as it goes upstream."""


def post(app: Flask, path: str, body: Mapping[str, object], **headers: str) -> TestResponse:
    return app.test_client().post(path, json=body, headers=HEADERS | headers)


def get(app: Flask, path: str, query: Mapping[str, str], **headers: str) -> TestResponse:
    return app.test_client().get(path, query_string=query, headers=HEADERS | headers)


def infer(app: Flask, **fields: object) -> TestResponse:
    """Send an inference of the later form; `fields` replace or extend those of CHAT."""
    return post(app, INFERENCE, {**CHAT, **fields})


def embed(app: Flask, **fields: object) -> TestResponse:
    return post(app, EMBEDDING, {**TEXT, **fields})


def call_of(arguments: str, index: int = 0, name: str = "edit_file") -> dict[str, Any]:
    """The piece of a stream that has a whole tool call."""
    return {"index": index, "id": f"call-{index}", "function": {"name": name, "arguments": arguments}}


def answer_with(*calls: dict[str, Any], content: str | None = None) -> bytes:
    """A complete answer with tool calls, of 10 + 5 tokens."""
    delta = {"role": "assistant", "content": content, "tool_calls": list(calls)}
    events: list[dict[str, object]] = [{"delta": delta}, {"delta": {}, "finish_reason": "tool_calls"}]
    return sse(
        *({"id": "chat-1", "choices": [{"index": 0, **event}]} for event in events), tokens(10, 5), DONE
    )


def problem(msg: str, *loc: str | int, kind: str = "value_error") -> dict[str, object]:
    return {"loc": ["body", *loc], "msg": msg, "type": kind}


def json_of(arguments: object) -> str:
    return orjson.dumps(arguments).decode()
