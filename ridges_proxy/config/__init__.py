"""Settings of the service: definition, parsing and checks."""

from ridges_proxy.config.budget_settings import BudgetSettings
from ridges_proxy.config.client_settings import ClientSettings
from ridges_proxy.config.cross_checks import doubts
from ridges_proxy.config.environment import (
    load_settings,
    load_valid_settings,
    metrics_folder,
    read_environment,
    settings_file,
    unknown_names,
)
from ridges_proxy.config.field import REQUIRED, InvalidSettingError, SettingsError
from ridges_proxy.config.ledger_settings import LedgerSettings
from ridges_proxy.config.price_settings import DEFAULT_MODEL, PriceSettings
from ridges_proxy.config.settings import Settings

__all__ = [
    "DEFAULT_MODEL",
    "REQUIRED",
    "BudgetSettings",
    "ClientSettings",
    "InvalidSettingError",
    "LedgerSettings",
    "PriceSettings",
    "Settings",
    "SettingsError",
    "doubts",
    "load_settings",
    "load_valid_settings",
    "metrics_folder",
    "read_environment",
    "settings_file",
    "unknown_names",
]
