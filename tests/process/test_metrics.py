"""`/metrics` of a server with two workers: added up, it is the calls that were made."""

from __future__ import annotations

import glob
import os
import uuid
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
    from pathlib import Path

CALLS = 40
MODEL = "deepseek-ai/DeepSeek-V3-0324"


@pytest.fixture
def proxy(fake_chutes: Upstream, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(fake_chutes, LEDGER_URL=f"sqlite:///{tmp_path}/ledger.db", WORKERS="2") as started:
        yield started


def scrape(proxy: Proxy) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, in the order of their names."""
    answer = proxy.ask("GET", "/metrics", None, OPERATOR)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.body.decode())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def total(samples: dict[tuple[str, ...], float], name: str, *values: str) -> float:
    return sum(
        value for (found, *labels), value in samples.items() if found == name and set(values) <= set(labels)
    )


def test_a_busy_server_of_two_workers_adds_up_to_the_calls_that_were_made(
    proxy: Proxy, chutes: Upstream
) -> None:
    runs = [uuid.uuid4().hex for _ in range(CALLS)]
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status for answer in pool.map(proxy.infer, runs)} == {200}
        assert {answer.status for answer in pool.map(proxy.embed, runs[:10])} == {200}
        failed = list(pool.map(lambda run: proxy.infer(run, directive(fault="at_capacity")), runs[:5]))
        foreign = list(pool.map(lambda run: proxy.infer(run, model=run), runs[:7]))
    assert {answer.status for answer in failed} == {500}
    assert len({line["pid"] for line in proxy.lines.matching(event="request", route=INFERENCE)}) == 2
    samples = scrape(proxy)
    assert samples["ridges_requests_total", "ok", MODEL, INFERENCE] == CALLS
    assert total(samples, "ridges_requests_total", "ok", EMBEDDING) == 10
    assert samples["ridges_requests_total", "upstream_busy", MODEL, INFERENCE] == 5
    assert total(samples, "ridges_requests_total", INFERENCE, "other") == len(foreign), "no label of theirs"
    assert not [key for key in samples if set(key) & set(runs)]
    assert samples["ridges_call_seconds_count", MODEL, INFERENCE] == CALLS + 5
    assert samples["ridges_first_event_seconds_count", MODEL] == CALLS
    assert total(samples, "ridges_upstream_responses_total", "200") == CALLS + 10
    assert total(samples, "ridges_upstream_responses_total", MODEL) == CALLS + 5
    books = chutes.books()["calls"]
    assert total(samples, "ridges_tokens_total") > 0
    spent = sum(proxy.usage(run).spent for run in runs)
    assert isclose(total(samples, "ridges_settled_usd_total"), spent / 1e9, rel_tol=1e-9)
    assert samples[("ridges_runs",)] == CALLS
    assert samples["ridges_ledger_seconds_count", "reserve"] == CALLS + 10 + 5
    assert total(samples, "ridges_ledger_errors_total") == 0
    assert len(books) == CALLS + 10 + 5


def test_the_gauges_are_of_all_living_workers(proxy: Proxy, chutes: Upstream) -> None:
    runs = [uuid.uuid4().hex for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(proxy.infer, run, directive(gate="held")) for run in runs]
        chutes.wait(at_gate=12)
        wait_until(lambda: scrape(proxy)[("ridges_calls_in_flight",)] == 12, "calls of both workers")
        held = sum(proxy.usage(run).held for run in runs)
        assert isclose(scrape(proxy)[("ridges_held_usd",)], held / 1e9, rel_tol=1e-9)
        assert scrape(proxy)[("ridges_last_sweep_timestamp_seconds",)] > 1e9
        os.kill(proxy.workers()[0], Signals.SIGKILL)
        wait_until(lambda: scrape(proxy)[("ridges_calls_in_flight",)] < 12, "the dead one's are gone")
        chutes.release("held")
        served = sum(call.exception() is None for call in calls)
    wait_until(lambda: scrape(proxy)[("ridges_calls_in_flight",)] == 0, "none in flight")
    assert total(scrape(proxy), "ridges_requests_total", "ok", INFERENCE) == served


def test_what_was_counted_outlives_a_reload(proxy: Proxy, chutes: Upstream, run: str) -> None:
    assert proxy.infer(run).status == 200
    chutes.wait(idle=1)
    old = set(proxy.workers())
    proxy.signal(Signals.SIGHUP)
    wait_until(lambda: len(proxy.workers()) == 2 and not old & set(proxy.workers()), "the new workers")
    assert proxy.infer(run).status == 200
    assert scrape(proxy)["ridges_requests_total", "ok", MODEL, INFERENCE] == 2


def test_refused_money_is_counted(fake_chutes: Upstream, run: str) -> None:
    with Proxy(fake_chutes, MAX_COST_PER_RUN="0.0000001") as proxy:
        assert proxy.infer(run).status == 200, "as agents expect it"
        assert total(scrape(proxy), "ridges_refused_usd_total", "budget_exhausted") > 0
        assert total(scrape(proxy), "ridges_upstream_responses_total") == 0


def test_agents_cannot_read_them(proxy: Proxy) -> None:
    assert proxy.ask("GET", "/metrics").status == 401
    assert proxy.ask("GET", "/metrics", None, {"Authorization": f"Bearer {ADMIN_KEY}x"}).status == 401


def test_without_a_key_for_operators_there_are_none(fake_chutes: Upstream) -> None:
    with Proxy(fake_chutes, ADMIN_API_KEY="") as proxy:
        assert proxy.ask("GET", "/metrics").status == 404


def test_a_server_that_ends_leaves_no_folder(fake_chutes: Upstream) -> None:
    with Proxy(fake_chutes) as proxy:
        assert folders_of(proxy)
    assert not folders_of(proxy)


def folders_of(proxy: Proxy) -> list[str]:
    return glob.glob(f"/dev/shm/ridges-metrics-{proxy.pid}-*")  # noqa: PTH207 - where the server makes it


def test_a_server_that_was_killed_leaves_its_folder_to_the_next(fake_chutes: Upstream) -> None:
    with Proxy(fake_chutes) as killed:
        (left,) = folders_of(killed)
        killed.stop(Signals.SIGKILL)
        assert folders_of(killed) == [left]
    with Proxy(fake_chutes) as proxy:
        assert folders_of(killed) == []
        assert folders_of(proxy)
