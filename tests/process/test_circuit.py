"""An upstream that goes away and comes back, and one run that only ever makes it fail."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import Proxy, wait_until
from tests.support.app import ADMIN_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.process.wire import Answer

FAILURES = 3
MODEL = "deepseek-ai/DeepSeek-V3-0324"
NAMED = {"run_id": "run", "model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as started:
        yield started


def shared_proxy(upstream: Upstream, deadline_seconds: str = "30") -> Proxy:
    """A proxy whose circuits, once open, are so for the rest of the test."""
    return Proxy(
        upstream,
        CIRCUIT_FAILURES=str(FAILURES),
        CIRCUIT_OPEN_SECONDS="600",
        ADMIN_API_KEY=ADMIN_KEY,
        DEADLINE_SECONDS=deadline_seconds,
        EMBEDDING_DEADLINE_SECONDS=deadline_seconds,
    )


def completion(proxy: Proxy, run: str = "run") -> Answer:
    """A whole answer."""
    asked = {name: value for name, value in NAMED.items() if name != "run_id"}
    return proxy.ask("POST", "/v1/chat/completions", asked, {"X-Run-Id": run})


def test_callers_are_told_at_once_while_it_is_away(upstream: Upstream) -> None:
    with shared_proxy(upstream) as proxy:
        assert proxy.infer("run").status == 200
        spent = proxy.usage("run").spent
        upstream.stop()
        for _ in range(FAILURES):
            assert proxy.infer("run").outcome == (500, "upstream_unreachable")
        answer = proxy.infer("run")
        assert (answer.outcome, answer.headers["retry-after"]) == ((503, "upstream_down"), "600")
        assert answer.json["detail"] == "The upstream is down"
        answer = completion(proxy)
        assert (answer.status, answer.json["error"]["code"]) == (503, "upstream_down")
        assert answer.headers["retry-after"] == "600"
        assert proxy.embed("run").outcome == (500, "upstream_unreachable"), "a circuit of its own"
        ready = proxy.ready()
        assert (ready.status, ready.json["upstream"]) == (200, {"down": [MODEL]})
        assert (proxy.usage("run").spent, proxy.usage("run").held) == (spent, 0)
        scraped = proxy.ask("GET", "/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).body
        assert b"\nridges_circuits_open 1.0\n" in scraped
        (line,) = proxy.lines.wait(event="the upstream is down: calls are refused")
        assert (line["level"], line["model"]) == ("ERROR", MODEL)


def test_it_is_found_when_it_comes_back(upstream: Upstream) -> None:
    with Proxy(upstream, CIRCUIT_FAILURES=str(FAILURES), CIRCUIT_OPEN_SECONDS="0.1") as proxy:
        upstream.stop()
        wait_until(lambda: proxy.infer("run").outcome == (503, "upstream_down"), "an open circuit")
        with Upstream("--port", str(urlsplit(upstream.url).port)):
            wait_until(lambda: proxy.infer("run").status == 200, "an answer")
            assert proxy.ready().json["upstream"] == {"down": []}
            proxy.lines.wait(event="the upstream answers again")


@pytest.mark.parametrize("fault", ["exhausted", "no_instances", "close", "error_line", "html"])
def test_no_single_run_shuts_the_others_out(upstream: Upstream, fault: str) -> None:
    with shared_proxy(upstream) as proxy:
        for _ in range(4 * FAILURES):
            assert proxy.infer("bad", directive(fault=fault)).status == 500
        assert proxy.infer("good").status == 200


def test_failures_of_three_runs_are_the_upstreams(upstream: Upstream) -> None:
    with shared_proxy(upstream) as proxy:
        for run in ("one", "two", "three") * FAILURES:
            assert proxy.infer(run, directive(fault="exhausted")).status == 500
        calls = upstream.books()["count"]
        assert proxy.infer("four").outcome == (503, "upstream_down")
        assert upstream.books()["count"] == calls


@pytest.mark.parametrize("call", [completion, Proxy.embed])
def test_an_upstream_that_hangs_is_down_though_nothing_but_deadlines_say_so(
    upstream: Upstream, call: Callable[[Proxy, str], Answer]
) -> None:
    """A whole answer's status comes at its end, so no silence of it is too long; an embedding's may be."""
    with shared_proxy(upstream, "0.3") as proxy:
        upstream.default(fault="hang")
        for run in ("one", "two") * FAILURES:
            assert call(proxy, run).status in {500, 504}
        assert down(proxy) == []
        for _ in range(FAILURES):
            assert call(proxy, "three").status in {500, 504}
        assert len(down(proxy)) == 1
        assert call(proxy, "four").status == 503


def down(proxy: Proxy) -> list[str]:
    models: list[str] = proxy.ready().json["upstream"]["down"]
    return models
