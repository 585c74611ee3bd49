"""Compare this proxy with other gateways, an empty Flask view, and nginx as a plain forwarder.

    python -m bench.peers [--rounds 5] [--seconds 4]

Installs LiteLLM's proxy (PyPI) and Portkey's gateway (npm) into bench/.peers, once. Each server runs on core
0; wrk (32 connections) and the stub upstream run on core 1. Each round measures all gateways in turn. The
figures are medians, and the ratios are of the rates in this one run. This proxy has budgets, metrics, rate
limits and log lines on. None of the others keeps a budget here, because LiteLLM would need a database for it;
that is to their advantage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import statistics
from typing import TYPE_CHECKING

from bench.calls import EMPTY_REQUEST
from bench.http_load import COLUMNS, measure_in_turn, table_row
from bench.http_request import INFERENCE_PATH, MODEL, ROUTES, Request
from bench.options import rounds_parser
from bench.peer_servers import (
    LITELLM_MASTER_KEY,
    guide_service,
    install,
    litellm_proxy,
    nginx,
    portkey_gateway,
    versions,
)
from bench.processes import split_cores
from bench.servers import Server, empty_view, proxy, stub
from bench.tables import date_and_machine, print_heading, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

WARMUP_SECONDS = 8.0
"""Node compiles frequent code while it runs: in its first seconds Portkey's gateway is half as fast."""

RATIOS = (
    (INFERENCE_PATH, "guide's service", 30.0),
    (INFERENCE_PATH, "empty Flask view", 0.45),
    ("/v1 whole", "LiteLLM whole", 15.0),
    ("/v1 whole", "Portkey whole", 2.5),
    ("/v1 streamed", "LiteLLM streamed", 30.0),
)
"""Two rows whose rates are compared, and the target of their ratio."""


def main() -> None:
    options = rounds_parser(__doc__, rounds=5, seconds=4.0).parse_args()
    install()
    server_cores, load_cores = split_cores()
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(load_cores))
        compared = dict(targets(stack, upstream.url, server_cores))
        results = measure_in_turn(compared, options.rounds, options.seconds, load_cores, WARMUP_SECONDS)
    print_heading(f"Gateways, answers of 20 events ({date_and_machine()}; {versions()})")
    print_table(COLUMNS, [table_row(name, rounds) for name, rounds in results.items()])
    rates = {name: statistics.median(each.rate for each in rounds) for name, rounds in results.items()}
    print_heading("Ratios of requests a second")
    print_table(
        ("", "ratio", "target"),
        [
            (f"{name} / {other}", f"{rates[name] / (rates[other] or math.nan):.2f}", f"{target:g}")
            for name, other, target in RATIOS  # nan: the other answered nothing in so short a round
        ],
    )


def targets(
    stack: contextlib.ExitStack, upstream_url: str, cores: set[int]
) -> Iterator[tuple[str, tuple[Server, Request]]]:
    """Start every gateway. Yields the rows of the table, each with its server and its request."""
    this_proxy = stack.enter_context(proxy(upstream_url, cores))
    for name in (INFERENCE_PATH, "/v1 whole", "/v1 streamed"):
        yield name, (this_proxy, ROUTES[name])
    yield "guide's service", (stack.enter_context(guide_service(upstream_url, cores)), guide_request())
    key = {"Authorization": f"Bearer {LITELLM_MASTER_KEY}"}
    litellm = stack.enter_context(litellm_proxy(litellm_config(upstream_url), cores))
    yield "LiteLLM whole", (litellm, dataclasses.replace(ROUTES["/v1 whole"], headers=key))
    yield "LiteLLM streamed", (litellm, dataclasses.replace(ROUTES["/v1 streamed"], headers=key))
    forward = {**key, "x-portkey-provider": "openai", "x-portkey-custom-host": f"{upstream_url}/v1"}
    portkey = stack.enter_context(portkey_gateway(cores))
    # Streamed, Portkey's gateway answers 500 on Node 20.
    yield "Portkey whole", (portkey, dataclasses.replace(ROUTES["/v1 whole"], headers=forward))
    yield "empty Flask view", (stack.enter_context(empty_view(upstream_url, cores)), EMPTY_REQUEST)
    yield "nginx, streamed", (stack.enter_context(nginx(upstream_url, cores)), ROUTES["/v1 streamed"])


def guide_request() -> Request:
    """The request of `/agents/inference` with the run in its body, where the guide's service looks for it."""
    request = ROUTES[INFERENCE_PATH]
    body = {**json.loads(request.body), "run_id": "bench"}
    return dataclasses.replace(request, body=json.dumps(body).encode())


def litellm_config(upstream_url: str) -> dict[str, object]:
    parameters = {"model": f"openai/{MODEL}", "api_base": f"{upstream_url}/v1", "api_key": "bench"}
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
        "litellm_settings": {"telemetry": False},
    }


if __name__ == "__main__":
    main()
