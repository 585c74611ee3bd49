"""`ridges-proxy prices …`: show the configured prices, and compare them with the upstream's.

`flask prices …` is the same. It is an entry point, so it loads no app and needs no key.
"""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.billing.price_units import WARNING, models_priced_per_token
from ridges_proxy.cli.client import visible
from ridges_proxy.cli.command_help import Group, examples
from ridges_proxy.cli.comparison import Verdict, compare
from ridges_proxy.cli.errors import UnusableSettingsError
from ridges_proxy.cli.price_tables import show_comparisons, show_prices
from ridges_proxy.cli.terminal import wide_option
from ridges_proxy.config import PriceSettings, SettingsError, load_settings, read_environment
from ridges_proxy.errors import (
    UpstreamError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from ridges_proxy.upstream import fetch_catalog

if TYPE_CHECKING:
    from rich.console import Console

    from ridges_proxy.billing.prices import Price
    from ridges_proxy.cli.comparison import Comparison
    from ridges_proxy.upstream import CatalogModel


class PricesError(click.ClickException):
    """A command failed, or prices differ. Each subclass has its exit status."""


class NoAnswerError(PricesError):
    """The upstream does not answer at CHUTES_BASE_URL."""

    exit_code = 3


class NoModelListError(PricesError):
    """The upstream's answer is not a list of models."""

    exit_code = 4


class PricesTooLowError(PricesError):
    """A configured price is below the upstream's."""

    exit_code = 5


class PricesDifferError(PricesError):
    """Prices differ in another way, or cannot be compared."""

    exit_code = 6


@click.group(
    cls=Group,
    no_args_is_help=True,
    epilog=examples("ridges-proxy prices show", "ridges-proxy prices check"),
)
def prices() -> None:
    """Show the configured prices, and compare them with the upstream's.

    MODEL_PRICES, DEFAULT_MODEL and CHUTES_BASE_URL are read from the environment, or from
    SETTINGS_FILE (default: .env in the current folder). The commands need no key and no running server.

    \b
    Exit status:
      0  done; for check: all prices equal the upstream's
      2  wrong usage, or invalid settings
      3  the upstream does not answer at CHUTES_BASE_URL
      4  its answer is not a list of models
      5  a price is below the upstream's: runs cost more than the ledger records
      6  prices differ in another way: higher, not offered, or no price upstream
    """  # noqa: D301 - keeps click from wrapping these lines
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a model's name may not fit the encoding


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@prices.command("show", epilog=examples("ridges-proxy prices show", "ridges-proxy prices show --json"))
@wide_option
@_as_json
def show(*, as_json: bool, console: Console) -> None:
    """Show the prices of MODEL_PRICES. With --json, in the form of the setting.

    A price that seems to be per token, and not per million tokens, causes a warning.
    """
    configured = _settings().model_prices
    if as_json:
        _echo_json({model: _document(price) for model, price in configured.items()})
    else:
        show_prices(configured, console)
    for model in models_priced_per_token(configured):
        click.echo(f"Warning: {visible(model)}: {WARNING}.", err=True)


@prices.command("check", epilog=examples("ridges-proxy prices check", "ridges-proxy prices check --wide"))
@wide_option
@_as_json
def check(*, as_json: bool, console: Console) -> None:
    """Compare each configured price with the upstream's.

    The upstream publishes its prices at CHUTES_BASE_URL/models. An alias is compared with the upstream's
    model. The price of cached input is compared only if it is configured: otherwise cached input costs as
    much as input.
    """
    settings = _settings()
    url = f"{settings.chutes_base_url}/models"
    catalog = _catalog(settings, url)
    comparisons = compare(settings.model_prices, catalog)
    if as_json:
        _echo_json(
            {"upstream": url, "models": [_comparison_document(comparison) for comparison in comparisons]}
        )
    else:
        show_comparisons(comparisons, console)
        _print_warnings(comparisons, models_priced_per_token(settings.model_prices))
    _raise_for_differences(comparisons)


def _settings() -> PriceSettings:
    try:
        return load_settings(PriceSettings, read_environment())
    except SettingsError as error:
        raise UnusableSettingsError(str(error)) from None


def _catalog(settings: PriceSettings, url: str) -> dict[str, CatalogModel]:
    try:
        return fetch_catalog(settings.chutes_base_url, settings.connect_timeout_seconds)
    except (UpstreamUnreachableError, UpstreamTimeoutError) as error:
        raise NoAnswerError(f"No list of models from {url}: {error}.") from None
    except UpstreamRefusedError as error:
        raise NoModelListError(
            f"{url} answered {error.upstream_status} instead of a list of models."
        ) from None
    except UpstreamError:
        raise NoModelListError(f"{url} did not answer with a list of models.") from None


def _print_warnings(comparisons: list[Comparison], priced_per_token: list[str]) -> None:
    for comparison in comparisons:
        warning = comparison.unit_warning
        # The upstream may really be that cheap.
        if comparison.verdict is not Verdict.SAME and comparison.model in priced_per_token:
            warning = warning or WARNING
        if warning:
            click.echo(f"Warning: {visible(comparison.model)}: {warning}.", err=True)


def _raise_for_differences(comparisons: list[Comparison]) -> None:
    """Raise the error of the worst difference."""
    lower = sum(comparison.verdict is Verdict.LOWER for comparison in comparisons)
    other = sum(comparison.verdict is not Verdict.SAME for comparison in comparisons) - lower
    if lower:
        raise PricesTooLowError(f"Prices below the upstream's: {lower} of {len(comparisons)}.")
    if other:
        raise PricesDifferError(f"Prices that differ from the upstream's: {other} of {len(comparisons)}.")


def _document(price: Price) -> dict[str, Any]:
    """Return a price in the form of MODEL_PRICES."""
    document: dict[str, Any] = {
        "input": usd_from_nanousd(price.input_nanousd),
        "output": usd_from_nanousd(price.output_nanousd),
    }
    if price.cached_input_nanousd is not None:
        document["cached_input"] = usd_from_nanousd(price.cached_input_nanousd)
    if price.upstream_model is not None:
        document["upstream"] = price.upstream_model
    if price.tokenizer is not None:
        document["tokenizer"] = price.tokenizer.path
    if price.context_length is not None:
        document["context_length"] = price.context_length
    return document


def _offer_document(offer: CatalogModel) -> dict[str, float | None]:
    rates = {
        "input": offer.input_nanousd,
        "output": offer.output_nanousd,
        "cached_input": offer.cached_input_nanousd,
    }
    return {name: None if rate is None else usd_from_nanousd(rate) for name, rate in rates.items()}


def _comparison_document(comparison: Comparison) -> dict[str, Any]:
    return {
        "model": comparison.model,
        "ours": _document(comparison.price),
        "theirs": None if comparison.offer is None else _offer_document(comparison.offer),
        "verdict": comparison.verdict.value,
        "warning": comparison.unit_warning,
    }


def _echo_json(document: object) -> None:
    click.echo(json.dumps(document))  # ASCII only: nothing that a terminal interprets
