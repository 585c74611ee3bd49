"""OpenTelemetry spans, sent over OTLP. The SDK is imported only if traces are configured."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import gevent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

SERVICE = "ridges-ai-proxy"
FLUSH_SECONDS = 1.0
"""Limit for sending the remaining spans when a worker stops. Less than the reserve in its grace time."""

EXPORT_SECONDS = 5.0
"""Limit for sending one batch to the collector."""


@dataclass(frozen=True, slots=True)
class SpanFacts:
    """The data of a finished span. Times are in nanoseconds since 1970."""

    name: str
    started_at_ns: int
    ended_at_ns: int
    attributes: Mapping[str, str | int | float | None]
    error: str | None
    """The error's code; None if the call succeeded."""


class Traces:
    """The exporter of spans. At most 2,048 spans wait for a batch; spans that cannot be sent are lost."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE, version("ridges-proxy"))

    def record(self, span: SpanFacts, parent: Span | None = None) -> Span:
        """Send a finished span: a server span, or with a parent a client span."""
        from opentelemetry import trace  # noqa: PLC0415 - optional

        recorded = self._tracer.start_span(
            span.name,
            context=trace.set_span_in_context(parent) if parent else None,
            kind=trace.SpanKind.CLIENT if parent else trace.SpanKind.SERVER,
            attributes={name: value for name, value in span.attributes.items() if value is not None},
            start_time=span.started_at_ns,
        )
        if span.error is not None:
            recorded.set_attribute("error.type", span.error)
            recorded.set_status(trace.StatusCode.ERROR)
        recorded.end(span.ended_at_ns)
        return recorded

    def close(self) -> None:
        """Send the remaining spans, within FLUSH_SECONDS: the SDK itself would wait for half a minute."""
        gevent.with_timeout(FLUSH_SECONDS, self._provider.shutdown, timeout_value=None)


def open_traces(endpoint: str | None) -> Traces | None:
    """Start the export to an OTLP endpoint; None without one. Call once per process, after the fork.

    The SDK reads its own variables (OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …).
    """
    if endpoint is None:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - optional
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - optional
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - optional
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - optional

    provider = TracerProvider(
        resource=Resource.create({"service.name": SERVICE, "service.version": version("ridges-proxy")}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Traces(provider)
