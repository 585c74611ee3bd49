"""Prices as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.cli.client import visible
from ridges_proxy.upstream import Offer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ridges_proxy.billing.prices import Price
    from ridges_proxy.cli.comparison import Comparison

PIPE_COLUMNS = 4_000
"""Wider than any table: what is piped to grep must not be folded."""

DECIMALS = 9
NONE = "-"


def show_prices(prices: Mapping[str, Price]) -> None:
    """Print what each model costs here."""
    table = _table("model", "input", "output", "cached input")
    table.add_column("upstream", overflow="fold")
    for model, price in prices.items():
        rates = (price.input_nanousd, price.output_nanousd, price.cached_input_nanousd)
        _add(table, model, *map(_usd, rates), price.upstream_model or NONE)
    _print(table, "USD per million tokens")


def show_comparisons(comparisons: Iterable[Comparison]) -> None:
    """Print our prices beside the upstream's."""
    table = _table("model", "input", "upstream's", "output", "upstream's", "cached", "upstream's")
    table.add_column("verdict", overflow="fold")
    for each in comparisons:
        price, offer = each.price, each.offer or Offer(None, None)
        _add(
            table,
            each.model,
            _usd(price.input_nanousd),
            _usd(offer.input_nanousd),
            _usd(price.output_nanousd),
            _usd(offer.output_nanousd),
            _usd(price.cached_input_nanousd),
            _usd(offer.cached_input_nanousd),
            each.verdict,
        )
    _print(table, "USD per million tokens")


def _table(model: str, *rates: str) -> Table:
    """A table whose first column is the model. Cells too long for the terminal are folded, never cut."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(model, overflow="fold")
    for name in rates:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    """Add a row of text that neither rich nor a terminal takes for more than text."""
    table.add_row(*(Text(visible(cell)) for cell in cells))


def _print(table: Table, hint: str) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    console.print(table)
    console.print(hint, style="dim")


def _usd(amount_nanousd: int | None) -> str:
    """An amount to the nano-USD, without the zeros at its end; at least cents."""
    if amount_nanousd is None:
        return NONE
    whole, rest = divmod(amount_nanousd, NANOUSD_PER_USD)
    return f"{whole:,}.{f'{rest:0{DECIMALS}}'.rstrip('0').ljust(2, '0')}"
