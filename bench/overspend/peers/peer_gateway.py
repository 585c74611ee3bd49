"""The common part of the gateways of others: budgets known before the start, and calls of `/v1`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.http_request import COMPLETIONS_PATH
from bench.overspend.gateways import Gateway, Run
from bench.overspend.requests import CallKind, GatewayRequest
from ridges_proxy.billing.money import NANOUSD_PER_USD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.peers.prices import PricesUsd


@dataclass(frozen=True)
class Offer:
    """A budget that runs have, and the models that they may then call."""

    budget_nanousd: int
    prices: PricesUsd
    runs: int
    """The most runs that will have this budget."""

    @property
    def budget_usd(self) -> float:
        return self.budget_nanousd / NANOUSD_PER_USD


class PeerGateway(Gateway):
    """A gateway of others with OpenAI's API."""

    kinds = frozenset({CallKind.WHOLE, CallKind.STREAM})
    refused_statuses: ClassVar[frozenset[int]]
    """With which it refuses a call that its budget does not permit."""

    def new_run(self, budget_nanousd: int, run_id: str | None = None, groups: Sequence[str] = ()) -> Run:
        del run_id, groups  # the gateway chooses the id, and has no budgets that these runs share
        return self.run_with(budget_nanousd)

    def run_with(self, budget_nanousd: int) -> Run:
        """A run with this budget, which one of the offers has."""
        raise NotImplementedError

    def port(self, run: Run) -> int:
        """The port for calls of this run."""
        raise NotImplementedError

    def selector(self, run: Run, model: str) -> str:  # noqa: ARG002 - overridden by gateways that need it
        """The name of a model in a request of this run."""
        return model

    def request(self, run: Run, kind: CallKind, prompt: str, **fields: object) -> GatewayRequest:
        model = self.selector(run, str(fields.pop("model", run.model)))
        body = self.completions_body(run, kind, prompt, **fields, model=model)
        headers = {"Content-Type": "application/json", **run.headers}
        return GatewayRequest(COMPLETIONS_PATH, body, headers, port=self.port(run))
