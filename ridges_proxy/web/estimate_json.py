"""The estimate of a call as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.errors import BudgetExhaustedError, PeriodFullError
from ridges_proxy.web.refusals import message_of, refusing_budget_json
from ridges_proxy.web.run_json import usage_json

if TYPE_CHECKING:
    from ridges_proxy.calls.call import Call
    from ridges_proxy.calls.estimate import Estimate
    from ridges_proxy.errors import ProxyError

_NO_BUDGET = dict.fromkeys(("budget", "scope", "window", "resets_at"))


def estimate_json(call: Call, estimate: Estimate) -> dict[str, Any]:
    """The estimate of a call for its caller. An estimate is no refusal, so it always names the budget."""
    refusal = estimate.refusal
    return {
        "model": call.model,
        "admitted": refusal is None,
        "code": refusal and refusal.code,
        "message": refusal and message_of(refusal),
        **_refusing_budget(refusal),
        "hold_cost_usd": usd_from_nanousd(estimate.hold_nanousd),
        "most_cost_usd": usd_from_nanousd(estimate.quote.requested_nanousd),
        "least_cost_usd": usd_from_nanousd(estimate.quote.minimum_nanousd),
        "max_tokens": estimate.max_tokens,
        "waiting_calls": estimate.waiting,
        **usage_json(estimate.run_usage),
    }


def _refusing_budget(refusal: ProxyError | None) -> dict[str, Any]:
    """The budget that would refuse the call; nulls if none would."""
    if isinstance(refusal, BudgetExhaustedError | PeriodFullError):
        return refusing_budget_json(refusal.budget)
    return dict(_NO_BUDGET)
