"""SIGHUP: new prices go into force in the running workers; all else needs a new worker."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from ridges_proxy.config import Settings, SettingsError, load_settings, read_environment
from ridges_proxy.ledger import LedgerOpeningError, check_ledger_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ridges_proxy.billing.price_list import PriceList
    from ridges_proxy.billing.prices import Price

logger = logging.getLogger(__name__)


class Reload:
    """What SIGHUP does at the master. It knows what the workers run, and reads what they should run.

    Settings with problems change nothing, nor does a ledger that does not open. Where prices have changed
    and nothing else, the workers are told to take them over; otherwise (nothing changed, too: the code may
    have) they are replaced.
    """

    def __init__(
        self, running: Settings, restart: Callable[[], None], tell_workers: Callable[[], None]
    ) -> None:
        self._running = running
        self._restart = restart
        self._tell_workers = tell_workers

    def __call__(self) -> None:
        """Read the settings and do what they ask for."""
        try:
            new = load_settings(Settings, read_environment())
        except SettingsError as error:
            _refuse(error.problems)
            return
        changed = changed_models(self._running.model_prices, new.model_prices)
        if changed and _differ_in_prices_at_most(self._running, new):
            self._tell_workers()
            logger.info("prices reloaded", extra={"models": len(new.model_prices), "changed": changed})
        else:
            try:
                check_ledger_store(new)  # workers that cannot open theirs would end the server
            except LedgerOpeningError as error:
                _refuse([str(error)])
                return
            self._restart()
        self._running = new


def _refuse(problems: list[str]) -> None:
    logger.error("reload refused, the old settings stay", extra={"problems": problems})


def take_over_prices(started_with: Settings, prices: PriceList) -> None:
    """Read the settings in a worker and put their prices in force, if nothing else has changed."""
    try:
        new = load_settings(Settings, read_environment())
    except SettingsError as error:
        logger.error("the old prices stay", extra={"problems": error.problems})  # noqa: TRY400 - the problems say it all
        return
    if not changed_models(prices.prices, new.model_prices):
        return
    if _differ_in_prices_at_most(started_with, new):
        prices.replace(new.model_prices)
        logger.info("prices in force", extra={"models": len(new.model_prices)})
    else:
        logger.error("the old prices stay", extra={"problems": ["other settings have changed too: SIGHUP"]})


def changed_models(old: Mapping[str, Price], new: Mapping[str, Price]) -> list[str]:
    """The models whose price is another, that have one now, or that have one no more."""
    return [model for model in {**old, **new} if old.get(model) != new.get(model)]


def _differ_in_prices_at_most(one: Settings, other: Settings) -> bool:
    return replace(one, model_prices=other.model_prices) == other
