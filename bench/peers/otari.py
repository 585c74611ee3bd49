"""Otari, Mozilla.ai's gateway. It reserves the estimated cost of a call from its user's budget.

It is in no package registry, so this starts the one that is already installed: OTARI_FOLDER is a clone of its
repository in which it was installed as its README says, with `otari` in `.venv/bin`.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from bench.http_request import MODEL
from bench.peers.packages import FOLDER, output_of, version_of
from bench.peers.peer import Peer, ask, bearer, completions, peer_server
from bench.peers.prices import FREE_BUDGET_USD, PRICES
from bench.processes import MissingProgramError, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers.peer import Row
    from bench.peers.prices import PricesUsd
    from bench.servers import Server

MASTER_KEY = "bench-master-key"
PROVIDER = "openai"


def folder() -> Path:
    return Path(os.environ.get("OTARI_FOLDER") or FOLDER / "otari")


def program() -> Path:
    """The installed program. Raises MissingProgramError if there is none."""
    path = folder() / ".venv" / "bin" / "otari"
    if not path.exists():
        raise MissingProgramError(f"{path} not found. Install Otari from its repository and set OTARI_FOLDER")
    return path


def version() -> str:
    """The tag before the commit of the clone, the commits since, and Python's version."""
    commit = output_of("git", "-C", str(folder()), "describe", "--tags", "--always")
    python = str(program().with_name("python"))
    return f"{commit} on Python {version_of(python, '--version')}"


def config(upstream_url: str, prices: PricesUsd, database: Path) -> dict[str, object]:
    """Standalone, with SQLite, its default. It asks no other server than the upstream."""
    return {
        "database_url": f"sqlite:///{database}",
        "host": "127.0.0.1",
        "master_key": MASTER_KEY,
        "model_discovery": False,
        "models_dev_metadata": False,
        "providers": {PROVIDER: {"api_key": "bench", "api_base": f"{upstream_url}/v1"}},
        "pricing": {
            selector(model): {"input_price_per_million": input_usd, "output_price_per_million": output_usd}
            for model, (input_usd, output_usd) in prices.items()
        },
    }


def selector(model: str) -> str:
    """The name of a model in a request."""
    return f"{PROVIDER}:{model}"


def otari(
    upstream_url: str, cores: set[int], prices: PricesUsd, data: Path
) -> contextlib.AbstractContextManager[Server]:
    """The gateway with its database in this folder. A second start finds the users of the first."""
    port = free_port()
    file = data / "otari.yaml"
    file.write_text(json.dumps(config(upstream_url, prices, data / "otari.db")))  # JSON is YAML, too
    command = [str(program()), "serve", "--config", str(file), "--log-level", "ERROR", "--port", str(port)]
    return peer_server(port, command, cores)


def new_user(server: Server, budget_usd: float) -> tuple[str, str]:
    """A user with a budget of its own: its id, and a key of it."""
    user = uuid.uuid4().hex
    admin = bearer(MASTER_KEY)
    budget = ask(f"{server.url}/v1/budgets", admin, {"max_budget": budget_usd})["budget_id"]
    ask(f"{server.url}/v1/users", admin, {"user_id": user, "budget_id": budget})
    return user, ask(f"{server.url}/v1/keys", admin, {"user_id": user})["key"]


@contextlib.contextmanager
def _rows(upstream_url: str, cores: set[int]) -> Iterator[dict[str, Row]]:
    with (
        tempfile.TemporaryDirectory() as data,
        otari(upstream_url, cores, {MODEL: PRICES}, Path(data)) as server,
    ):
        _, key = new_user(server, FREE_BUDGET_USD)
        yield completions(PEER.name, server, bearer(key), model=selector(MODEL))


PEER = Peer(
    "Otari", version, "key, budget of a user in SQLite (reserved before the call), log level ERROR", _rows
)
