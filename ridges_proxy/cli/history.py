"""Input and output of `ridges-proxy spend history`."""

from __future__ import annotations

import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ridges_proxy.runtime.csv_cells import Usd, csv_lines

if TYPE_CHECKING:
    from ridges_proxy.cli.answer_types import Receipt
    from ridges_proxy.cli.client import AdminClient

PAGE_RECEIPTS = 200
"""A page stays below MAX_ANSWER_BYTES of the client if each of its runs has used 500 models."""

UNIT_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}
COLUMNS = (
    "run_id",
    "forgotten_at",
    "last_active_at",
    "used_cost_usd",
    "inference_cost_usd",
    "embedding_cost_usd",
    "max_cost_usd",
    "calls",
    "closed",
    "finished",
    "ended_by",
    "groups",
    "first_call_at",
    "last_call_at",
    "prompt_tokens",
    "completion_tokens",
    "refused",
)


def time_in_past(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Read a time: 90m, 12h or 7d ago, or a date with or without a time of day. UTC if it names no zone."""
    if value is None:
        return None
    if ago := re.fullmatch(r"([0-9]{1,6})([mhd])", value):
        return max(0.0, time.time() - int(ago[1]) * UNIT_SECONDS[ago[2]])
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            "must be a duration before now, such as 12h or 7d, or a date such as 2026-11-25"
        ) from None
    return max(0.0, (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def receipts_since(client: AdminClient, since: float | None) -> list[Receipt]:
    """Read all pages. Returns the receipts in the order in which their runs were forgotten."""
    found: list[Receipt] = []
    query: dict[str, object] = {"limit": PAGE_RECEIPTS}
    if since is not None:
        query["since"] = f"{since:.6f}"
    while True:
        page = client.receipts(query)
        found += page["receipts"]
        if page["next"] is None:
            return sorted(found, key=lambda receipt: (receipt["forgotten_at"], receipt["run_id"]))
        query["mark"] = page["next"]


def print_csv(receipts: list[Receipt]) -> None:
    """Print receipts as CSV. A field that is null, or that an older server does not have, is empty.

    Groups are separated by spaces, and refused calls of all codes are counted together.
    """
    rows = ({name: _cell(name, each.get(name, "")) for name in COLUMNS} for each in receipts)
    sys.stdout.writelines(csv_lines(COLUMNS, rows))


def _cell(name: str, value: object) -> object:
    if isinstance(value, dict):
        return sum(value.values())
    if isinstance(value, list):
        return " ".join(value)
    if value is None:
        return ""
    return Usd(value) if name.endswith("_usd") and isinstance(value, int | float) else value
