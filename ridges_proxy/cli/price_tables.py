"""Tables of prices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ridges_proxy.cli.amounts import exact_decimals
from ridges_proxy.cli.client import visible
from ridges_proxy.upstream import CatalogModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ridges_proxy.billing.prices import Price
    from ridges_proxy.cli.comparison import Comparison

PIPE_COLUMNS = 4_000
"""Wider than any table: piped output, for grep, must not be folded."""

NONE = "-"


def show_prices(prices: Mapping[str, Price]) -> None:
    """Print the configured price of each model."""
    table = _table("model", "input", "output", "cached input")
    table.add_column("upstream", overflow="fold")
    table.add_column("new messages counted by", overflow="fold")
    for model, price in prices.items():
        rates = (price.input_nanousd, price.output_nanousd, price.cached_input_nanousd)
        _add_row(table, model, *map(_usd, rates), price.upstream_model or NONE, _count(price))
    _print(table, "USD per million tokens")


def _count(price: Price) -> str:
    return "bytes" if price.tokenizer is None else f"tokenizer {price.tokenizer.path}"


def show_comparisons(comparisons: Iterable[Comparison]) -> None:
    """Print the configured prices beside the upstream's."""
    table = _table("model", "input", "upstream's", "output", "upstream's", "cached", "upstream's")
    table.add_column("verdict", overflow="fold")
    for comparison in comparisons:
        price, offer = comparison.price, comparison.offer or CatalogModel(None, None)
        _add_row(
            table,
            comparison.model,
            _usd(price.input_nanousd),
            _usd(offer.input_nanousd),
            _usd(price.output_nanousd),
            _usd(offer.output_nanousd),
            _usd(price.cached_input_nanousd),
            _usd(offer.cached_input_nanousd),
            comparison.verdict,
        )
    _print(table, "USD per million tokens")


def _table(model: str, *rates: str) -> Table:
    """Return a table whose first column is the model. Long cells are folded, never cut."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(model, overflow="fold")
    for name in rates:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _add_row(table: Table, *cells: str) -> None:
    """Add a row of plain text: neither rich nor a terminal interprets it."""
    table.add_row(*(Text(visible(cell)) for cell in cells))


def _print(table: Table, hint: str) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    console.print(table)
    console.print(hint, style="dim")


def _usd(amount_nanousd: int | None) -> str:
    return NONE if amount_nanousd is None else exact_decimals(amount_nanousd)
