"""The circuit breaker: an upstream that fails and recovers, and one run whose calls all fail."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import Proxy, wait_until
from tests.support.app import ADMIN_KEY
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.wire import Answer

FAILURES = 3
MODEL = "deepseek-ai/DeepSeek-V3-0324"
FAULTS = ("exhausted", "no_instances", "close", "error_line", "html")
MODEL_OF_THREE_RUNS = "of-three-runs"
OPEN_SECONDS = "600"
"""An open circuit stays open for the rest of a test."""
HANG = directive(fault="hang")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A fake Chutes that a test can stop."""
    with Upstream() as started:
        yield started


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy with a circuit for each row: every model has its own."""
    with Proxy(
        fake_chutes,
        CIRCUIT_FAILURES=str(FAILURES),
        CIRCUIT_OPEN_SECONDS=OPEN_SECONDS,
        MODEL_PRICES=json.dumps(dict.fromkeys((MODEL, *FAULTS, MODEL_OF_THREE_RUNS), 0.27)),
    ) as started:
        yield started


def completion(proxy: Proxy, run: str = "run", prompt: str = "hi") -> Answer:
    """Ask `/v1` for a completion that is not streamed."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
    return proxy.ask("POST", "/v1/chat/completions", body, {"X-Run-Id": run})


def test_calls_are_refused_at_once_while_the_upstream_is_down(upstream: Upstream) -> None:
    with Proxy(
        upstream,
        CIRCUIT_FAILURES=str(FAILURES),
        CIRCUIT_OPEN_SECONDS=OPEN_SECONDS,
        ADMIN_API_KEY=ADMIN_KEY,
    ) as proxy:
        assert proxy.infer("run").status == 200
        spent = proxy.usage("run").spent
        upstream.stop()
        for _ in range(FAILURES):
            assert proxy.infer("run").outcome == (500, "upstream_unreachable")
        answer = proxy.infer("run")
        assert (answer.outcome, answer.headers["retry-after"]) == ((503, "upstream_down"), OPEN_SECONDS)
        assert answer.json["detail"] == "The upstream is down"
        answer = completion(proxy)
        assert (answer.status, answer.json["error"]["code"]) == (503, "upstream_down")
        assert answer.headers["retry-after"] == OPEN_SECONDS
        assert proxy.embed("run").outcome == (500, "upstream_unreachable"), "embeddings have another circuit"
        ready = proxy.ready()
        assert (ready.status, ready.json["upstream"]) == (200, {"down": [MODEL]})
        usage = proxy.usage("run")
        assert (usage.spent, usage.held, usage.calls, proxy.in_flight()) == (spent, 0, 1, 0)
        scraped = proxy.ask("GET", "/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).body
        assert b"\nridges_circuits_open 1.0\n" in scraped
        (line,) = proxy.lines.wait(event="the upstream is down: calls are refused")
        assert (line["level"], line["model"]) == ("ERROR", MODEL)


def test_calls_succeed_once_the_upstream_is_back(upstream: Upstream) -> None:
    with Proxy(upstream, CIRCUIT_FAILURES=str(FAILURES), CIRCUIT_OPEN_SECONDS="0.1") as proxy:
        upstream.stop()
        wait_until(lambda: proxy.infer("run").outcome == (503, "upstream_down"), "an open circuit")
        with Upstream("--port", str(urlsplit(upstream.url).port)):
            wait_until(lambda: proxy.infer("run").status == 200, "an answer")
            assert proxy.ready().json["upstream"] == {"down": []}
            proxy.lines.wait(event="the upstream answers again")


@each_row("fault", FAULTS)
def test_failures_of_one_run_do_not_open_the_circuit(proxy: Proxy, fault: str) -> None:
    for _ in range(4 * FAILURES):
        assert proxy.infer("bad", directive(fault=fault), model=fault).status == 500
    assert proxy.infer("good", model=fault).status == 200


def test_failures_of_three_runs_open_the_circuit(proxy: Proxy, chutes: Upstream) -> None:
    for run in ("one", "two", "three") * FAILURES:
        answer = proxy.infer(run, directive(fault="exhausted"), model=MODEL_OF_THREE_RUNS)
        assert answer.status == 500
    calls = chutes.books()["count"]
    assert proxy.infer("four", model=MODEL_OF_THREE_RUNS).outcome == (503, "upstream_down")
    assert chutes.books()["count"] == calls


def test_calls_that_reach_their_deadline_open_the_circuit(chutes: Upstream) -> None:
    """Only deadlines show a hanging upstream: the head of a whole answer comes with its end."""
    with (
        Proxy(
            chutes,
            CIRCUIT_FAILURES=str(FAILURES),
            CIRCUIT_OPEN_SECONDS=OPEN_SECONDS,
            DEADLINE_SECONDS="0.3",
            EMBEDDING_DEADLINE_SECONDS="0.3",
        ) as proxy,
        ThreadPoolExecutor(4 * FAILURES) as pool,
    ):

        def statuses(*runs: str) -> set[int]:
            calls = [
                pool.submit(call, proxy, run, HANG) for run in runs for call in (completion, Proxy.embed)
            ]
            return {call.result().status for call in calls}

        assert statuses(*("one", "two") * FAILURES) <= {500, 504}
        assert proxy.ready().json["upstream"]["down"] == []
        assert statuses(*("three",) * FAILURES) <= {500, 504}
        assert len(proxy.ready().json["upstream"]["down"]) == 2, "the model and the embedding"
        assert statuses("four") == {503}
