"""LiteLLM's proxy without a database. Its budgets then belong to deployments, so each run has its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.overspend.gateways import ALL_CORES, Run
from bench.overspend.peers.peer_gateway import PeerGateway
from bench.peers.litellm import MASTER_KEY, litellm_proxy
from bench.peers.peer import bearer
from ridges_proxy.billing.prices import TOKENS_PER_PRICE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import ExitStack

    from bench.overspend.peers.peer_gateway import Offer


class LiteLLM(PeerGateway):
    """A run is a deployment of each model of its offer."""

    name = "LiteLLM"
    refused_statuses = frozenset({400, 429})

    def __init__(self, stack: ExitStack, upstream_url: str, offers: Sequence[Offer]) -> None:
        self._unused = {offer.budget_nanousd: run_ids(offer) for offer in offers}
        deployments = [each for offer in offers for each in deployments_of(offer, upstream_url)]
        self._server = stack.enter_context(litellm_proxy(deployments, ALL_CORES))

    def run_with(self, budget_nanousd: int) -> Run:
        return Run(self._unused[budget_nanousd].pop(), budget_nanousd, bearer(MASTER_KEY))

    def port(self, run: Run) -> int:  # noqa: ARG002 - one server for all runs
        return self._server.port

    def selector(self, run: Run, model: str) -> str:
        return deployment_name(run.id, model)


def run_ids(offer: Offer) -> list[str]:
    return [f"run-{offer.budget_nanousd}-{number}" for number in range(offer.runs)]


def deployment_name(run_id: str, model: str) -> str:
    return f"{run_id}-{model}"


def deployments_of(offer: Offer, upstream_url: str) -> Iterator[dict[str, object]]:
    """A deployment for each run and model, with the whole budget: an agent calls one model only."""
    for run_id in run_ids(offer):
        for model, (input_usd, output_usd) in offer.prices.items():
            parameters = {
                "model": f"openai/{model}",
                "api_base": f"{upstream_url}/v1",
                "api_key": "bench",
                "input_cost_per_token": input_usd / TOKENS_PER_PRICE,
                "output_cost_per_token": output_usd / TOKENS_PER_PRICE,
                "max_budget": offer.budget_usd,
                "budget_duration": "30d",
                "max_retries": 0,
            }
            name = deployment_name(run_id, model)
            yield {"model_name": name, "litellm_params": parameters, "model_info": {"id": name}}
