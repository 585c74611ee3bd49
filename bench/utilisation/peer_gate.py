"""A gateway of others as a gate. Its refusals do not say whether a later call would be let through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.utilisation.gates import Reply
from bench.utilisation.gateway_gate import GatewayGate
from bench.utilisation.replies import ErrorEventError, UnexpectedReplyError, exchange

if TYPE_CHECKING:
    from bench.overspend.peers.peer_gateway import PeerGateway
    from bench.overspend.requests import GatewayRequest
    from bench.utilisation.gates import Meter


class PeerGate(GatewayGate):
    """An agent that is refused by it ends."""

    def __init__(self, gateway: PeerGateway, meter: Meter) -> None:
        super().__init__(gateway, meter)
        self._refused_statuses = gateway.refused_statuses

    def final_reply(self, request: GatewayRequest) -> Reply:
        response = exchange(request)
        if response.status in self._refused_statuses:
            return Reply(is_refused=True)
        if response.status != 200:
            raise UnexpectedReplyError(f"status {response.status}: {response.body[:300]!r}")
        try:
            return response.reply()
        except ErrorEventError as error:
            raise UnexpectedReplyError(str(error)) from error
