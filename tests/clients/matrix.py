"""The matrix of docs/start/clients.md. `python -m tests.clients.matrix PAGE` writes it into the page."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from bench.pages import write_part
from bench.tables import markdown_table
from tests.clients.client import all_clients
from tests.clients.scenarios import ROWS, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clients.client import Client

LINE_CHARACTERS = 120
"""Of the pages in docs/."""

PART = "matrix"
"""The part of the page."""


def matrix() -> str:
    """Return a table for each kind of client, and a list of what some of them cannot do."""
    clients = sorted(all_clients(), key=lambda client: client.title.casefold())
    tables = [_table([client for client in clients if client.kind == kind]) for kind in ("library", "agent")]
    return "\n".join([*tables, *_reasons(clients), ""])


def _table(clients: list[Client]) -> str:
    names = [row.name for row in ROWS if clients[0].kind in row.kinds]
    rows = ((client.title, client.version, *(_cell(client, name) for name in names)) for client in clients)
    return markdown_table(("", "version", *names), rows)


def _cell(client: Client, name: str) -> str:
    if name not in rows_of(client):
        return "no"
    if name == "429":
        return client.run_busy
    if name == "402":
        return "final" if client.requests_at_402 == 1 else f"{client.requests_at_402} requests"
    return "yes"


def _reasons(clients: list[Client]) -> Iterator[str]:
    for client in clients:
        by_reason: dict[str, list[str]] = {}
        for name, reason in client.absent.items():
            by_reason.setdefault(reason, []).append(name)
        for reason, names in by_reason.items():
            text = f"- {client.title}, {', '.join(names)}: {reason}."
            yield textwrap.fill(text, LINE_CHARACTERS, subsequent_indent="  ", break_on_hyphens=False)


if __name__ == "__main__":
    write_part(Path(sys.argv[1]), PART, matrix())
