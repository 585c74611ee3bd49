"""A run's books as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.pricing import usd_from_nanousd

if TYPE_CHECKING:
    from ridges_proxy.ledger import RunUsage


def usage_json(books: RunUsage) -> dict[str, Any]:
    """What a caller may know of a run."""
    return {
        "run_id": books.run_id,
        "max_cost_usd": usd_from_nanousd(books.cap_nanousd),
        "used_cost_usd": usd_from_nanousd(books.spent_nanousd),
        "held_cost_usd": usd_from_nanousd(books.held_nanousd),
        "remaining_cost_usd": usd_from_nanousd(books.remaining_nanousd),
        "inference_cost_usd": usd_from_nanousd(books.inference_nanousd),
        "embedding_cost_usd": usd_from_nanousd(books.embedding_nanousd),
        "calls": books.calls,
    }


def run_json(books: RunUsage) -> dict[str, Any]:
    """What an operator may know of a run."""
    return {
        **usage_json(books),
        "in_flight": books.in_flight,
        "idle_seconds": round(books.idle_seconds, 1),
    }
