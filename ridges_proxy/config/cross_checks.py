"""Settings that are fine alone and wrong together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.config import ledger_url

if TYPE_CHECKING:
    from collections.abc import Mapping


def contradictions(values: Mapping[str, Any]) -> list[str]:
    """Settings that are fine alone and wrong together. What is missing has been named already."""
    problems = []
    if values.get("ledger_url") == ledger_url.MEMORY and values.get("workers", 1) > 1:
        problems.append(
            "WORKERS must be 1 with LEDGER_URL=memory://: each worker would keep books of its own,"
            " and a run could spend its cap once in each"
        )
    if "model_prices" in values and values.get("default_model") not in values["model_prices"]:
        problems.append("DEFAULT_MODEL has no price in MODEL_PRICES")
    if values.get("min_completion_tokens", 0) > values.get("max_tokens", 1_000_000):
        problems.append("MIN_COMPLETION_TOKENS is above MAX_TOKENS")
    doors = [
        {values[key] for key in (name, f"{name}_previous") if values.get(key)}
        for name in ("chutes_api_key", "proxy_api_key", "admin_api_key", "run_token_key")
    ]
    if len(set().union(*doors)) < sum(map(len, doors)):
        problems.append(
            "CHUTES_API_KEY, PROXY_API_KEY, ADMIN_API_KEY and RUN_TOKEN_KEY must differ:"
            " each opens a different door"
        )
    problems += [
        f"{name.upper()}_PREVIOUS is set without {name.upper()}"
        for name in ("admin_api_key", "run_token_key", "run_token_public_key")
        if values.get(f"{name}_previous") and not values.get(name)
    ]
    if values.get("require_run_tokens") and not (
        values.get("run_token_key") or values.get("run_token_public_key")
    ):
        problems.append("REQUIRE_RUN_TOKENS needs RUN_TOKEN_KEY or RUN_TOKEN_PUBLIC_KEY: nobody could spend")
    return problems
