"""A running gateway as a gate: a run for each budget, and calls that are made at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.overspend.requests import CallKind

if TYPE_CHECKING:
    from bench.overspend.gateways import Gateway, Run
    from bench.overspend.requests import GatewayRequest
    from bench.utilisation.gates import Meter, Reply
    from bench.utilisation.model import Call, Model

SETTLE_SECONDS = 15.0


class GatewayGate:
    """A gateway in front of an upstream with this meter."""

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
            return [self.final_reply(requests[0])]
        with ThreadPoolExecutor(len(requests)) as threads:
            return list(threads.map(self.final_reply, requests))

    def final_reply(self, request: GatewayRequest) -> Reply:
        """Make a call until it is answered or refused for good."""
        raise NotImplementedError

    def held_nanousd(self) -> int:
        """Holds may settle a moment after the answer. 0 if the gateway does not report them."""
        assert self._run is not None
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            spending = self._gateway.spending(self._run)
            held_nanousd = spending.held_nanousd if spending else 0
            if not held_nanousd or time.monotonic() > end:
                return held_nanousd
            time.sleep(0.05)

    def _request(self, model: Model, call: Call) -> GatewayRequest:
        assert self._run is not None
        fields: dict[str, object] = {"messages": call.messages, "model": model.name}
        if call.is_streamed:
            fields["stream_options"] = {"include_usage": True}
        kind = CallKind.STREAM if call.is_streamed else CallKind.WHOLE
        return self._gateway.request(self._run, kind, "", max_tokens=call.max_tokens, **fields)
