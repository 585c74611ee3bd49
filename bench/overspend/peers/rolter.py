"""Rolter's gateway with Redis. It has a budget for each virtual key, so each run is a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.overspend.gateways import ALL_CORES, Run
from bench.overspend.peers.peer_gateway import PeerGateway
from bench.peers import rolter
from bench.peers.peer import bearer
from bench.peers.rolter import BudgetedKey
from bench.processes import MissingProgramError
from bench.servers import redis

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from bench.overspend.peers.peer_gateway import Offer


class Rolter(PeerGateway):
    """The keys of all runs stand in its configuration."""

    name = "rolter"
    refused_statuses = frozenset({402})

    def __init__(self, stack: ExitStack, upstream_url: str, offers: Sequence[Offer]) -> None:
        self._unused = {offer.budget_nanousd: keys_of(offer) for offer in offers}
        redis_url = stack.enter_context(redis(ALL_CORES, append_only=True))
        if redis_url is None:
            raise MissingProgramError("it counts budgets in Redis")
        prices = {model: price for offer in offers for model, price in offer.prices.items()}
        keys = [key for unused in self._unused.values() for key in unused]
        text = rolter.config(upstream_url, prices, keys)
        self._server = stack.enter_context(rolter.rolter(ALL_CORES, text, "--redis-url", redis_url))

    def run_with(self, budget_nanousd: int) -> Run:
        key = self._unused[budget_nanousd].pop()
        return Run(key.id, budget_nanousd, bearer(key.key))

    def port(self, run: Run) -> int:  # noqa: ARG002 - one server for all runs
        return self._server.port


def keys_of(offer: Offer) -> list[BudgetedKey]:
    return [
        BudgetedKey(f"sk-{offer.budget_nanousd}-{number}", offer.budget_usd) for number in range(offer.runs)
    ]
