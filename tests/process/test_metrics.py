"""`/metrics` of a server with two workers, and the folder in shared memory that the workers write to."""

from __future__ import annotations

import glob
import os
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from math import isclose
from signal import Signals
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import EMBEDDING, INFERENCE, Proxy, wait_until
from tests.support.app import ADMIN_KEY, OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = 40
MODEL = "deepseek-ai/DeepSeek-V3-0324"


Samples = dict[tuple[str, ...], float]
"""By the sample's name and the values of its labels, in the order of the labels' names."""


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Several tests use it, so they compare the counters before and after."""
    ledger = tmp_path_factory.mktemp("ledger") / "ledger.db"
    with Proxy(fake_chutes, LEDGER_URL=f"sqlite:///{ledger}", WORKERS="2") as started:
        yield started


def scrape(proxy: Proxy) -> Samples:
    answer = proxy.ask("GET", "/metrics", None, OPERATOR)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.body.decode())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def total(samples: Samples, name: str, *values: str) -> float:
    """Return the sum of the samples with this name and with all these values of labels."""
    return sum(
        value for (found, *labels), value in samples.items() if found == name and set(values) <= set(labels)
    )


def increase(before: Samples, after: Samples) -> Samples:
    """Return how much each sample has grown; 0 for a name or label that does not exist."""
    return defaultdict(float, {key: value - before.get(key, 0) for key, value in after.items()})


def folders_of(proxy: Proxy) -> list[str]:
    return glob.glob(f"/dev/shm/ridges-metrics-{proxy.pid}-*")  # noqa: PTH207 - where the server makes it


def test_the_counters_of_two_workers_add_up_to_the_calls_made(proxy: Proxy, chutes: Upstream) -> None:
    runs = [uuid.uuid4().hex for _ in range(CALLS)]
    before = scrape(proxy)
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status for answer in pool.map(proxy.infer, runs)} == {200}
        assert {answer.status for answer in pool.map(proxy.embed, runs[:10])} == {200}
        failed = list(pool.map(lambda run: proxy.infer(run, directive(fault="at_capacity")), runs[:5]))
        unknown_models = list(pool.map(lambda run: proxy.infer(run, model=run), runs[:7]))
    assert {answer.status for answer in failed} == {500}
    lines = proxy.lines.matching(event="request", route=INFERENCE)
    assert len({line["pid"] for line in lines if line["run"] in runs}) == 2
    after = scrape(proxy)
    added = increase(before, after)
    assert added["ridges_requests_total", "ok", MODEL, INFERENCE] == CALLS
    assert total(added, "ridges_requests_total", "ok", EMBEDDING) == 10
    assert added["ridges_requests_total", "upstream_busy", MODEL, INFERENCE] == 5
    assert total(added, "ridges_requests_total", INFERENCE, "other") == len(unknown_models)
    assert not [key for key in after if set(key) & set(runs)], "a caller's text is a label"
    assert added["ridges_call_seconds_count", MODEL, INFERENCE] == CALLS + 5
    assert added["ridges_first_event_seconds_count", MODEL] == CALLS
    assert total(added, "ridges_upstream_responses_total", "200") == CALLS + 10
    assert total(added, "ridges_upstream_responses_total", MODEL) == CALLS + 5
    assert total(added, "ridges_tokens_total") > 0
    spent = sum(proxy.usage(run).spent for run in runs)
    assert isclose(total(added, "ridges_settled_usd_total"), spent / 1e9, rel_tol=1e-9)
    assert added[("ridges_runs",)] == CALLS
    assert added["ridges_ledger_seconds_count", "reserve"] == CALLS + 10 + 5
    assert total(after, "ridges_ledger_errors_total") == 0
    assert len(chutes.calls()) == CALLS + 10 + 5


def test_the_gauges_add_up_all_living_workers(proxy: Proxy, chutes: Upstream) -> None:
    runs = [uuid.uuid4().hex for _ in range(12)]
    before = scrape(proxy)
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(proxy.infer, run, directive(gate="held")) for run in runs]
        chutes.wait(at_gate=12)
        wait_until(lambda: scrape(proxy)[("ridges_calls_in_flight",)] == 12, "calls of both workers")
        held = sum(proxy.usage(run).held for run in runs)
        assert isclose(scrape(proxy)[("ridges_held_usd",)], held / 1e9, rel_tol=1e-9)
        assert scrape(proxy)[("ridges_last_sweep_timestamp_seconds",)] > 1e9
        os.kill(proxy.workers()[0], Signals.SIGKILL)
        wait_until(
            lambda: scrape(proxy)[("ridges_calls_in_flight",)] < 12, "a gauge without the killed worker"
        )
        chutes.release("held")
        served = sum(call.exception() is None for call in calls)
    wait_until(lambda: scrape(proxy)[("ridges_calls_in_flight",)] == 0, "no call in flight")
    added = increase(before, scrape(proxy))
    assert total(added, "ridges_requests_total", "ok", INFERENCE) == served


def test_the_counters_survive_a_reload(proxy: Proxy, chutes: Upstream, run: str) -> None:
    wait_until(lambda: len(proxy.workers()) == 2, "both workers")
    before = scrape(proxy)
    assert proxy.infer(run).status == 200
    chutes.wait(idle=1)
    old = set(proxy.workers())
    proxy.signal(Signals.SIGHUP)
    wait_until(lambda: len(proxy.workers()) == 2 and not old & set(proxy.workers()), "the new workers")
    assert proxy.infer(run).status == 200
    added = increase(before, scrape(proxy))
    assert added["ridges_requests_total", "ok", MODEL, INFERENCE] == 2


def test_agents_cannot_read_the_metrics(proxy: Proxy) -> None:
    assert proxy.ask("GET", "/metrics").status == 401
    assert proxy.ask("GET", "/metrics", None, {"Authorization": f"Bearer {ADMIN_KEY}x"}).status == 401


def test_a_stopped_server_removes_its_folder_and_that_of_a_killed_one(
    fake_chutes: Upstream, run: str
) -> None:
    with Proxy(fake_chutes, ADMIN_API_KEY="") as killed:
        assert killed.ask("GET", "/metrics").status == 404, "there are no metrics without a key for operators"
        (folder,) = folders_of(killed)
        killed.stop(Signals.SIGKILL)
        assert folders_of(killed) == [folder]
    with Proxy(fake_chutes, graceful=True, MAX_COST_PER_RUN="0.0000001") as proxy:
        assert folders_of(killed) == []
        assert folders_of(proxy)
        assert proxy.infer(run).status == 200, "a refusal on this route has the status 200"
        assert total(scrape(proxy), "ridges_refused_usd_total", "budget_exhausted") > 0
        assert total(scrape(proxy), "ridges_upstream_responses_total") == 0
    assert not folders_of(proxy)
