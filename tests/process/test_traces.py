"""Traces as a collector receives them: OTLP over HTTP, decoded by OpenTelemetry's own classes."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    server_attributes,
)

from ridges_proxy.config import SettingsError
from tests.process.fake_chutes_control import ROOT, Upstream, directive
from tests.process.server import CANARY, INFERENCE, Proxy, clean_environment
from tests.support.app import settings_of
from tests.support.ports import free_port
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "deepseek-ai/DeepSeek-V3-0324"

CONVENTION_NAMES = {
    value
    for module in (gen_ai, error_attributes, http_attributes, server_attributes)
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, str)
}


class Collector:
    """A collector that keeps what it receives."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.services: set[str] = set()

    @contextmanager
    def serving(self) -> Iterator[str]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                collector.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
            thread.join()

    def spans(self) -> list[Span]:
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {item.key: item.value.string_value for item in resource.resource.attributes}
                self.services.add(names["service.name"])
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return found


def attributes_of(span: Span) -> dict[str, object]:
    return {item.key: getattr(item.value, str(item.value.WhichOneof("value"))) for item in span.attributes}


@pytest.fixture(scope="module")
def collected(fake_chutes: Upstream) -> tuple[Collector, list[Span]]:
    """The spans of one inference, one embedding, one failure and one refusal; sent when the server stops."""
    collector = Collector()
    with collector.serving() as url:
        with Proxy(fake_chutes, OTEL_EXPORTER_OTLP_ENDPOINT=url) as proxy:
            assert proxy.infer("traced").status == 200
            assert proxy.embed("traced").status == 200
            assert proxy.infer("failed", directive(fault="at_capacity")).status == 500
            assert proxy.infer("refused", model="no-such-model").status == 200
            assert proxy.ask("GET", "/health").status == 200
        return collector, collector.spans()


def pair(spans: list[Span], run: str, operation: str) -> tuple[dict[str, object], Span]:
    """The attributes of the run's request span, and the span of its attempt."""
    for span in spans:
        attributes = attributes_of(span)
        if attributes.get("ridges.run") == run:
            below = [child for child in spans if child.parent_span_id == span.span_id]
            if below and below[0].name.startswith(operation):
                return attributes, below[0]
    raise AssertionError([span.name for span in spans])


def test_a_call_has_a_request_span_and_an_attempt_span_below_it(
    collected: tuple[Collector, list[Span]],
) -> None:
    collector, spans = collected
    assert collector.services == {"ridges-ai-proxy"}
    request, attempt = pair(spans, "traced", "chat")
    assert request["http.route"] == INFERENCE
    assert request["http.response.status_code"] == 200
    assert float(str(request["ridges.cost_usd"])) > 0
    attributes = attributes_of(attempt)
    assert attempt.name == f"chat {MODEL}"
    assert attempt.kind == Span.SPAN_KIND_CLIENT
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.request.model"] == MODEL
    assert attributes["gen_ai.request.max_tokens"] == 1024
    assert int(str(attributes["gen_ai.usage.output_tokens"])) > 0
    assert 0 < float(str(attributes["gen_ai.response.time_to_first_chunk"])) < 30
    assert attributes["server.address"] == "127.0.0.1"
    assert attempt.status.code == Status.STATUS_CODE_UNSET
    parent = next(span for span in spans if span.span_id == attempt.parent_span_id)
    assert parent.start_time_unix_nano <= attempt.start_time_unix_nano
    assert attempt.start_time_unix_nano < attempt.end_time_unix_nano <= parent.end_time_unix_nano


def test_an_embedding_has_its_own_operation(collected: tuple[Collector, list[Span]]) -> None:
    _, attempt = pair(collected[1], "traced", "embeddings")
    assert attributes_of(attempt)["gen_ai.operation.name"] == "embeddings"


def test_a_failure_has_its_error_code(collected: tuple[Collector, list[Span]]) -> None:
    request, attempt = pair(collected[1], "failed", "chat")
    assert request["error.type"] == "upstream_busy"
    assert attributes_of(attempt)["http.response.status_code"] == 429
    assert attempt.status.code == Status.STATUS_CODE_ERROR


def test_a_refused_call_has_no_attempt(collected: tuple[Collector, list[Span]]) -> None:
    (refused,) = [span for span in collected[1] if attributes_of(span).get("ridges.run") == "refused"]
    assert attributes_of(refused)["error.type"] == "model_not_found"
    assert not [span for span in collected[1] if span.parent_span_id == refused.span_id]


def test_names_follow_the_conventions_and_no_span_contains_content(
    collected: tuple[Collector, list[Span]],
) -> None:
    names = {name for span in collected[1] for name in attributes_of(span)}
    assert {name for name in names if not name.startswith("ridges.")} <= CONVENTION_NAMES
    assert not [body for body in collected[0].bodies if CANARY.encode() in body or b"word1" in body]
    assert not [span for span in collected[1] if span.name.endswith("/health")]


def test_an_unreachable_collector_delays_nothing(fake_chutes: Upstream, run: str) -> None:
    with Proxy(fake_chutes, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}") as proxy:
        assert proxy.infer(run).status == 200
        assert proxy.stop() == 0


def test_opentelemetry_is_imported_only_with_an_endpoint() -> None:
    code = "import sys, ridges_proxy; ridges_proxy.create_app(); print('opentelemetry' in sys.modules)"
    for endpoint, loaded in (("", "False"), ("http://127.0.0.1:9", "True")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=clean_environment(None, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert done.stdout.strip() == loaded


@each_row("gone", [None, ModuleNotFoundError])
def test_an_endpoint_without_the_packages_is_refused(monkeypatch: pytest.MonkeyPatch, gone: object) -> None:
    monkeypatch.setattr("importlib.util.find_spec", Mock(side_effect=gone, return_value=None))
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT needs packages .*\[traces\]"):
        settings_of(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
