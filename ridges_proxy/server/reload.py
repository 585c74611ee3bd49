"""Reload by SIGHUP: running workers load new prices and budgets; other changes need new workers."""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from ridges_proxy.billing.price_units import WARNING, models_priced_per_token
from ridges_proxy.config import Settings, SettingsError, load_settings, read_environment
from ridges_proxy.ledger import LedgerOpeningError, check_ledger_store
from ridges_proxy.server.accepted_settings import InPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ridges_proxy.billing.budgets import Budget, Budgets
    from ridges_proxy.billing.price_list import PriceList
    from ridges_proxy.billing.prices import Price
    from ridges_proxy.server.accepted_settings import AcceptedSettings

ANOTHER_ADDRESS = (
    "HOST and PORT cannot change by a reload: restart the server. If systemd holds its socket, the address is"
    " in the socket unit."
)
"""Gunicorn would close its sockets, also those of systemd, and end the server if the new port is in use."""

logger = logging.getLogger(__name__)


class Reload:
    """The master's handler of SIGHUP. Compares the new settings with those that it accepted last.

    If the settings have problems, or the ledger cannot be opened, or the address is another one, the workers
    stay as they are. If only prices and budgets have changed, the workers are signalled to load them.
    Otherwise the workers are replaced, even if no setting has changed, because the code may have.
    """

    def __init__(
        self, accepted: AcceptedSettings, restart: Callable[[], None], signal_workers: Callable[[], None]
    ) -> None:
        self._accepted = accepted
        self._restart = restart
        self._signal_workers = signal_workers

    def __call__(self) -> None:
        """Read the settings; then refuse them, signal the workers, or replace the workers."""
        try:
            new = load_settings(Settings, read_environment())
        except SettingsError as error:
            self._refuse(error.problems)
            return
        running = self._accepted.settings
        if (new.host, new.port) != (running.host, running.port):
            self._refuse([ANOTHER_ADDRESS])
            return
        models = changed_models(running.model_prices, new.model_prices)
        budgets = changed_budgets(running.budgets, new.budgets)
        others = _changed_others(running, new)
        if (models or budgets) and not others and self._accepted.accept_in_place(new):
            self._signal_workers()
            _log_in_place(new, models, budgets)
        else:
            self._replace_workers(new, others)

    def _replace_workers(self, new: Settings, changed: list[str]) -> None:
        try:
            check_ledger_store(new)  # a worker that cannot open the ledger would end the server
        except LedgerOpeningError as error:
            self._refuse([str(error)])
            return
        warn_of_prices_per_token(new.model_prices)
        if changed:
            logger.info("changed settings need new workers", extra={"changed": changed})
        self._accepted.accept(new)
        self._restart()

    def _refuse(self, problems: list[str]) -> None:
        self._accepted.refuse(problems)
        logger.error("reload refused: the previous settings stay in force", extra={"problems": problems})


def warn_of_prices_per_token(prices: Mapping[str, Price]) -> None:
    """Log a warning for each model whose price seems to be per token."""
    for model in models_priced_per_token(prices):
        logger.warning("unlikely price", extra={"model": model, "detail": WARNING})


def reload_in_place(accepted: AcceptedSettings, prices: PriceList, budgets: Budgets) -> None:
    """Load in a worker the prices and budgets that the master has accepted."""
    loaded = InPlace(prices.prices, budgets.all)
    try:
        new = accepted.take_in_place(loaded)
    except ValueError as error:
        logger.error("new prices refused, the previous ones stay", extra={"problems": [str(error)]})  # noqa: TRY400 - no traceback needed
        return
    if new is None:
        return
    prices.replace(new.prices)
    if new.prices != loaded.prices:
        logger.info("new prices are in force", extra={"models": len(new.prices)})
    if new.budgets != loaded.budgets:
        budgets.replace(new.budgets)
        logger.info("new budgets are in force", extra={"budgets": len(new.budgets)})


def changed_models(old: Mapping[str, Price], new: Mapping[str, Price]) -> list[str]:
    """Return the models whose price was changed, added or removed."""
    return [model for model in {**old, **new} if old.get(model) != new.get(model)]


def changed_budgets(old: Sequence[Budget], new: Sequence[Budget]) -> list[str]:
    """Return the names of the budgets that were changed, added or removed."""
    before, after = ({budget.name: budget for budget in budgets} for budgets in (old, new))
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _changed_others(old: Settings, new: Settings) -> list[str]:
    """Return the names of the changed settings that running workers cannot take over."""
    same = replace(old, model_prices=new.model_prices, budgets=new.budgets)
    return [
        field.metadata["name"]
        for field in fields(Settings)
        if getattr(same, field.name) != getattr(new, field.name)
    ]


def _log_in_place(new: Settings, models: list[str], budgets: list[str]) -> None:
    if models:
        logger.info("prices reloaded", extra={"models": len(new.model_prices), "changed": models})
        warn_of_prices_per_token(new.model_prices)
    if budgets:
        logger.info("budgets reloaded", extra={"budgets": len(new.budgets), "changed": budgets})
