"""A peer: a gateway or a forwarder that the same load is sent to."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

from bench.http_request import COMPLETIONS_PATH, MODEL, ROUTES, Request
from bench.processes import MissingProgramError, listens, process, wait_until
from bench.servers import Server

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Row = tuple[Server, Request]

START_SECONDS = 120.0
"""LiteLLM needs some 25 s until it listens."""

ADMIN_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Peer:
    """A peer as a table of `bench.peers` shows it."""

    name: str
    version: Callable[[], str]
    settings: str
    """For the table: what it does beside forwarding, and what is set otherwise than by default."""
    start: Callable[[str, set[int]], AbstractContextManager[dict[str, Row]]]
    """Runs it in front of an upstream, on some cores. Yields its rows. Raises MissingProgramError."""


@contextlib.contextmanager
def peer_server(port: int, command: list[str], cores: set[int], **environ: str) -> Iterator[Server]:
    """A server, once it listens on this port. Raises MissingProgramError if it ends before."""
    with process(command, {**os.environ, **environ}, cores) as started:
        wait_until(lambda: has_ended(started) or listens(port), f"{command[0]} on port {port}", START_SECONDS)
        if has_ended(started):
            raise MissingProgramError(f"{command[0]} ended at its start with status {started.returncode}")
        yield Server(port, started.pid)


def has_ended(started: subprocess.Popen[bytes]) -> bool:
    return started.poll() is not None


def completions(
    name: str, server: Server, headers: dict[str, str] | None = None, *, model: str = MODEL
) -> dict[str, Row]:
    """The rows of a server that speaks OpenAI's API: whole answers, and streamed ones."""
    rows = {}
    for kind in ("whole", "streamed"):
        body = {**json.loads(ROUTES[f"/v1 {kind}"].body), "model": model}
        request = Request(COMPLETIONS_PATH, json.dumps(body).encode(), headers or {})
        rows[f"{name} {kind}"] = (server, request)
    return rows


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def ask(url: str, headers: dict[str, str], body: dict[str, object] | None = None) -> Any:  # noqa: ANN401 - each API answers its own JSON
    """GET from a peer's own API, or POST a body to it."""
    data = None if body is None else json.dumps(body).encode()
    request = HttpRequest(url, data, {"Content-Type": "application/json", **headers})
    with urlopen(request, timeout=ADMIN_SECONDS) as response:
        return json.load(response)
