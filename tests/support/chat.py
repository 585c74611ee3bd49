"""Chat requests for tests."""

from __future__ import annotations

from typing import Any

from ridges_proxy.billing.chat_request import ChatRequest

HELLO = [{"role": "user", "content": "hi"}]
HELLO_TOKENS = len(b'[{"role":"user","content":"hi"}]') + 16 + 256
"""The bound of HELLO: its bytes, 16 tokens for the message, 256 for the call."""


def chat_of(
    messages: list[dict[str, Any]] | None = None, max_tokens: int = 10, **fields: object
) -> ChatRequest:
    return ChatRequest.of(messages or HELLO, fields, max_tokens)


def tool_call_messages(arguments: str, **extra: object) -> list[dict[str, Any]]:
    """Return an assistant's message that calls a tool, with further fields in the call."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}, **extra}
    return [{"role": "assistant", "content": None, "tool_calls": [call]}]
