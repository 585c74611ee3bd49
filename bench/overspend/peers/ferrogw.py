"""Ferro Labs' gateway. Its budget plugin counts for each API key, so each run is a key."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from bench.overspend.gateways import ALL_CORES, Run
from bench.overspend.peers.peer_gateway import PeerGateway
from bench.peers import ferrogw
from bench.peers.peer import bearer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from bench.overspend.peers.peer_gateway import Offer


class Ferrogw(PeerGateway):
    """All keys of a process have the same budget, so each budget has a process."""

    name = "ferrogw"
    refused_statuses = frozenset({402})

    def __init__(self, stack: ExitStack, upstream_url: str, offers: Sequence[Offer]) -> None:
        self._servers = {
            offer.budget_nanousd: stack.enter_context(
                ferrogw.ferrogw(upstream_url, ALL_CORES, offer.prices, offer.budget_usd)
            )
            for offer in offers
        }

    def run_with(self, budget_nanousd: int) -> Run:
        name = uuid.uuid4().hex
        key = ferrogw.new_key(self._servers[budget_nanousd], name)
        return Run(name, budget_nanousd, bearer(key))

    def port(self, run: Run) -> int:
        return self._servers[run.budget_nanousd].port
