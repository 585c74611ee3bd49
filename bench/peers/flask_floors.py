"""Flask under gunicorn's own worker, without this proxy: a view that only relays, and an empty one."""

from __future__ import annotations

import contextlib
from importlib.metadata import version
from typing import TYPE_CHECKING

from bench.calls import EMPTY_REQUEST
from bench.http_request import RELAY_REQUEST
from bench.peers.peer import Peer
from bench.servers import bare_relay, empty_view

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers.peer import Row

BARE_RELAY = "bare relay"
EMPTY_VIEW = "empty Flask view"


@contextlib.contextmanager
def _relay_rows(upstream_url: str, cores: set[int]) -> Iterator[dict[str, Row]]:
    with bare_relay(upstream_url, cores) as server:
        yield {BARE_RELAY: (server, RELAY_REQUEST)}


@contextlib.contextmanager
def _empty_rows(upstream_url: str, cores: set[int]) -> Iterator[dict[str, Row]]:
    with empty_view(upstream_url, cores) as server:
        yield {EMPTY_VIEW: (server, EMPTY_REQUEST)}


def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("Flask", "gunicorn", "gevent", "requests"))


PEERS = (
    Peer(
        BARE_RELAY,
        _versions,
        "streams from the upstream, collects the text, and does nothing else",
        _relay_rows,
    ),
    Peer(EMPTY_VIEW, _versions, "calls no upstream", _empty_rows),
)
