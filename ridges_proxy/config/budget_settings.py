"""The settings of budgets above the runs, and of the models that they may name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.config import parsers
from ridges_proxy.config.budget_entries import read_budgets
from ridges_proxy.config.field import setting
from ridges_proxy.config.price_settings import PriceSettings

if TYPE_CHECKING:
    from ridges_proxy.billing.budgets import Budget


@dataclass(frozen=True, kw_only=True)
class BudgetSettings(PriceSettings):
    """Settings that the command line needs to check the budgets."""

    embedding_model: str = setting(
        "EMBEDDING_MODEL", parsers.text, "BAAI/bge-large-en-v1.5", "Name of the embedding model on /v1."
    )
    budgets: tuple[Budget, ...] = setting(
        "BUDGETS",
        read_budgets,
        "",
        "Budgets that several runs share (docs/operating/budgets.md): JSON, or the path of a JSON or TOML"
        ' file. Each has a "name", an amount in "usd" and a "window" (lifetime, hour, day, week, month), and'
        ' may have "zone" (default: UTC), "group", "model" and "kind". A call must fit in its run\'s budget'
        " and in each of these that it matches. If it is empty, only the runs' own budgets exist.",
    )
