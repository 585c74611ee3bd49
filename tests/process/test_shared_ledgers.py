"""The first promise with several workers and several servers on one ledger, by the upstream's own books."""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from signal import Signals
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import terms
from tests.process.fake_chutes_control import directive
from tests.process.server import Proxy, wait_until
from tests.support.app import OPERATOR
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream
    from tests.process.wire import Answer

WORKERS = 4
CALLS = 400
ORPHANS = 12
AFFORDABLE = 5
HONEST = directive(gate="budget")
GREEDY = directive(gate="budget", greedy=True)
HELD = directive(gate="held")
CAP = AFFORDABLE * terms.hold(HONEST)
CAP_USD = f"{CAP // 10**9}.{CAP % 10**9:09}"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def ledger_url(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> str:
    folder: Path = tmp_path_factory.mktemp("ledger")
    return redis_server.url if request.param == "redis" else f"sqlite:///{folder}/ledger.db"


def settings_of(ledger_url: str, **settings: str) -> Any:  # noqa: ANN401 - keywords of Proxy
    return {
        "LEDGER_URL": ledger_url,
        "WORKERS": str(WORKERS),
        "MAX_COST_PER_RUN": CAP_USD,
        "MAX_CONCURRENT_CALLS_PER_RUN": str(CALLS),
        **settings,
    }


@pytest.fixture(scope="module")
def shared(fake_chutes: Upstream, ledger_url: str) -> Iterator[Proxy]:
    with Proxy(fake_chutes, **settings_of(ledger_url)) as started:
        yield started


def rush(proxies: list[Proxy], chutes: Upstream, run: str, prompt: str) -> list[Answer]:
    """400 calls that start together; the gate opens once all but five have been refused."""
    line = Barrier(CALLS)

    def call(proxy: Proxy) -> Answer:
        line.wait()
        return proxy.infer(run, prompt)

    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(call, proxy) for proxy, _ in zip(cycle(proxies), range(CALLS), strict=False)]
        chutes.wait(at_gate=AFFORDABLE)
        wait_until(lambda: refused(proxies, run) == CALLS - AFFORDABLE, "the refusals")
        chutes.release("budget")
        return [each.result() for each in calls]


def refused(proxies: list[Proxy], run: str) -> int:
    return sum(len(proxy.lines.matching(event="request", run=run, code="budget_held")) for proxy in proxies)


def assert_exactly_five_were_paid(
    answers: list[Answer], proxies: list[Proxy], chutes: Upstream, run: str
) -> None:
    good = [answer for answer in answers if answer.status == 200]
    assert len(good) == AFFORDABLE
    assert {answer.outcome for answer in answers if answer not in good} == {(429, "budget_held")}
    billed = chutes.wait(idle=1)["billed_nanousd"]
    for proxy in proxies:
        assert proxy.usage(run) == (billed, 0, CAP - billed, billed, 0, CAP, AFFORDABLE)
    assert 0 < billed <= CAP


@pytest.mark.parametrize("prompt", [HONEST, GREEDY], ids=["honest", "greedy"])
def test_of_400_calls_at_once_at_4_workers_exactly_the_5_that_the_budget_pays_for_are_made(
    shared: Proxy, chutes: Upstream, run: str, prompt: str
) -> None:
    assert_exactly_five_were_paid(rush([shared], chutes, run, prompt), [shared], chutes, run)
    by_worker = {line["pid"] for line in shared.lines.matching(event="request", run=run)}
    assert len(by_worker) == WORKERS, "all of them took part"


def test_two_servers_on_one_redis_pay_no_more_than_one(
    fake_chutes: Upstream, chutes: Upstream, redis_server: RedisServer, run: str
) -> None:
    with ExitStack() as stack:
        settings = settings_of(redis_server.url, WORKERS="2")
        servers = [stack.enter_context(Proxy(fake_chutes, **settings)) for _ in range(2)]
        assert_exactly_five_were_paid(rush(servers, chutes, run, GREEDY), servers, chutes, run)


def test_a_runs_limit_of_calls_in_flight_counts_those_of_all_workers(
    fake_chutes: Upstream, chutes: Upstream, ledger_url: str, run: str
) -> None:
    with (
        Proxy(fake_chutes, **settings_of(ledger_url, WORKERS="2", MAX_CONCURRENT_CALLS_PER_RUN="3")) as proxy,
        ThreadPoolExecutor(3) as pool,
    ):
        calls = [pool.submit(proxy.infer, run, HELD) for _ in range(3)]
        chutes.wait(at_gate=3)
        answers = [proxy.infer(run, HELD).outcome for _ in range(12)]
        chutes.release("held")
        assert answers == [(429, "too_many_in_flight")] * 12
        assert [call.result().status for call in calls] == [200] * 3


def test_every_worker_closes_a_run_that_one_was_told_to_close(
    shared: Proxy, chutes: Upstream, run: str
) -> None:
    with ThreadPoolExecutor(AFFORDABLE) as pool:
        calls = [pool.submit(shared.infer, run, HELD) for _ in range(AFFORDABLE)]
        chutes.wait(at_gate=AFFORDABLE)
        receipt = shared.ask("POST", f"/admin/runs/{run}/close", {}, OPERATOR)
        assert (receipt.status, receipt.json["closed"], receipt.json["in_flight"]) == (200, True, 0)
        assert {call.result().status for call in calls} == {403}
    assert {shared.infer(run).outcome for _ in range(12)} == {(403, "run_closed")}
    assert round(receipt.json["used_cost_usd"] * 1e9) == shared.usage(run).spent


