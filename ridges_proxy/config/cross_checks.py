"""Checks of settings that are each valid but contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.config import ledger_url

if TYPE_CHECKING:
    from collections.abc import Mapping


def contradictions(values: Mapping[str, Any]) -> list[str]:
    """Return a problem for each contradiction. Skips missing and invalid settings, already reported."""
    problems = []
    if values.get("ledger_url") == ledger_url.MEMORY and values.get("workers", 1) > 1:
        problems.append(
            "WORKERS must be 1 with LEDGER_URL=memory://: each worker would have its own ledger,"
            " and a run could spend its budget once in each"
        )
    if "model_prices" in values and values.get("default_model") not in values["model_prices"]:
        problems.append("DEFAULT_MODEL has no price in MODEL_PRICES")
    if values.get("min_completion_tokens", 0) > values.get("max_tokens", 1_000_000):
        problems.append("MIN_COMPLETION_TOKENS is above MAX_TOKENS")
    keys = [
        {values[each] for each in (name, f"{name}_previous") if values.get(each)}
        for name in ("chutes_api_key", "proxy_api_key", "admin_api_key", "run_token_key")
    ]
    if len(set().union(*keys)) < sum(map(len, keys)):
        problems.append(
            "CHUTES_API_KEY, PROXY_API_KEY, ADMIN_API_KEY and RUN_TOKEN_KEY must differ:"
            " each gives different rights"
        )
    problems += [
        f"{name.upper()}_PREVIOUS is set without {name.upper()}"
        for name in ("admin_api_key", "run_token_key", "run_token_public_key")
        if values.get(f"{name}_previous") and not values.get(name)
    ]
    if values.get("require_run_tokens") and not (
        values.get("run_token_key") or values.get("run_token_public_key")
    ):
        problems.append(
            "REQUIRE_RUN_TOKENS needs RUN_TOKEN_KEY or RUN_TOKEN_PUBLIC_KEY: no call could be accepted"
        )
    return problems
