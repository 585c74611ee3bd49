"""The answers of `/v1/chat/completions`, whole and streamed, as a client reads them."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

from bench.utilisation.gates import Reply

if TYPE_CHECKING:
    from bench.overspend.requests import GatewayRequest

TIMEOUT_SECONDS = 120.0
"""Above HOLD_WAIT_SECONDS, for which this proxy lets a call wait."""


class UnexpectedReplyError(Exception):
    """A status or an error that no call of this benchmark should get."""


class ErrorEventError(Exception):
    """A stream ended with an error: `document`."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(str(document))
        self.document = document


@dataclass(frozen=True)
class Exchange:
    """The response to a request."""

    status: int
    body: bytes
    content_type: str
    retry_after: str | None

    def reply(self) -> Reply:
        """The answer in it, if its status is 200. Raises ErrorEventError and UnexpectedReplyError."""
        if self.content_type.startswith("application/json"):
            return whole_reply(json.loads(self.body))
        return streamed_reply(self.body)


def exchange(request: GatewayRequest) -> Exchange:
    """Send a request and read the whole response."""
    with closing(HTTPConnection(request.host, request.port, timeout=TIMEOUT_SECONDS)) as connection:
        connection.request("POST", request.path, request.body, request.headers)
        response = connection.getresponse()
        content_type = response.getheader("Content-Type") or ""
        return Exchange(response.status, response.read(), content_type, response.getheader("Retry-After"))


def whole_reply(document: dict[str, Any]) -> Reply:
    choice = document["choices"][0]
    tokens = document["usage"]["completion_tokens"]
    return Reply(choice["message"]["content"] or "", tokens, choice["finish_reason"] == "length")


def streamed_reply(body: bytes) -> Reply:
    """A stream may have begun before the call was refused: its last event is then an error."""
    texts, finish_reason, tokens = [], None, 0
    for line in body.split(b"\n"):
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line.removeprefix(b"data: "))
        if "error" in event:
            raise ErrorEventError(event)
        if event.get("usage"):
            tokens = event["usage"]["completion_tokens"]
        for choice in event["choices"]:
            texts.append(choice["delta"].get("content") or "")
            finish_reason = choice.get("finish_reason") or finish_reason
    if finish_reason is None:
        raise UnexpectedReplyError(f"a stream without an end: {body[-300:]!r}")
    return Reply("".join(texts), tokens, finish_reason == "length")
