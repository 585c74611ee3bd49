"""A chat request: its fields, checked, and the count of its prompt."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import orjson

UTF8_BYTES_PER_TOKEN = 4  # about right for English and code
OVERHEAD_TOKENS_PER_MESSAGE = 4
GREEDY_OVERHEAD_TOKENS_PER_MESSAGE = 8
ANSWER = "assistant"  # the role of the model's messages
JSON_FORMATS = ("json_object", "json_schema")
MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20
LEAST_GREEDY_TOKENS_PER_IMAGE = 16_384  # the most tokens that a model makes of its largest image


class RefusedError(Exception):
    """A request that is refused with this status and detail, and not billed."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    def answer(self) -> dict[str, str]:
        """Return the body of the answer."""
        return {"detail": self.detail}


def read_object(body: bytes) -> dict[str, Any]:
    """Parse the JSON object of a request."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, "Invalid request: the body is not JSON") from error
    if not isinstance(value, dict):
        raise RefusedError(400, "Invalid request: the body is not an object")
    return value


def count_tokens(utf8_bytes: int) -> int:
    """Estimate the tokens of a text."""
    return -(-utf8_bytes // UTF8_BYTES_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool
    max_tokens: int | None
    n: int
    tools: list[dict[str, Any]]
    wants_json: bool
    logprobs: bool
    top_logprobs: int
    stream_options: dict[str, Any]

    @classmethod
    def read(cls, body: dict[str, Any]) -> Self:
        """Read and check the fields that this server uses. Chutes passes all others to the model's engine."""
        chat_request = cls(
            model=body.get("model", ""),
            messages=body.get("messages", []),
            stream=bool(body.get("stream")),
            max_tokens=body.get("max_tokens", body.get("max_completion_tokens")),
            n=1 if body.get("n") is None else body["n"],
            tools=body.get("tools") or [],
            wants_json=_wants_json(body.get("response_format")),
            logprobs=body.get("logprobs") is True,
            top_logprobs=body.get("top_logprobs") or 0,
            stream_options=body.get("stream_options") or {},
        )
        chat_request._check()
        return chat_request

    def _check(self) -> None:
        checks = {
            "model": isinstance(self.model, str) and self.model,
            "messages": isinstance(self.messages, list)
            and self.messages
            and all(isinstance(message, dict) for message in self.messages),
            "max_tokens": self.max_tokens is None or (type(self.max_tokens) is int and self.max_tokens > 0),
            "n": type(self.n) is int and 0 < self.n <= MAX_CHOICES,
            "tools": isinstance(self.tools, list) and all(map(_is_tool, self.tools)),
            "top_logprobs": type(self.top_logprobs) is int and 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS,
            "stream_options": isinstance(self.stream_options, dict),
        }
        for name, good in checks.items():
            if not good:
                raise RefusedError(400, f"Invalid request: {name}")

    @property
    def asks_for_chunk_usage(self) -> bool:
        """Whether the usage is requested in each chunk. Engines ignore the option without `include_usage`."""
        options = self.stream_options
        return bool(options.get("include_usage") and options.get("continuous_usage_stats"))

    def texts(self) -> list[tuple[str, int]]:
        """Return all texts of the prompt in their order, each with the number of answers behind it."""
        roles = [message.get("role") for message in self.messages]
        starts = [role == ANSWER and before != ANSWER for before, role in pairwise([None, *roles])]
        return [
            (text, sum(starts[index + 1 :]))
            for index, message in enumerate(self.messages)
            for text in _texts(message.get("content"))
        ]

    def tool_names(self) -> list[str]:
        """Return the names of the tools."""
        return [tool["function"]["name"] for tool in self.tools]

    def prompt_tokens(self) -> int:
        """Estimate the prompt: a quarter of the bytes, and an overhead for each message."""
        sizes = (_size(each.get("content")) + _other_size(each) for each in self.messages)
        messages = sum(count_tokens(size) + OVERHEAD_TOKENS_PER_MESSAGE for size in sizes)
        return messages + count_tokens(self._tools_size())

    def greedy_prompt_tokens(self) -> int:
        """Return the most tokens of the prompt for a byte-level tokenizer, for each choice."""
        sizes = (_greedy_size(each.get("content")) + _other_size(each) for each in self.messages)
        messages = sum(size + GREEDY_OVERHEAD_TOKENS_PER_MESSAGE for size in sizes)
        return self.n * (messages + self._tools_size())

    def _tools_size(self) -> int:
        return _size(self.tools) if self.tools else 0


def _wants_json(response_format: object) -> bool:
    return isinstance(response_format, dict) and response_format.get("type") in JSON_FORMATS


def _is_tool(tool: object) -> bool:
    function = tool.get("function") if isinstance(tool, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _texts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        return [
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        ]
    return []


def _size(value: object) -> int:
    if value is None:
        return 0
    return len(value.encode() if isinstance(value, str) else orjson.dumps(value))


def _other_size(message: dict[str, Any]) -> int:
    return _size(message.get("role")) + _size(message.get("tool_calls"))


def _greedy_size(content: object) -> int:
    if not isinstance(content, list):
        return _size(content)
    urls = [_image_url(part) for part in content]
    others = [part for part, url in zip(content, urls, strict=True) if url is None]
    images = sum(max(LEAST_GREEDY_TOKENS_PER_IMAGE, len(url.encode())) for url in urls if url is not None)
    return images + (_size(others) if others else 0)


def _image_url(part: object) -> str | None:
    """Return the URL of an image part, None for any other."""
    if not isinstance(part, dict) or part.get("type") != "image_url":
        return None
    image = part.get("image_url")
    return str(image.get("url", "") if isinstance(image, dict) else image)
