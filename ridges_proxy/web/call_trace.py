"""A call as spans: the request, and below it what the upstream was asked for, by the GenAI conventions.

Never what was said: no message and no answer is in a span.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.telemetry.traces import SpanFacts

if TYPE_CHECKING:
    from ridges_proxy.calls.service import Call
    from ridges_proxy.config import Settings
    from ridges_proxy.telemetry.traces import Traces
    from ridges_proxy.upstream import Attempt
    from ridges_proxy.web.outcome import Outcome

NS_PER_SECOND = 1_000_000_000


def trace(traces: Traces, settings: Settings, outcome: Outcome, call: Call) -> None:
    """Send what became of a call that is over."""
    parent = traces.record(_request(outcome, call))
    if call.attempt.started_at is not None:
        traces.record(_attempt(settings, outcome, call, call.attempt.started_at), parent)


def _request(outcome: Outcome, call: Call) -> SpanFacts:
    now_ns = time.time_ns()
    attributes = {
        "http.request.method": outcome.method,
        "http.route": outcome.route,
        "http.response.status_code": outcome.status,
        "ridges.request_id": outcome.request_id,
        "ridges.run": call.run.id,
        "ridges.cost_usd": usd_from_nanousd(call.cost_nanousd),
    }
    began_at_ns = now_ns - int(outcome.seconds * NS_PER_SECOND)
    return SpanFacts(f"{outcome.method} {outcome.route}", began_at_ns, now_ns, attributes, outcome.code)


def _attempt(settings: Settings, outcome: Outcome, call: Call, started_at: float) -> SpanFacts:
    attempt = call.attempt
    embeds = call.model == settings.embedding_model
    operation = "embeddings" if embeds else "chat"
    upstream = urlsplit(settings.chutes_embedding_url if embeds else settings.chutes_base_url)
    began_at_ns = time.time_ns() - int((time.monotonic() - started_at) * NS_PER_SECOND)
    attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "chutes",
        "gen_ai.request.model": outcome.model,
        "server.address": upstream.hostname,
        "server.port": upstream.port,
        "http.response.status_code": attempt.upstream_status,
        **_amounts(attempt),
    }
    ended_at_ns = began_at_ns + int(attempt.seconds * NS_PER_SECOND)
    return SpanFacts(f"{operation} {outcome.model}", began_at_ns, ended_at_ns, attributes, outcome.code)


def _amounts(attempt: Attempt) -> dict[str, int | float | None]:
    usage = attempt.usage
    return {
        "gen_ai.request.choice.count": attempt.choices,
        "gen_ai.request.max_tokens": attempt.max_tokens,
        "gen_ai.response.time_to_first_chunk": attempt.first_event_seconds,
        "gen_ai.usage.input_tokens": usage.prompt_tokens if usage else None,
        "gen_ai.usage.output_tokens": usage.completion_tokens if usage else None,
    }
