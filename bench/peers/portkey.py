"""Portkey's gateway (npm). It keeps no budgets."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from bench.peers.packages import FOLDER, require_npm_package, version_of
from bench.peers.peer import Peer, completions, peer_server
from bench.processes import find_program, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers.peer import Row

PACKAGE, VERSION = "@portkey-ai/gateway", "1.15.2"


@contextlib.contextmanager
def _rows(upstream_url: str, cores: set[int]) -> Iterator[dict[str, Row]]:
    node = find_program("node", "nodejs")
    require_npm_package(PACKAGE, VERSION)
    port = free_port()
    program = FOLDER / "node_modules" / PACKAGE / "build" / "start-server.js"
    command = [node, str(program), f"--port={port}", "--headless"]
    headers = {
        "Authorization": "Bearer bench",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"{upstream_url}/v1",
    }
    with peer_server(port, command, cores, NODE_ENV="production") as server:
        rows = completions(PEER.name, server, headers)
        del rows[f"{PEER.name} streamed"]  # on Node 20, it answers 500
        yield rows


PEER = Peer(
    "Portkey",
    lambda: f"{PACKAGE} {VERSION} on Node {version_of('node', '--version')}",
    "no key, no budget; headless, NODE_ENV production",
    _rows,
)
