"""A run's books as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import usd_from_nanousd

if TYPE_CHECKING:
    from ridges_proxy.auth.run_tokens import RunToken
    from ridges_proxy.calls.estimate import Estimate
    from ridges_proxy.calls.service import Call
    from ridges_proxy.ledger import Receipt, RunUsage


def exact_usd(amount_nanousd: int) -> str:
    """An amount to the nano-USD, as headers and streams tell it."""
    return f"{usd_from_nanousd(amount_nanousd):.9f}"


def usage_json(books: RunUsage) -> dict[str, Any]:
    """What a caller may know of a run."""
    return {
        "run_id": books.run_id,
        "max_cost_usd": usd_from_nanousd(books.budget_nanousd),
        "used_cost_usd": usd_from_nanousd(books.spent_nanousd),
        "held_cost_usd": usd_from_nanousd(books.held_nanousd),
        "remaining_cost_usd": usd_from_nanousd(books.remaining_nanousd),
        "inference_cost_usd": usd_from_nanousd(books.inference_nanousd),
        "embedding_cost_usd": usd_from_nanousd(books.embedding_nanousd),
        "calls": books.calls,
    }


def estimate_json(call: Call, estimate: Estimate) -> dict[str, Any]:
    """What a caller may know of a call before it is made."""
    refusal = estimate.refusal
    return {
        "model": call.model,
        "admitted": refusal is None,
        "code": refusal and refusal.code,
        "message": refusal and refusal.message,
        "hold_cost_usd": usd_from_nanousd(estimate.hold_nanousd),
        "most_cost_usd": usd_from_nanousd(estimate.quote.requested_nanousd),
        "least_cost_usd": usd_from_nanousd(estimate.quote.minimum_nanousd),
        "max_tokens": estimate.max_tokens,
        **usage_json(estimate.books),
    }


def token_json(text: str, token: RunToken) -> dict[str, Any]:
    """A token and what it allows; what is null is as without one."""
    budget = token.budget_nanousd
    return {
        "run_id": token.run_id,
        "token": text,
        "expires_at": datetime.fromtimestamp(token.expires_at, UTC).isoformat(),
        "budget_usd": None if budget is None else usd_from_nanousd(budget),
        "models": None if token.models is None else sorted(token.models),
        "calls_per_minute": token.calls_per_minute,
    }


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """What is left of a forgotten run."""
    run = receipt.run
    return {
        "run_id": run.run_id,
        "forgotten_at": _moment(receipt.forgotten_at),
        "last_active_at": _moment(receipt.forgotten_at - run.idle_seconds),
        "used_cost_usd": usd_from_nanousd(run.spent_nanousd),
        "inference_cost_usd": usd_from_nanousd(run.inference_nanousd),
        "embedding_cost_usd": usd_from_nanousd(run.embedding_nanousd),
        "max_cost_usd": usd_from_nanousd(run.budget_nanousd),
        "calls": run.calls,
        "closed": run.closed,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def run_json(books: RunUsage) -> dict[str, Any]:
    """What an operator may know of a run."""
    return {
        **usage_json(books),
        "in_flight": books.in_flight,
        "idle_seconds": round(books.idle_seconds, 1),
        "closed": books.closed,
    }
