"""`flask prices …`: what models cost here, and whether the upstream agrees.

Flask finds it by its entry point, before any app: it needs no key.
"""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.cli.client import visible
from ridges_proxy.cli.comparison import Verdict, compare
from ridges_proxy.cli.errors import UnusableSettingsError
from ridges_proxy.cli.price_tables import show_comparisons, show_prices
from ridges_proxy.config import PriceSettings, SettingsError, load_settings, read_environment
from ridges_proxy.errors import (
    UpstreamError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from ridges_proxy.upstream import fetch_catalogue

if TYPE_CHECKING:
    from ridges_proxy.billing.prices import Price
    from ridges_proxy.cli.comparison import Comparison
    from ridges_proxy.upstream import Offer


class PricesError(click.ClickException):
    """The command cannot be done, or found what is wrong; each kind owns its exit status."""


class UpstreamSilentError(PricesError):
    """Nothing answers at CHUTES_BASE_URL."""

    exit_code = 3


class UpstreamAnswerError(PricesError):
    """What answers is no list of models."""

    exit_code = 4


class PricesTooLowError(PricesError):
    """A price here is below the upstream's."""

    exit_code = 5


class PricesDifferError(PricesError):
    """Prices differ otherwise, or cannot be compared."""

    exit_code = 6


@click.group(no_args_is_help=True)
def prices() -> None:
    """Show what models cost, and compare it with what the upstream publishes.

    MODEL_PRICES, DEFAULT_MODEL and CHUTES_BASE_URL are read from the environment or from .env in the
    current folder. No key is needed, and no server.

    \b
    Exit status:
      0  done; of check: every price here is the upstream's
      2  wrong usage, or settings that do not fit
      3  the upstream does not answer at CHUTES_BASE_URL
      4  its answer is no list of models
      5  a price here is below the upstream's: runs cost more than is booked
      6  prices differ otherwise: above the upstream's, not offered, or none given there
    """  # noqa: D301 - click's mark for lines to keep
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a model's name need not fit the terminal's encoding


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@prices.command("show")
@_as_json
def show(*, as_json: bool) -> None:
    """Show what MODEL_PRICES says here. With --json, in the form that MODEL_PRICES is set in."""
    listed = _settings().model_prices
    if as_json:
        _echo_json({model: _document(price) for model, price in listed.items()})
    else:
        show_prices(listed)


@prices.command("check")
@_as_json
def check(*, as_json: bool) -> None:
    """Compare each price here with the upstream's.

    The upstream publishes its own at CHUTES_BASE_URL/models. An alias is compared with the model that it
    stands for. A rate for cached input is compared only where one is set here: without one, what was
    cached is charged as input.
    """
    settings = _settings()
    url = f"{settings.chutes_base_url}/models"
    catalogue = _catalogue(settings, url)
    comparisons = compare(settings.model_prices, catalogue)
    if as_json:
        _echo_json({"upstream": url, "models": [_comparison_document(each) for each in comparisons]})
    else:
        show_comparisons(comparisons)
        _warn_of_slips(comparisons)
    _judge(comparisons)


def _settings() -> PriceSettings:
    try:
        return load_settings(PriceSettings, read_environment())
    except SettingsError as error:
        raise UnusableSettingsError(str(error)) from None


def _catalogue(settings: PriceSettings, url: str) -> dict[str, Offer]:
    try:
        return fetch_catalogue(settings.chutes_base_url, settings.connect_timeout_seconds)
    except (UpstreamUnreachableError, UpstreamTimeoutError) as error:
        raise UpstreamSilentError(f"No list of models from {url}: {error}.") from None
    except UpstreamRefusedError as error:
        raise UpstreamAnswerError(f"{url} answered {error.upstream_status}, and no list of models.") from None
    except UpstreamError:
        raise UpstreamAnswerError(f"{url} did not answer with a list of models.") from None


def _warn_of_slips(comparisons: list[Comparison]) -> None:
    for each in comparisons:
        if each.slip:
            click.echo(f"Warning: {visible(each.model)}: {each.slip}.", err=True)


def _judge(comparisons: list[Comparison]) -> None:
    """End with the status of the worst that was found."""
    low = sum(each.verdict is Verdict.LOWER for each in comparisons)
    other = sum(each.verdict is not Verdict.SAME for each in comparisons) - low
    if low:
        raise PricesTooLowError(f"Prices below the upstream's: {low} of {len(comparisons)}.")
    if other:
        raise PricesDifferError(f"Prices that are not the upstream's: {other} of {len(comparisons)}.")


def _document(price: Price) -> dict[str, Any]:
    """A price as MODEL_PRICES has it."""
    document: dict[str, Any] = {
        "input": usd_from_nanousd(price.input_nanousd),
        "output": usd_from_nanousd(price.output_nanousd),
    }
    if price.cached_input_nanousd is not None:
        document["cached_input"] = usd_from_nanousd(price.cached_input_nanousd)
    if price.upstream_model is not None:
        document["upstream"] = price.upstream_model
    return document


def _offer_document(offer: Offer) -> dict[str, float | None]:
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
        "warning": comparison.slip,
    }


def _echo_json(document: object) -> None:
    click.echo(json.dumps(document))  # in ASCII: no letter that a terminal would act on
