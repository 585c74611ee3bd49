"""Rolter's gateway (PyPI), a program in Rust. It counts budgets in Redis, after the call."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.http_request import MODEL
from bench.peers.packages import PYTHON, require_packages
from bench.peers.peer import Peer, bearer, completions, peer_server
from bench.peers.prices import PRICES
from bench.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.peers.peer import Row
    from bench.peers.prices import PricesUsd
    from bench.servers import Server

PACKAGE = "rolter==0.1.0"
QUEUE = {"workers": 1_024, "capacity": 1_024}
"""Calls to a provider at once, and calls that wait for their turn. The default of 8 would limit the load."""


UPSTREAM_KEY = "UPSTREAM_KEY"
"""The environment variable with the upstream's key."""


@dataclass(frozen=True)
class BudgetedKey:
    """A key with a budget of its own."""

    key: str
    budget_usd: float

    @property
    def id(self) -> str:
        return f"id-{self.key}"


def config(upstream_url: str, prices: PricesUsd, keys: Sequence[BudgetedKey]) -> str:
    """The file of the gateway, in TOML.

    A key in `virtual_keys` has no budget: only keys of its control plane's database have, and the program of
    PyPI is built without that database. So the keys stand in `db_virtual_keys`, the field in which the
    control plane hands them to the gateway.
    """
    provider = {"name": "upstream", "kind": "openai_compatible", "api_base": upstream_url}
    tables: list[tuple[str, dict[str, object]]] = [
        ("[queue]", dict(QUEUE)),
        ("[[providers]]", {**provider, "api_key_env": UPSTREAM_KEY}),
    ]
    for model, (input_usd, output_usd) in prices.items():
        tables += [
            ("[[routes]]", {"model": model}),
            ("[[routes.targets]]", {"provider": "upstream", "model": model}),
            (
                "[[model_prices]]",
                {"model": model, "input_per_mtok": input_usd, "output_per_mtok": output_usd},
            ),
        ]
    for each in keys:
        limit = {"scope": "key", "id": each.id, "limit_usd": each.budget_usd, "period": "total"}
        tables.append(("[[db_virtual_keys]]", {"key_hash": key_hash(each.key), "id": each.id}))
        tables.append(("[[budgets]]", limit))
    return "\n".join(f"{name}\n{toml_fields(fields)}" for name, fields in tables)


def toml_fields(fields: dict[str, object]) -> str:
    """Lines of strings and numbers, which TOML writes as JSON does."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())


def key_hash(key: str) -> str:
    """The digest of a key without a pepper, as the control plane stores it."""
    return hashlib.sha256(b"\x1f" + key.encode()).hexdigest()


@contextlib.contextmanager
def rolter(cores: set[int], text: str, *options: str) -> Iterator[Server]:
    """The gateway with this configuration. `--redis-url` as an option makes it keep the budgets."""
    require_packages(PACKAGE)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rolter.toml")
        file.write_text(text)
        command = [str(PYTHON.with_name("rolter")), "gateway", "--config", str(file)]
        command += ["--host", "127.0.0.1", "--port", str(port), *options]
        with peer_server(port, command, cores, RUST_LOG="error", **{UPSTREAM_KEY: "bench"}) as server:
            yield server


@contextlib.contextmanager
def _rows(upstream_url: str, cores: set[int]) -> Iterator[dict[str, Row]]:
    key = BudgetedKey("sk-rolter-bench", 0.0)
    with rolter(cores, config(upstream_url, {MODEL: PRICES}, [key])) as server:
        yield completions(PEER.name, server, bearer(key.key))


PEER = Peer(
    "rolter",
    lambda: PACKAGE,
    f"key, prices, budget not enforced (no Redis), log level error, {QUEUE['workers']} calls at once",
    _rows,
)