def test_every_worker_tells_the_same_of_all_runs(shared: Proxy, run: str) -> None:
    shared.infer(run)

    def told_by_two() -> bool:
        answer = shared.ask("GET", f"/admin/runs?search={run}", None, OPERATOR)
        assert (answer.status, answer.json["total"], answer.json["runs"][0]["calls"]) == (200, 1, 1)
        tellers = shared.lines.matching(event="request", route="/admin/runs")
        return len({line["pid"] for line in tellers}) > 1

    with ThreadPoolExecutor(8) as pool:
        wait_until(lambda: any(pool.map(lambda _: told_by_two(), range(8))), "two that tell it")


def test_what_was_spent_before_a_restart_is_spent_after_it(
    fake_chutes: Upstream, chutes: Upstream, ledger_url: str, run: str
) -> None:
    with Proxy(fake_chutes, **settings_of(ledger_url, WORKERS="1")) as proxy:
        assert proxy.infer(run).status == 200
        before = proxy.usage(run)
    with Proxy(fake_chutes, **settings_of(ledger_url, WORKERS="1")) as proxy:
        assert proxy.usage(run) == before
        assert before.spent == chutes.wait(idle=1)["billed_nanousd"] > 0


def test_a_master_has_no_hold_of_the_file_of_its_workers(fake_chutes: Upstream, tmp_path: Path) -> None:
    # It forks them: they would take its locks for their own, and have none, and lose what they write.
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Proxy(fake_chutes, LEDGER_URL=url, LEDGER_OUTBOX=f"{tmp_path}/outbox.db") as proxy:
        assert open_in(proxy.workers()[0], tmp_path)
        assert not open_in(proxy.pid, tmp_path)
        proxy.signal(Signals.SIGHUP)
        proxy.lines.wait(2, event="worker ready")
        assert not open_in(proxy.pid, tmp_path)


def open_in(pid: int, folder: Path) -> set[str]:
    """The names of the folder's files that a process has open."""
    links = [entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return {link.name for link in links if link.parent == folder}


def test_a_server_that_stops_leaves_the_file_to_the_others(
    fake_chutes: Upstream, chutes: Upstream, run: str, tmp_path: Path
) -> None:
    settings = settings_of(f"sqlite:///{tmp_path}/ledger.db", WORKERS="2")
    with Proxy(fake_chutes, **settings) as staying:
        for _ in range(3):
            with Proxy(fake_chutes, **settings) as leaving:
                assert leaving.infer(run).status == 200
            assert staying.infer(run).status == 200
        billed = chutes.wait(idle=1)["billed_nanousd"]
        assert (staying.usage(run).spent, staying.usage(run).calls) == (billed, 6)


def test_a_reload_with_calls_in_flight_loses_nothing_and_refunds_nothing(
    fake_chutes: Upstream, chutes: Upstream, ledger_url: str, run: str
) -> None:
    with (
        Proxy(fake_chutes, **settings_of(ledger_url, WORKERS="2")) as proxy,
        ThreadPoolExecutor(AFFORDABLE) as pool,
    ):
        old = set(proxy.workers())
        calls = [pool.submit(proxy.infer, run, HELD) for _ in range(AFFORDABLE)]
        chutes.wait(at_gate=AFFORDABLE)
        held = proxy.usage(run).held
        proxy.signal(Signals.SIGHUP)
        proxy.lines.wait(4, event="worker ready")
        proxy.lines.wait(
            event="draining"
        )  # of one at least: the other may have had no call, and gone at once
        assert proxy.usage(run).held == held > 0
        assert proxy.infer(run).outcome == (429, "budget_held"), "the new workers know what the old ones hold"
        chutes.release("held")
        assert [call.result().status for call in calls] == [200] * AFFORDABLE
        wait_until(lambda: not old & set(proxy.workers()), "the end of the old workers")
        billed = chutes.wait(idle=1)["billed_nanousd"]
        assert (proxy.usage(run).spent, proxy.usage(run).held) == (billed, 0)


def test_the_holds_of_a_killed_worker_become_spend_and_those_of_a_live_one_do_not(
    fake_chutes: Upstream, chutes: Upstream, ledger_url: str
) -> None:
    settings = settings_of(
        ledger_url,
        WORKERS="2",
        DEADLINE_SECONDS="1",
        WRITE_TIMEOUT_SECONDS="0.1",
        SETTLE_TIMEOUT_SECONDS="0.5",
        SWEEP_INTERVAL_SECONDS="0.1",
    )
    with Proxy(fake_chutes, **settings) as proxy, ThreadPoolExecutor(ORPHANS) as pool:
        runs = [uuid.uuid4().hex for _ in range(ORPHANS)]
        prompts = [directive(gate=f"orphan-{number}") for number in range(ORPHANS)]
        calls = [pool.submit(proxy.infer, *each) for each in zip(runs, prompts, strict=True)]
        chutes.wait(at_gate=ORPHANS)
        victim = proxy.workers()[0]
        os.kill(victim, Signals.SIGKILL)
        swept = {line["run"] for line in proxy.lines.wait(1, event="overdue hold was charged")}
        ended = [call.exception() is None for call in calls]
        died = {run for run, alive in zip(runs, ended, strict=True) if not alive}
        assert died, "the killed worker had some"
        proxy.lines.wait(len(died), event="overdue hold was charged")
        swept = {line["run"] for line in proxy.lines.matching(event="overdue hold was charged")}
        assert swept == died, "of the others, none"
        for run, prompt in zip(runs, prompts, strict=True):
            books = proxy.usage(run)
            assert books.held == 0
            assert books.spent == (terms.hold(prompt) if run in died else books.spent)
            assert books.calls == 1
