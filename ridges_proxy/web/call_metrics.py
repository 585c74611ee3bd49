"""Metrics of a finished request and of its call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.telemetry.metrics import NONE, OK

if TYPE_CHECKING:
    from ridges_proxy.calls.call import Call
    from ridges_proxy.telemetry.metrics import Metrics
    from ridges_proxy.web.finished_request import FinishedRequest
    from ridges_proxy.web.services import Services

OTHER = "other"
"""The label of every model without a price. A caller can send any name, so the name itself is no label."""


def model_label_of(service: Services, model: str | None) -> str:
    """The model as a label: its name if the settings have it, else OTHER, or NONE without a model."""
    if model is None:
        return NONE
    known = model in service.prices.prices or model == service.settings.embedding_model
    return model if known else OTHER


def count_request(metrics: Metrics, finished: FinishedRequest, call: Call | None) -> None:
    """Count the request and, if it made a call, the call's time, tokens and cost."""
    metrics.requests.labels(finished.route or NONE, finished.model_label, finished.code or OK).inc()
    if call is None:
        return
    metrics.call_seconds.labels(finished.route, finished.model_label).observe(finished.seconds)
    if call.attempt.sent or call.attempt.earlier_seconds:
        _count_attempt(metrics, finished.model_label, call)
    elif finished.code and call.run_usage is None:
        metrics.refused_usd.labels(finished.code).inc(usd_from_nanousd(call.requested_nanousd))


def _count_attempt(metrics: Metrics, model_label: str, call: Call) -> None:
    attempt = call.attempt
    metrics.upstream_responses.labels(model_label, attempt.upstream_status or NONE).inc()
    metrics.settled_usd.labels(model_label).inc(usd_from_nanousd(call.cost_nanousd))
    if attempt.usage:
        metrics.tokens.labels(model_label, "prompt").inc(attempt.usage.prompt_tokens)
        metrics.tokens.labels(model_label, "completion").inc(attempt.usage.completion_tokens)
    if attempt.first_event_seconds is not None:
        metrics.first_event_seconds.labels(model_label).observe(attempt.first_event_seconds)
