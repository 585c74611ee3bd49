"""Reload by SIGHUP: running workers load new prices; other changes need new workers."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from ridges_proxy.billing.price_units import WARNING, models_priced_per_token
from ridges_proxy.config import Settings, SettingsError, load_settings, read_environment
from ridges_proxy.ledger import LedgerOpeningError, check_ledger_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ridges_proxy.billing.price_list import PriceList
    from ridges_proxy.billing.prices import Price

logger = logging.getLogger(__name__)


class Reload:
    """The master's handler of SIGHUP. Compares the new settings with those of the running workers.

    If the settings have problems, or the ledger cannot be opened, the workers stay as they are. If only
    prices have changed, the workers are signalled to load them. Otherwise the workers are replaced, even if
    no setting has changed, because the code may have.
    """

    def __init__(
        self, running: Settings, restart: Callable[[], None], signal_workers: Callable[[], None]
    ) -> None:
        self._running = running
        self._restart = restart
        self._signal_workers = signal_workers

    def __call__(self) -> None:
        """Read the settings; then refuse them, signal the workers, or replace the workers."""
        try:
            new = load_settings(Settings, read_environment())
        except SettingsError as error:
            _refuse(error.problems)
            return
        changed = changed_models(self._running.model_prices, new.model_prices)
        if changed and _differ_only_in_prices(self._running, new):
            self._signal_workers()
            logger.info("prices reloaded", extra={"models": len(new.model_prices), "changed": changed})
            warn_of_prices_per_token(new.model_prices)
        else:
            try:
                check_ledger_store(new)  # a worker that cannot open the ledger would end the server
            except LedgerOpeningError as error:
                _refuse([str(error)])
                return
            warn_of_prices_per_token(new.model_prices)
            self._restart()
        self._running = new


def _refuse(problems: list[str]) -> None:
    logger.error("reload refused: the previous settings stay in force", extra={"problems": problems})


def warn_of_prices_per_token(prices: Mapping[str, Price]) -> None:
    """Log a warning for each model whose price seems to be per token."""
    for model in models_priced_per_token(prices):
        logger.warning("unlikely price", extra={"model": model, "detail": WARNING})


def reload_prices(started_with: Settings, prices: PriceList) -> None:
    """Load new prices in a worker, if no other setting has changed."""
    try:
        new = load_settings(Settings, read_environment())
    except SettingsError as error:
        logger.error("new prices refused, the previous ones stay", extra={"problems": error.problems})  # noqa: TRY400 - no traceback needed
        return
    if not changed_models(prices.prices, new.model_prices):
        return
    if _differ_only_in_prices(started_with, new):
        prices.replace(new.model_prices)
        logger.info("new prices are in force", extra={"models": len(new.model_prices)})
    else:
        logger.error(
            "new prices refused, the previous ones stay",
            extra={"problems": ["other settings have changed too: send SIGHUP again"]},
        )


def changed_models(old: Mapping[str, Price], new: Mapping[str, Price]) -> list[str]:
    """Return the models whose price was changed, added or removed."""
    return [model for model in {**old, **new} if old.get(model) != new.get(model)]


def _differ_only_in_prices(one: Settings, other: Settings) -> bool:
    return replace(one, model_prices=other.model_prices) == other
