"""The parts of the benchmarks. No test depends on a measured figure."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import orjson
import pytest

from bench import closed_loop, open_loop, paced
from bench.body_shapes import BODY_BYTES, SHAPES
from bench.http_load import measure
from bench.http_request import COMPLETIONS_PATH, chat, embedding
from bench.pending_response import PendingResponse
from bench.servers import Server, stub
from ridges_proxy.billing.prices import Usage
from ridges_proxy.runtime.json_structure import MAX_MARKS, marks
from ridges_proxy.upstream import Attempt, ChutesClient
from tests.process.examples import DOCS
from tests.process.fake_chutes_control import ROOT
from tests.support.app import settings_of
from tests.support.missing import missing
from tests.support.table import check_rows, each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL_CORES = set(range(1024))


@pytest.fixture(scope="module")
def upstream() -> Iterator[Server]:
    with stub(ALL_CORES) as server:
        yield server


@pytest.fixture
def client(upstream: Server) -> Iterator[ChutesClient]:
    settings = settings_of(CHUTES_BASE_URL=f"{upstream.url}/v1", CHUTES_EMBEDDING_URL=f"{upstream.url}/embed")
    client = ChutesClient(settings)
    with closing(client._adapter):
        yield client


STREAM = chat(COMPLETIONS_PATH, "5@50", stream=True)


@each_row("events", [20, 500, "5@200"])
def test_the_stub_streams_text_and_usage_as_chutes_does(client: ChutesClient, events: object) -> None:
    attempt = Attempt()
    text = client.text(chat(COMPLETIONS_PATH, events, stream=True).body, attempt)
    words = int(str(events).partition("@")[0])
    assert text == "word " * words
    assert attempt.usage == Usage(12, words)


def test_the_stub_answers_completions_and_embeddings(client: ChutesClient) -> None:
    attempt = Attempt()
    client.record_json(client.complete_json(chat(COMPLETIONS_PATH, 7).body, attempt), attempt)
    assert attempt.usage == Usage(12, 7)
    assert client.embed([embedding().body], Attempt()).content.startswith(b"[[0.0, 0.001,")


def test_a_paced_stream_takes_as_long_as_its_events(upstream: Server) -> None:
    result = paced.run(upstream.port, STREAM.to_bytes(), 5, 0.1)
    assert result["errors"] == 0
    assert result["seconds_p50"] >= 0.1, "five events at fifty a second"


def test_a_response_with_another_status_than_200_is_an_error() -> None:
    head = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n"
    response = PendingResponse(None, 0.0)  # type: ignore[arg-type] # only the bytes matter
    completed = [response.feed(data) for data in (head[:20], head[20:], b"no")]
    assert (completed, response.failed) == ([False, False, True], True)


def test_open_load_sends_as_many_requests_as_are_due(upstream: Server) -> None:
    request = chat(COMPLETIONS_PATH, stream=True)
    result = open_loop.run(upstream.port, request.to_bytes(), 100.0, 0.5)
    assert (result["requests"], result["errors"]) == (50, 0)
    assert 0 < result["p50"] <= result["p99"]


def test_a_round_of_wrk_counts_the_answered_requests(upstream: Server) -> None:
    if shutil.which("wrk") is None:
        missing("wrk", "wrk")
    result = measure(upstream, chat(COMPLETIONS_PATH), 1.0, ALL_CORES, connections=2)
    assert result.errors == 0
    assert result.rate > 0
    assert result.cpu_microseconds > 0
    assert result.resident_kb > 1_000


def test_every_make_target_of_the_page_exists() -> None:
    targets = re.findall(r"^make ([a-z-]+)(?: |$)", DOCS["reference/benchmarks.md"], re.MULTILINE)
    assert targets
    done = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_benchmark_of_the_page_prints_its_help() -> None:
    def check(module: str) -> None:
        command = [sys.executable, "-m", module, "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "usage:" in done.stdout

    check_rows(sorted(set(re.findall(r"python -m (bench\.\w+)", DOCS["reference/benchmarks.md"]))), check)


def test_closed_load_counts_the_responses_by_status(upstream: Server) -> None:
    whole, streamed = chat(COMPLETIONS_PATH), chat(COMPLETIONS_PATH, stream=True)
    for request in (whole, streamed):
        statuses = closed_loop.run(upstream.port, request.to_bytes(), 2, 0.2)
        assert statuses["200"] > 2
        assert not statuses - Counter({"200": statuses["200"], "no answer": 2})


def test_a_shape_has_as_many_items_as_fit_or_as_are_accepted() -> None:
    def check(name: str) -> None:
        shape = SHAPES[name]
        assert 0.8 * BODY_BYTES <= len(shape.largest(BODY_BYTES)) <= BODY_BYTES
        accepted = shape.largest_accepted(BODY_BYTES)
        assert marks(accepted) <= MAX_MARKS
        assert is_invalid(shape.largest(1_000)) == (name == "invalid at its end")

    check_rows(SHAPES, check)


def is_invalid(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return True
    return False
