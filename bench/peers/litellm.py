"""LiteLLM's proxy (PyPI), without a database.

Its database needs the engines of Prisma. These are programs that no package contains: they are downloaded
from Prisma's own server when they are first used.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from bench.http_request import MODEL
from bench.peers.packages import FOLDER, PYTHON, require_packages
from bench.peers.peer import Peer, bearer, completions, peer_server
from bench.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers.peer import Row
    from bench.servers import Server

PACKAGE = "litellm[proxy]==1.108.7"
MASTER_KEY = "sk-bench-0123456789abcdef0123456789"


def litellm_proxy(
    deployments: list[dict[str, object]], cores: set[int]
) -> contextlib.AbstractContextManager[Server]:
    """The proxy with these deployments. It does not try a failed call again."""
    require_packages(PACKAGE)
    port = free_port()
    file = FOLDER / "litellm.yaml"
    settings = {"telemetry": False, "num_retries": 0}
    file.write_text(
        json.dumps({"model_list": deployments, "litellm_settings": settings})
    )  # JSON is YAML, too
    command = [str(PYTHON.with_name("litellm")), "--config", str(file)]
    return peer_server(
        port,
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        cores,
        LITELLM_MASTER_KEY=MASTER_KEY,
        LITELLM_MODE="PRODUCTION",
        LITELLM_LOG="ERROR",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )


@contextlib.contextmanager
def _rows(upstream_url: str, cores: set[int]) -> Iterator[dict[str, Row]]:
    parameters = {"model": f"openai/{MODEL}", "api_base": f"{upstream_url}/v1", "api_key": "bench"}
    with litellm_proxy([{"model_name": MODEL, "litellm_params": parameters}], cores) as server:
        yield completions(PEER.name, server, bearer(MASTER_KEY))


PEER = Peer(
    "LiteLLM", lambda: PACKAGE, "master key, no budget, log level ERROR, LITELLM_MODE PRODUCTION", _rows
)
