"""Tables of prices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.cli.amounts import exact_decimals
from ridges_proxy.cli.terminal import plain
from ridges_proxy.cli.terminal_table import TerminalTable, name_column, number_column, word_column
from ridges_proxy.upstream import CatalogModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console

    from ridges_proxy.billing.prices import Price
    from ridges_proxy.cli.comparison import Comparison

NONE = "-"


UNIT = "USD per million tokens"


def show_prices(prices: Mapping[str, Price], console: Console) -> None:
    """Print the configured price of each model."""
    table = TerminalTable(
        name_column("model"),
        *map(number_column, ("input", "output", "cached input")),
        name_column("upstream"),
        name_column("new messages counted by"),
        drop=("new messages counted by", "upstream", "cached input"),
    )
    for model, price in prices.items():
        rates = (price.input_nanousd, price.output_nanousd, price.cached_input_nanousd)
        table.add_row(model, *map(_usd, rates), price.upstream_model or NONE, _count(price))
    _print(table, console)


def _count(price: Price) -> str:
    return "bytes" if price.tokenizer is None else f"tokenizer {price.tokenizer.path}"


def show_comparisons(comparisons: Iterable[Comparison], console: Console) -> None:
    """Print the configured prices beside the upstream's."""
    rates = ("input", "upstream's\ninput", "output", "upstream's\noutput", "cached", "upstream's\ncached")
    dropped = reversed([each.replace("\n", " ") for each in rates])
    table = TerminalTable(
        name_column("model"), *map(number_column, rates), word_column("verdict"), drop=(*dropped,)
    )
    for comparison in comparisons:
        price, offer = comparison.price, comparison.offer or CatalogModel(None, None)
        table.add_row(
            comparison.model,
            _usd(price.input_nanousd),
            _usd(offer.input_nanousd),
            _usd(price.output_nanousd),
            _usd(offer.output_nanousd),
            _usd(price.cached_input_nanousd),
            _usd(offer.cached_input_nanousd),
            comparison.verdict.value,
        )
    _print(table, console)


def _print(table: TerminalTable, console: Console) -> None:
    console.print(table)
    console.print(plain(UNIT), style="dim")


def _usd(amount_nanousd: int | None) -> str:
    return NONE if amount_nanousd is None else exact_decimals(amount_nanousd)
