"""This proxy as a gate, and a client that follows what it answers."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

from bench.overspend.requests import CallKind
from bench.utilisation.gates import Reply

if TYPE_CHECKING:
    from bench.overspend.gateways import Gateway, Run
    from bench.overspend.requests import GatewayRequest
    from bench.utilisation.gates import Meter
    from bench.utilisation.model import Call, Model

TIMEOUT_SECONDS = 120.0
"""Above HOLD_WAIT_SECONDS, for which the proxy lets a call wait."""

SETTLE_SECONDS = 15.0
MAX_WAITS = 1_000

WAIT_FACTOR = 0.05
"""A client waits for this share of Retry-After, because an upstream that needs seconds for an answer needs
milliseconds here."""


class UnexpectedReplyError(Exception):
    """A status or an error code that no call of this benchmark should get."""


class ProxyGate:
    """A running proxy, in front of an upstream with this meter."""

    def __init__(self, gateway: Gateway, meter: Meter) -> None:
        self.meter = meter
        self._gateway = gateway
        self._run: Run | None = None

    def begin(self, budget_nanousd: int) -> None:
        self.meter.reset()
        self._run = self._gateway.new_run(budget_nanousd)

    def send(self, model: Model, calls: list[Call]) -> list[Reply]:
        requests = [self._request(model, call) for call in calls]
        if len(requests) == 1:
            return [_send_until_final(requests[0])]
        with ThreadPoolExecutor(len(requests)) as threads:
            return list(threads.map(_send_until_final, requests))

    def held_nanousd(self) -> int:
        """Holds may settle a moment after the answer."""
        assert self._run is not None
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            spending = self._gateway.spending(self._run)
            assert spending is not None
            if not spending.held_nanousd or time.monotonic() > end:
                return spending.held_nanousd
            time.sleep(0.05)

    def _request(self, model: Model, call: Call) -> GatewayRequest:
        assert self._run is not None
        fields: dict[str, object] = {"messages": call.messages, "model": model.name}
        if call.is_streamed:
            fields["stream_options"] = {"include_usage": True}
        kind = CallKind.STREAM if call.is_streamed else CallKind.WHOLE
        return self._gateway.request(self._run, kind, "", max_tokens=call.max_tokens, **fields)


def _send_until_final(request: GatewayRequest) -> Reply:
    """Send a call, and again after each 429, until it is answered or refused for good."""
    for waits in range(MAX_WAITS):
        reply = _send(request)
        if isinstance(reply, Reply):
            return replace(reply, waits=waits)
        time.sleep(reply * WAIT_FACTOR)
    raise UnexpectedReplyError(f"{MAX_WAITS} answers with status 429")


def _send(request: GatewayRequest) -> Reply | float:
    """The reply, or the seconds after which the call may be sent again."""
    with closing(HTTPConnection(request.host, request.port, timeout=TIMEOUT_SECONDS)) as connection:
        connection.request("POST", request.path, request.body, request.headers)
        response = connection.getresponse()
        retry_after, body = response.getheader("Retry-After"), response.read()
    if response.status == 200 and response.getheader("Content-Type") == "application/json":
        return _whole_reply(json.loads(body))
    if response.status == 200:
        return _streamed_reply(body)
    return _error_reply(json.loads(body), retry_after)


def _whole_reply(document: dict[str, Any]) -> Reply:
    choice = document["choices"][0]
    tokens = document["usage"]["completion_tokens"]
    return Reply(choice["message"]["content"], tokens, choice["finish_reason"] == "length")


def _streamed_reply(body: bytes) -> Reply | float:
    """A stream may have begun before the call was refused: its last event is then an error."""
    texts, finish_reason, tokens = [], None, 0
    for line in body.split(b"\n"):
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line.removeprefix(b"data: "))
        if "error" in event:
            return _error_reply(event)
        if event.get("usage"):
            tokens = event["usage"]["completion_tokens"]
        for choice in event["choices"]:
            texts.append(choice["delta"].get("content") or "")
            finish_reason = choice["finish_reason"] or finish_reason
    if finish_reason is None:
        raise UnexpectedReplyError(f"a stream without an end: {body[-300:]!r}")
    return Reply("".join(texts), tokens, finish_reason == "length")


def _error_reply(document: dict[str, Any], retry_after: str | None = None) -> Reply | float:
    code = document["error"]["code"]
    if code == "budget_exhausted":
        return Reply(is_refused=True)
    if retry_after is None and code != "run_busy":
        raise UnexpectedReplyError(str(document))
    return float(retry_after or 1)
