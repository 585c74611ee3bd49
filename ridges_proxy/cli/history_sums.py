"""Sums of the receipts of forgotten runs, by model, day, group or run."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import click

from ridges_proxy.billing.money import NANOUSD_PER_USD, usd_from_nanousd
from ridges_proxy.cli.amounts import exact_usd_of
from ridges_proxy.cli.tables import NO_RECEIPTS, count
from ridges_proxy.cli.terminal import plain
from ridges_proxy.cli.terminal_table import TerminalTable, name_column, number_column
from ridges_proxy.runtime.csv_cells import Usd, csv_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from ridges_proxy.cli.answer_types import Receipt

LENGTH_OF_DAY = len("2026-11-25")

NONE = "(none)"
"""The name in a table for costs whose model is not known, and for runs without a group."""


class By(StrEnum):
    """The parts into which the receipts are summed."""

    MODEL = "model"
    DAY = "day"
    """The UTC day of the last call."""
    GROUP = "group"
    RUN = "run"


@dataclass(slots=True)
class Sum:
    """The sum of some receipts, or of their parts."""

    name: str | None
    """None: no model is known, or the run has no group."""
    run_ids: set[str] = field(default_factory=set)
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nanousd: int = 0


@dataclass(frozen=True, slots=True)
class _Part:
    """The share of a receipt in one sum."""

    name: str | None
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_nanousd: int


def sums_of(receipts: Iterable[Receipt], by: By) -> list[Sum]:
    """Return the sums: days in their order, all others by cost, the largest first.

    A run with several groups counts for each of them. A server that does not say what a run has done counts
    under None.
    """
    sums: dict[str | None, Sum] = {}
    for receipt in receipts:
        for part in _parts_of(receipt, by):
            found = sums.setdefault(part.name, Sum(part.name))
            found.run_ids.add(receipt["run_id"])
            found.calls += part.calls
            found.prompt_tokens += part.prompt_tokens
            found.completion_tokens += part.completion_tokens
            found.cost_nanousd += part.cost_nanousd
    if by is By.DAY:
        return sorted(sums.values(), key=lambda each: each.name or "")
    return sorted(sums.values(), key=lambda each: (-each.cost_nanousd, each.name or ""))


def _parts_of(receipt: Receipt, by: By) -> Iterator[_Part]:
    if by is By.MODEL:
        yield from _parts_by_model(receipt)
        return
    whole = _Part(
        None,
        receipt["calls"],
        receipt.get("prompt_tokens") or 0,
        receipt.get("completion_tokens") or 0,
        _nanousd(receipt["used_cost_usd"]),
    )
    for name in _names_of(receipt, by):
        yield _Part(name, whole.calls, whole.prompt_tokens, whole.completion_tokens, whole.cost_nanousd)


def _names_of(receipt: Receipt, by: By) -> list[str] | list[None]:
    if by is By.RUN:
        return [receipt["run_id"]]
    if by is By.DAY:
        return [(receipt.get("last_call_at") or receipt["last_active_at"])[:LENGTH_OF_DAY]]
    return receipt.get("groups") or [None]


def _parts_by_model(receipt: Receipt) -> Iterator[_Part]:
    """Yield the cost of each model, and what no model accounts for."""
    calls, cost_nanousd = receipt["calls"], _nanousd(receipt["used_cost_usd"])
    for cost in receipt.get("costs", ()):
        part = _Part(
            cost["model"] or None,
            cost["calls"],
            cost["prompt_tokens"],
            cost["completion_tokens"],
            _nanousd(cost["cost_usd"]),
        )
        calls, cost_nanousd = calls - part.calls, cost_nanousd - part.cost_nanousd
        yield part
    if calls or cost_nanousd:
        yield _Part(None, calls, 0, 0, cost_nanousd)


def sums_json(sums: list[Sum], by: By) -> list[dict[str, Any]]:
    """Return the sums as JSON."""
    return [
        {
            by.value: each.name,
            "runs": len(each.run_ids),
            "calls": each.calls,
            "prompt_tokens": each.prompt_tokens,
            "completion_tokens": each.completion_tokens,
            "used_cost_usd": usd_from_nanousd(each.cost_nanousd),
        }
        for each in sums
    ]


def print_sums_csv(sums: list[Sum], by: By) -> None:
    """Print the sums as CSV. An unknown name is empty."""
    columns = (by.value, "runs", "calls", "prompt_tokens", "completion_tokens", "used_cost_usd")
    rows = (
        {**row, by.value: row[by.value] or "", "used_cost_usd": Usd(row["used_cost_usd"])}
        for row in sums_json(sums, by)
    )
    sys.stdout.writelines(csv_lines(columns, rows))


def show_sums(sums: list[Sum], by: By, receipts: list[Receipt], console: Console) -> None:
    """Print the sums as a table, and the sum of the receipts, in which each counts once."""
    table = TerminalTable(
        name_column(by.value),
        *map(number_column, ("runs", "calls", "prompt\ntokens", "completion\ntokens", "spent")),
        drop=("completion tokens", "prompt tokens", "runs", "calls"),
    )
    for each in sums:
        numbers = len(each.run_ids), each.calls, each.prompt_tokens, each.completion_tokens
        table.add_row(
            NONE if each.name is None else each.name,
            *(f"{number:,}" for number in numbers),
            exact_usd_of(each.cost_nanousd),
        )
    if not receipts:
        click.echo(NO_RECEIPTS)
        return
    console.print(table)
    spent_nanousd = sum(_nanousd(receipt["used_cost_usd"]) for receipt in receipts)
    console.print(
        plain(f"{count(len(receipts), 'receipt')}, {exact_usd_of(spent_nanousd)} spent"), style="dim"
    )


def _nanousd(amount_usd: float) -> int:
    return round(amount_usd * NANOUSD_PER_USD)
