"""Checks of settings that are each valid but contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridges_proxy.config import ledger_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ridges_proxy.config.settings import Settings


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
        for name in ("chutes_api_key", "proxy_api_key", "admin_api_key", "run_token_key", "alert_webhook_key")
    ]
    if len(set().union(*keys)) < sum(map(len, keys)):
        problems.append(
            "CHUTES_API_KEY, PROXY_API_KEY, ADMIN_API_KEY, RUN_TOKEN_KEY and ALERT_WEBHOOK_KEY must differ:"
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
    problems += _budgets_without_calls(values)
    problems += _receipts(values)
    return problems


def _budgets_without_calls(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the budgets that no call can match, because calls to their model are refused."""
    if not values.keys() >= {"budgets", "model_prices", "embedding_model"}:
        return
    prices, embedding = values["model_prices"], {values["embedding_model"]}
    priced = {*prices, *(price.upstream_model for price in prices.values())}
    models = {
        "inference": (priced, "has no price in MODEL_PRICES"),
        "embedding": (embedding, "is not EMBEDDING_MODEL"),
        None: (priced | embedding, "has no price in MODEL_PRICES, and is not EMBEDDING_MODEL"),
    }
    for number, budget in enumerate(values["budgets"], 1):
        known, problem = models[budget.kind]
        if budget.model is not None and budget.model not in known:
            yield f"BUDGETS entry {number} ({budget.name!r}): model {problem}"


def _receipts(values: Mapping[str, Any]) -> Iterator[str]:
    if values.get("receipt_calls") and values.get("receipt_days") == 0:
        yield "RECEIPT_CALLS needs RECEIPT_DAYS above 0"
    receipts_file = values.get("receipts_file")
    stores = (values.get("ledger_outbox"), values.get("ledger_url", "").removeprefix(ledger_url.SQLITE))
    if receipts_file and Path(receipts_file).absolute() in {Path(path).absolute() for path in stores if path}:
        yield "RECEIPTS_FILE must differ from LEDGER_OUTBOX and from the file of LEDGER_URL"


def doubts(settings: Settings) -> list[str]:
    """Return a warning for each valid combination that is probably a mistake."""
    found = []
    is_signed = settings.alert_webhook_key is not None or settings.alert_format != "json"
    if settings.alert_webhook_url is not None and not is_signed:
        found.append(
            "ALERT_WEBHOOK_URL is set without ALERT_WEBHOOK_KEY: its receiver cannot know who sent an alert"
        )
    if settings.receipt_calls and settings.ledger_url == ledger_url.MEMORY:
        found.append("RECEIPT_CALLS is set with LEDGER_URL=memory://: no command can read those calls")
    if settings.receipts_file and not (folder := Path(settings.receipts_file).absolute().parent).is_dir():
        found.append(f"RECEIPTS_FILE cannot be written: there is no folder {folder}")
    return found
