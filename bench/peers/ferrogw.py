"""Ferro Labs' gateway (PyPI), a program in Go. Its budget plugin counts in memory, for each API key."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.http_request import MODEL
from bench.peers.packages import PYTHON, require_packages
from bench.peers.peer import Peer, ask, bearer, completions, peer_server
from bench.peers.prices import FREE_BUDGET_USD, PRICES
from bench.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers.peer import Row
    from bench.peers.prices import PricesUsd
    from bench.servers import Server

PACKAGE = "ferrogw==1.5.10"
MASTER_KEY = "fgw_0123456789abcdef0123456789abcdef"


def config(prices: PricesUsd, budget_usd: float) -> dict[str, object]:
    """One budget for each key, the same for all keys. The plugin has one price for all models."""
    (input_usd, output_usd), *others = set(prices.values())
    assert not others, "one price for all models"
    limits = {
        "spend_limit_usd": budget_usd,
        "input_per_m_tokens": input_usd,
        "output_per_m_tokens": output_usd,
        "max_keys": 100_000,
    }
    plugin = {"name": "budget", "type": "guardrail", "enabled": True, "config": limits}
    return {
        "strategy": {"mode": "single"},
        "targets": [{"virtual_key": "openai", "models": list(prices)}],
        "plugins": [{**plugin, "stage": stage} for stage in ("before_request", "after_request")],
    }


@contextlib.contextmanager
def ferrogw(upstream_url: str, cores: set[int], prices: PricesUsd, budget_usd: float) -> Iterator[Server]:
    """The gateway in its production mode. It has no setting for its address, so it listens on all of them."""
    require_packages(PACKAGE)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "ferrogw.json")
        file.write_text(json.dumps(config(prices, budget_usd)))
        environ = {
            "GATEWAY_ENV": "production",
            "GATEWAY_CONFIG": str(file),
            "PORT": str(port),
            "MASTER_KEY": MASTER_KEY,
            "OPENAI_API_KEY": "bench",
            "OPENAI_BASE_URL": f"{upstream_url}/v1",
            "FERRO_MODEL_CATALOG_TIMEOUT": "0",  # no download at the start
            "RATE_LIMIT_RPS": "0",
            "LOG_LEVEL": "error",
        }
        with peer_server(port, [str(PYTHON.with_name("ferrogw")), "serve"], cores, **environ) as server:
            yield server


def new_key(server: Server, name: str) -> str:
    """A key with a budget of its own."""
    key: str = ask(f"{server.url}/admin/keys", bearer(MASTER_KEY), {"name": name})["key"]
    return key


@contextlib.contextmanager
def _rows(upstream_url: str, cores: set[int]) -> Iterator[dict[str, Row]]:
    with ferrogw(upstream_url, cores, {MODEL: PRICES}, FREE_BUDGET_USD) as server:
        yield completions(PEER.name, server, bearer(new_key(server, "bench")))


PEER = Peer(
    "ferrogw",
    lambda: PACKAGE,
    "key, budget plugin (counted after the call), GATEWAY_ENV production, log level error, no rate limit",
    _rows,
)
