"""The service that this proxy replaces (bench/guide_service.py), under uvicorn."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import TYPE_CHECKING

from bench.http_request import INFERENCE_PATH, ROUTES
from bench.peers.packages import PYTHON, require_packages
from bench.peers.peer import Peer, peer_server
from bench.processes import free_port
from bench.servers import proxy_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers.peer import Row
    from bench.servers import Server

PACKAGES = ("fastapi==0.165.0", "uvicorn==0.54.0", "httpx==0.28.1")


def guide_service(
    upstream_url: str, cores: set[int], **settings: str
) -> contextlib.AbstractContextManager[Server]:
    require_packages(*PACKAGES)
    port = free_port()
    command = [str(PYTHON), "-m", "uvicorn", "bench.guide_service:app", "--port", str(port)]
    return peer_server(port, command, cores, **{**proxy_settings(upstream_url), **settings})


@contextlib.contextmanager
def _rows(upstream_url: str, cores: set[int]) -> Iterator[dict[str, Row]]:
    request = ROUTES[INFERENCE_PATH]
    body = {**json.loads(request.body), "run_id": "bench"}  # where that service looks for it
    with guide_service(upstream_url, cores) as server:
        yield {PEER.name: (server, dataclasses.replace(request, body=json.dumps(body).encode()))}


PEER = Peer(
    "guide's service",
    lambda: ", ".join(PACKAGES[:2]),
    "budget in memory, counted after the call; one HTTP client for each call",
    _rows,
)
