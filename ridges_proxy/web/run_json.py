"""Usage, run tokens, receipts and sessions as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.ledger.outcome import ended_by
from ridges_proxy.runtime.iso_time import iso_time, time_or_null

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ridges_proxy.auth.token_claims import RunToken
    from ridges_proxy.ledger import LevelUsage, ModelCost, Receipt, RunUsage, Session


def exact_usd(amount_nanousd: int) -> str:
    """An amount with nine decimals, to the nano-USD, for headers and stream comments."""
    return f"{usd_from_nanousd(amount_nanousd):.9f}"


def usage_json(usage: RunUsage) -> dict[str, Any]:
    """A run's usage for its caller."""
    return {
        "run_id": usage.run_id,
        "max_cost_usd": usd_from_nanousd(usage.budget_nanousd),
        "used_cost_usd": usd_from_nanousd(usage.spent_nanousd),
        "held_cost_usd": usd_from_nanousd(usage.held_nanousd),
        "remaining_cost_usd": usd_from_nanousd(usage.remaining_nanousd),
        "inference_cost_usd": usd_from_nanousd(usage.inference_nanousd),
        "embedding_cost_usd": usd_from_nanousd(usage.embedding_nanousd),
        "calls": usage.calls,
        "budgets": _levels_json(usage),
    }


def own_usage_json(usage: RunUsage) -> dict[str, Any]:
    """The same with the run's tokens, and its costs by model and kind."""
    return {**usage_json(usage), **_costs_json(usage.detail.costs if usage.detail else ())}


def level_json(usage: LevelUsage) -> dict[str, Any]:
    """The usage of a budget above the runs, for one scope in one period."""
    level = usage.level
    return {
        "budget": level.budget,
        "scope": level.scope,
        "window": level.window,
        "period": level.period,
        "resets_at": time_or_null(level.resets_at),
        "max_cost_usd": usd_from_nanousd(usage.amount_nanousd),
        "used_cost_usd": usd_from_nanousd(usage.spent_nanousd),
        "held_cost_usd": usd_from_nanousd(usage.held_nanousd),
        "remaining_cost_usd": usd_from_nanousd(usage.remaining_nanousd),
        "calls": usage.calls,
    }


def _levels_json(usage: RunUsage) -> list[dict[str, Any]]:
    return [level_json(level) for level in usage.levels]


def evaluation_usage_json(usage: RunUsage) -> dict[str, Any]:
    """A run's usage in the form of the platform's gateway."""
    return {
        "used_cost_usd": usd_from_nanousd(usage.spent_nanousd),
        "remaining_cost_usd": usd_from_nanousd(usage.remaining_nanousd),
        "max_cost_usd": usd_from_nanousd(usage.budget_nanousd),
        "budgets": _levels_json(usage),
    }


def total_usage_json(usage: RunUsage) -> dict[str, Any]:
    """A run's usage in the form of the platform's sandbox proxy."""
    costs = usage.detail.costs if usage.detail else ()
    return {
        "evaluation_run_id": usage.run_id,
        "total_cost_usd": usd_from_nanousd(usage.spent_nanousd),
        "budget_remaining_usd": usd_from_nanousd(usage.remaining_nanousd),
        "requests": usage.calls,
        "prompt_tokens": sum(cost.prompt_tokens for cost in costs),
        "completion_tokens": sum(cost.completion_tokens for cost in costs),
        "models": sorted({cost.model for cost in costs if cost.model}),
        "budgets": _levels_json(usage),
    }


def token_json(text: str, token: RunToken, unpriced_models: list[str]) -> dict[str, Any]:
    """A run token, its limits, and its models without a price. Null: the settings' limit applies."""
    return {
        "run_id": token.run_id,
        "token": text,
        "expires_at": datetime.fromtimestamp(token.expires_at, UTC).isoformat(),
        **limits_json(token),
        "unpriced_models": unpriced_models,
    }


def limits_json(token: RunToken) -> dict[str, Any]:
    """The limits of a run token, without the token itself. Null: the settings' limit applies."""
    budget = token.budget_nanousd
    return {
        "budget_usd": None if budget is None else usd_from_nanousd(budget),
        "models": None if token.models is None else sorted(token.models),
        "calls_per_minute": token.calls_per_minute,
        "groups": list(token.groups),
        "reserve_final_usd": usd_from_nanousd(token.reserve_final_nanousd),
    }


def session_json(session: Session) -> dict[str, Any]:
    """A session of the dashboard."""
    return {
        "id": session.id,
        "address": session.address,
        "signed_in_at": iso_time(session.signed_in_at),
        "expires_at": iso_time(session.expires_at),
    }


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """The receipt of a forgotten run."""
    run = receipt.run
    return {
        "run_id": run.run_id,
        "forgotten_at": iso_time(receipt.forgotten_at),
        "last_active_at": iso_time(receipt.forgotten_at - run.idle_seconds),
        "used_cost_usd": usd_from_nanousd(run.spent_nanousd),
        "inference_cost_usd": usd_from_nanousd(run.inference_nanousd),
        "embedding_cost_usd": usd_from_nanousd(run.embedding_nanousd),
        "max_cost_usd": usd_from_nanousd(run.budget_nanousd),
        "calls": run.calls,
        "closed": run.closed,
        "finished": run.finished,
        **_outcome_json(run, forgotten=True),
    }


def run_json(usage: RunUsage) -> dict[str, Any]:
    """A run's usage for an operator: with its calls in flight, idle time, state and outcome."""
    return {
        **usage_json(usage),
        "in_flight": usage.in_flight,
        "idle_seconds": round(usage.idle_seconds, 1),
        "closed": usage.closed,
        "finished": usage.finished,
        **_outcome_json(usage, forgotten=False),
    }


def _outcome_json(usage: RunUsage, *, forgotten: bool) -> dict[str, Any]:
    """The activity of a run, and why it has ended. Without its detail, times and tokens are null."""
    detail = usage.detail
    unknown: dict[str, Any] = {"prompt_tokens": None, "completion_tokens": None, "costs": []}
    return {
        "groups": list(usage.groups),
        "ended_by": ended_by(usage, forgotten=forgotten),
        "first_call_at": detail and time_or_null(detail.first_call_at),
        "last_call_at": detail and time_or_null(detail.last_call_at),
        "refused": detail.refused if detail else {},
        **(_costs_json(detail.costs) if detail else unknown),
    }


def _costs_json(costs: Sequence[ModelCost]) -> dict[str, Any]:
    """The tokens of all calls, and what they cost by model and kind."""
    return {
        "prompt_tokens": sum(cost.prompt_tokens for cost in costs),
        "completion_tokens": sum(cost.completion_tokens for cost in costs),
        "costs": [_cost_json(cost) for cost in costs],
    }


def _cost_json(cost: ModelCost) -> dict[str, Any]:
    return {
        "model": cost.model,
        "kind": cost.kind,
        "calls": cost.calls,
        "prompt_tokens": cost.prompt_tokens,
        "completion_tokens": cost.completion_tokens,
        "cost_usd": usd_from_nanousd(cost.cost_nanousd),
    }
