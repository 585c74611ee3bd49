"""The service that this proxy replaces, as a gateway under test."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from bench.http_request import AUTHORIZATION, EMBEDDING_PATH, INFERENCE_PATH
from bench.overspend.gateways import ALL_CORES, Gateway, Run
from bench.overspend.requests import CallKind, GatewayRequest
from bench.peers.guide import guide_service

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from bench.overspend.peers.peer_gateway import Offer


class GuideService(Gateway):
    """It has one budget for all runs, so each budget has a process."""

    name = "guide's service"
    kinds = frozenset({CallKind.AGENTS, CallKind.EMBEDDING})
    abilities = frozenset({"run_ids"})

    def __init__(self, stack: ExitStack, upstream_url: str, offers: Sequence[Offer]) -> None:
        self._servers = {
            offer.budget_nanousd: stack.enter_context(
                guide_service(upstream_url, ALL_CORES, MAX_COST_PER_RUN=f"{offer.budget_usd:.9f}")
            )
            for offer in offers
        }

    def new_run(self, budget_nanousd: int, run_id: str | None = None, groups: Sequence[str] = ()) -> Run:
        del groups
        return Run(run_id or uuid.uuid4().hex, budget_nanousd, AUTHORIZATION)

    def request(self, run: Run, kind: CallKind, prompt: str, **fields: object) -> GatewayRequest:
        port = self._servers[run.budget_nanousd].port
        headers = {"Content-Type": "application/json", **run.headers}
        if kind is CallKind.EMBEDDING:
            return GatewayRequest(EMBEDDING_PATH, self.embedding_body(run, prompt), headers, port=port)
        body = self.chat_body(run, prompt, run_id=run.id, **fields)
        return GatewayRequest(INFERENCE_PATH, body, headers, port=port)
