"""Trace spans of a call: one for the request, and below it one for the upstream request.

The attributes follow OpenTelemetry's GenAI conventions. No span holds a message or an answer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.telemetry.traces import SpanFacts

if TYPE_CHECKING:
    from ridges_proxy.calls.call import Call
    from ridges_proxy.config import Settings
    from ridges_proxy.telemetry.traces import Traces
    from ridges_proxy.upstream import Attempt
    from ridges_proxy.web.finished_request import FinishedRequest

NS_PER_SECOND = 1_000_000_000


def record_spans(traces: Traces, settings: Settings, finished: FinishedRequest, call: Call) -> None:
    """Record the spans of a finished call."""
    parent = traces.record(_request_span(finished, call))
    if call.attempt.started_at is not None:
        traces.record(_upstream_span(settings, finished, call, call.attempt.started_at), parent)


def _request_span(finished: FinishedRequest, call: Call) -> SpanFacts:
    now_ns = time.time_ns()
    attributes = {
        "http.request.method": finished.method,
        "http.route": finished.route,
        "http.response.status_code": finished.status,
        "ridges.request_id": finished.request_id,
        "ridges.run": call.run.id,
        "ridges.cost_usd": usd_from_nanousd(call.cost_nanousd),
    }
    began_at_ns = now_ns - int(finished.seconds * NS_PER_SECOND)
    return SpanFacts(f"{finished.method} {finished.route}", began_at_ns, now_ns, attributes, finished.code)


def _upstream_span(settings: Settings, finished: FinishedRequest, call: Call, started_at: float) -> SpanFacts:
    attempt = call.attempt
    is_embedding = call.model == settings.embedding_model
    operation = "embeddings" if is_embedding else "chat"
    upstream = urlsplit(settings.chutes_embedding_url if is_embedding else settings.chutes_base_url)
    began_at_ns = time.time_ns() - int((time.monotonic() - started_at) * NS_PER_SECOND)
    attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "chutes",
        "gen_ai.request.model": finished.model_label,
        "server.address": upstream.hostname,
        "server.port": upstream.port,
        "http.response.status_code": attempt.upstream_status,
        **_token_attributes(attempt),
    }
    ended_at_ns = began_at_ns + int(attempt.seconds * NS_PER_SECOND)
    name = f"{operation} {finished.model_label}"
    return SpanFacts(name, began_at_ns, ended_at_ns, attributes, finished.code)


def _token_attributes(attempt: Attempt) -> dict[str, int | float | None]:
    usage = attempt.usage
    return {
        "gen_ai.request.choice.count": attempt.choices,
        "gen_ai.request.max_tokens": attempt.max_tokens,
        "gen_ai.response.time_to_first_chunk": attempt.first_event_seconds,
        "gen_ai.usage.input_tokens": usage.prompt_tokens if usage else None,
        "gen_ai.usage.output_tokens": usage.completion_tokens if usage else None,
    }
