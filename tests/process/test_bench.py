"""The benchmarks' own parts say what is so: no figure of theirs decides a test."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bench import open_loop, paced
from bench.http_load import chat, embedding, measure
from bench.processes import Server, stub
from ridges_proxy.billing.prices import Usage
from ridges_proxy.upstream import Attempt, ChutesClient
from tests.process.examples import DOCS
from tests.process.fake_chutes_control import ROOT
from tests.support.app import settings_of
from tests.support.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

EVERYWHERE = set(range(1024))


@pytest.fixture(scope="module")
def upstream() -> Iterator[Server]:
    with stub(EVERYWHERE) as started:
        yield started


@pytest.fixture
def client(upstream: Server) -> Iterator[ChutesClient]:
    url = f"http://127.0.0.1:{upstream.port}"
    made = ChutesClient(settings_of(CHUTES_BASE_URL=f"{url}/v1", CHUTES_EMBEDDING_URL=f"{url}/embed"))
    with closing(made._adapter):
        yield made


STREAM = chat("/v1/chat/completions", "5@50", stream=True)


@pytest.mark.parametrize("events", [20, 500, "5@200"])
def test_the_stub_streams_as_chutes_does(client: ChutesClient, events: object) -> None:
    attempt = Attempt()
    text = client.text(chat("/v1/chat/completions", events, stream=True).body, attempt)
    words = int(str(events).partition("@")[0])
    assert text == "word " * words
    assert attempt.usage == Usage(12, words)


def test_the_stub_answers_whole_and_embeds(client: ChutesClient) -> None:
    attempt = Attempt()
    client.whole(chat("/v1/chat/completions", 7).body, attempt)
    assert attempt.usage == Usage(12, 7)
    assert client.embed(embedding().body, Attempt()).startswith(b"[[0.0, 0.001,")


def test_a_paced_stream_takes_as_long_as_its_events(upstream: Server) -> None:
    found = paced.run(upstream.port, STREAM.raw(), 5, 0.1)
    assert found["errors"] == 0
    assert found["seconds_p50"] >= 0.1, "five events at fifty a second"


def test_what_is_not_a_200_is_an_error() -> None:
    head = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n"
    stream = paced.Stream(None, 0.0)  # type: ignore[arg-type] # only the bytes matter
    assert (stream.feed(head[:20]), stream.feed(head[20:]), stream.feed(b"no"), stream.failed) == (
        False,
        False,
        True,
        True,
    )


def test_open_load_sends_as_many_as_are_due(upstream: Server) -> None:
    found = open_loop.run(upstream.port, chat("/v1/chat/completions", stream=True).raw(), 100.0, 0.5)
    assert (found["requests"], found["errors"]) == (50, 0)
    assert 0 < found["p50"] <= found["p99"]


def test_a_round_of_wrk_counts_what_was_answered(upstream: Server) -> None:
    if shutil.which("wrk") is None:
        missing("wrk", "wrk")
    found = measure(upstream, chat("/v1/chat/completions"), 1.0, EVERYWHERE, connections=2)
    assert found.errors == 0
    assert found.rate > 0
    assert found.cpu_microseconds > 0
    assert found.resident_kb > 1_000


@pytest.mark.parametrize("target", re.findall(r"^make ([a-z-]+)$", DOCS["BENCHMARKS.md"], re.MULTILINE))
def test_every_make_target_of_the_page_exists(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", re.findall(r"python -m (bench\.\w+)", DOCS["BENCHMARKS.md"]))
def test_every_benchmark_of_the_page_says_what_it_does(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
