"""This proxy as a gate, and a client that follows what it answers."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.utilisation.gates import Reply
from bench.utilisation.gateway_gate import GatewayGate
from bench.utilisation.replies import ErrorEventError, UnexpectedReplyError, exchange

if TYPE_CHECKING:
    from bench.overspend.requests import GatewayRequest

MAX_WAITS = 1_000

WAIT_FACTOR = 0.05
"""A client waits for this share of Retry-After, because an upstream that needs seconds for an answer needs
milliseconds here."""


class ProxyGate(GatewayGate):
    """A running proxy."""

    def final_reply(self, request: GatewayRequest) -> Reply:
        """Send a call, and again after each 429, until it is answered or refused for good."""
        for waits in range(MAX_WAITS):
            reply = _send(request)
            if isinstance(reply, Reply):
                return replace(reply, waits=waits)
            time.sleep(reply * WAIT_FACTOR)
        raise UnexpectedReplyError(f"{MAX_WAITS} answers with status 429")


def _send(request: GatewayRequest) -> Reply | float:
    """The reply, or the seconds after which the call may be sent again."""
    response = exchange(request)
    if response.status != 200:
        return error_reply(json.loads(response.body), response.retry_after)
    try:
        return response.reply()
    except ErrorEventError as error:
        return error_reply(error.document)


def error_reply(document: dict[str, Any], retry_after: str | None = None) -> Reply | float:
    """The refusal, or the seconds after which the call may be sent again."""
    code = document["error"]["code"]
    if code == "budget_exhausted":
        return Reply(is_refused=True)
    if retry_after is None and code != "run_busy":
        raise UnexpectedReplyError(str(document))
    return float(retry_after or 1)
