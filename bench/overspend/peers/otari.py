"""Otari. It reserves the estimated cost of a call from the budget of a user, so each run is a user."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.overspend.gateways import ALL_CORES, Run, Spending
from bench.overspend.peers.peer_gateway import PeerGateway
from bench.peers import otari
from bench.peers.peer import ask, bearer
from ridges_proxy.billing.money import NANOUSD_PER_USD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.overspend.peers.peer_gateway import Offer


class Otari(PeerGateway):
    """A run is a user, with a budget that only this user has."""

    name = "Otari"
    abilities = frozenset({"kill"})
    refused_statuses = frozenset({403})

    def __init__(self, stack: ExitStack, upstream_url: str, offers: Sequence[Offer]) -> None:
        prices = {model: price for offer in offers for model, price in offer.prices.items()}
        data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._processes = stack.enter_context(ExitStack())
        self._start = partial(otari.otari, upstream_url, ALL_CORES, prices, data)
        self._server = self._processes.enter_context(self._start())

    def run_with(self, budget_nanousd: int) -> Run:
        user, key = otari.new_user(self._server, budget_nanousd / NANOUSD_PER_USD)
        return Run(user, budget_nanousd, bearer(key))

    def kill(self) -> None:
        """Kill its one process, and start another one with the same database."""
        os.kill(self._server.pid, signal.SIGKILL)
        self._processes.close()
        self._server = self._processes.enter_context(self._start())

    def port(self, run: Run) -> int:  # noqa: ARG002 - one server for all runs
        return self._server.port

    def selector(self, run: Run, model: str) -> str:  # noqa: ARG002 - the same for all runs
        return otari.selector(model)

    def spending(self, run: Run) -> Spending:
        """Otari rounds its amounts to a millionth of a dollar."""
        user = ask(f"{self._server.url}/v1/users/{run.id}", bearer(otari.MASTER_KEY))
        return Spending(nanousd(user["spend"]), nanousd(user["reserved"]))


def nanousd(usd: float) -> int:
    return round(usd * NANOUSD_PER_USD)
