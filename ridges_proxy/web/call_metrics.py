"""What a request adds to the metrics, once it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.telemetry.metrics import NONE, OK

if TYPE_CHECKING:
    from ridges_proxy.calls.service import Call
    from ridges_proxy.telemetry.metrics import Metrics
    from ridges_proxy.web.outcome import Outcome
    from ridges_proxy.web.services import Services

OTHER = "other"
"""Any model that has no price: its name is whatever somebody sent."""


def label_of(here: Services, model: str | None) -> str:
    """The model as a label: only those that the settings name."""
    if model is None:
        return NONE
    known = model in here.prices.prices or model == here.settings.embedding_model
    return model if known else OTHER


def count(metrics: Metrics, outcome: Outcome, call: Call | None) -> None:
    """Count the request by its outcome, and what its call did."""
    metrics.requests.labels(outcome.route or NONE, outcome.model, outcome.code or OK).inc()
    if call is None:
        return
    metrics.call_seconds.labels(outcome.route, outcome.model).observe(outcome.seconds)
    if call.attempt.sent:
        _count_attempt(metrics, outcome.model, call)
    elif outcome.code and call.books is None:
        metrics.refused_usd.labels(outcome.code).inc(usd_from_nanousd(call.requested_nanousd))


def _count_attempt(metrics: Metrics, model: str, call: Call) -> None:
    attempt = call.attempt
    metrics.upstream_responses.labels(model, attempt.upstream_status or NONE).inc()
    metrics.settled_usd.labels(model).inc(usd_from_nanousd(call.cost_nanousd))
    if attempt.usage:
        metrics.tokens.labels(model, "prompt").inc(attempt.usage.prompt_tokens)
        metrics.tokens.labels(model, "completion").inc(attempt.usage.completion_tokens)
    if attempt.first_event_seconds is not None:
        metrics.first_event_seconds.labels(model).observe(attempt.first_event_seconds)
