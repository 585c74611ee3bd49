"""The prices and the budget of the peers that count costs."""

from __future__ import annotations

PricesUsd = dict[str, tuple[float, float]]
"""Of a million tokens of the prompt and of the completion, for each model."""

PRICES = (0.27, 0.27)
FREE_BUDGET_USD = 100_000.0
"""More than a benchmark spends."""
