"""Budgets on a ledger that several workers and servers share, compared with the upstream's bills."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path
from signal import Signals
from threading import Barrier
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.process import expected_holds
from tests.process.event_stream import CHAT
from tests.process.fake_chutes_control import directive
from tests.process.server import Proxy, chat, wait_until
from tests.support.app import OPERATOR
from tests.support.redis_server import RedisServer
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream
    from tests.process.server import Usage
    from tests.process.wire import Answer

CALLS = 400
ORPHANS = 12
"""Calls in flight when one of two workers is killed."""

IN_FLIGHT_LIMIT = 6
AFFORDABLE = 5
HONEST = directive(gate="budget")
GREEDY = directive(gate="budget", greedy=True)
HELD = directive(gate="held")
BUDGET_NANOUSD = AFFORDABLE * expected_holds.hold(HONEST)
BUDGET_USD = f"{BUDGET_NANOUSD // 10**9}.{BUDGET_NANOUSD % 10**9:09}"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def ledger(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def folder(ledger: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(ledger)


@pytest.fixture(scope="module")
def settings(ledger: str, folder: Path, redis_server: RedisServer) -> dict[str, Any]:
    """The settings of all servers on a ledger."""
    url = redis_server.url if ledger == "redis" else f"sqlite:///{folder}/ledger.db"
    return {"LEDGER_URL": url, "MAX_COST_PER_RUN": BUDGET_USD, "HOLD_WAIT_SECONDS": "0"}


@pytest.fixture(scope="module")
def servers(fake_chutes: Upstream, ledger: str, settings: dict[str, Any]) -> Iterator[list[Proxy]]:
    """Four workers on one ledger: of one server on SQLite, of two servers on Redis."""
    count = 2 if ledger == "redis" else 1
    more = {"WORKERS": str(4 // count), "MAX_CONCURRENT_CALLS_PER_RUN": str(CALLS)}
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        starts = [
            pool.submit(stack.enter_context, Proxy(fake_chutes, **settings | more)) for _ in range(count)
        ]
        yield [start.result() for start in starts]


@pytest.fixture(scope="module")
def outbox_settings(
    ledger: str, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The settings of servers with an outbox. Their SQLite file is opened by no other server."""
    folder = tmp_path_factory.mktemp("outbox")
    url = {"LEDGER_URL": f"sqlite:///{folder}/ledger.db"} if ledger == "sqlite" else {}
    return settings | url | {"LEDGER_OUTBOX": f"{folder}/outbox.db", "WORKERS": "2"}


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream, outbox_settings: dict[str, Any]) -> Iterator[Proxy]:
    """One server with two workers."""
    limit = {"MAX_CONCURRENT_CALLS_PER_RUN": str(IN_FLIGHT_LIMIT)}
    with Proxy(fake_chutes, **outbox_settings | limit) as started:
        yield started


def start_together(proxies: list[Proxy], chutes: Upstream, run: str, prompt: str) -> list[Answer]:
    """Make 400 calls at the same moment. The gate opens once all but five have been refused."""
    barrier = Barrier(CALLS)

    def call(proxy: Proxy) -> Answer:
        barrier.wait()
        return proxy.infer(run, prompt)

    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(call, proxy) for proxy, _ in zip(cycle(proxies), range(CALLS), strict=False)]
        chutes.wait(at_gate=AFFORDABLE)
        wait_until(lambda: refusals(proxies, run) == CALLS - AFFORDABLE, "the refusals")
        chutes.release("budget")
        return [each.result() for each in calls]


def refusals(proxies: list[Proxy], run: str) -> int:
    return sum(len(proxy.lines.matching(event="request", run=run, code="run_busy")) for proxy in proxies)


@each_row("prompt", [HONEST, GREEDY])
def test_four_workers_admit_exactly_the_5_of_400_calls_that_the_budget_pays_for(
    servers: list[Proxy], fake_chutes: Upstream, prompt: str
) -> None:
    fake_chutes.reset()
    run = uuid4().hex

    answers = start_together(servers, fake_chutes, run, prompt)

    succeeded = [answer for answer in answers if answer.status == 200]
    assert len(succeeded) == AFFORDABLE
    assert {answer.outcome for answer in answers if answer not in succeeded} == {(429, "run_busy")}
    billed = fake_chutes.wait(idle=1)["billed_nanousd"]
    for server in servers:
        assert server.usage(run) == (
            billed,
            0,
            BUDGET_NANOUSD - billed,
            billed,
            0,
            BUDGET_NANOUSD,
            AFFORDABLE,
        )
    assert 0 < billed <= BUDGET_NANOUSD
    lines = [line for server in servers for line in server.lines.matching(event="request", run=run)]
    assert len({line["pid"] for line in lines}) == 4, "every worker had calls"


def test_a_run_that_one_worker_closes_is_closed_in_every_worker(
    servers: list[Proxy], chutes: Upstream, run: str
) -> None:
    server_of_call = cycle(servers)
    with ThreadPoolExecutor(AFFORDABLE) as pool:
        calls = [pool.submit(next(server_of_call).infer, run, HELD) for _ in range(AFFORDABLE)]
        chutes.wait(at_gate=AFFORDABLE)
        receipt = servers[0].ask("POST", f"/admin/runs/{run}/close", {}, OPERATOR)
        assert (receipt.status, receipt.json["closed"], receipt.json["in_flight"]) == (200, True, 0)
        assert {call.result().status for call in calls} == {403}
    assert {next(server_of_call).infer(run).outcome for _ in range(12)} == {(403, "run_closed")}
    assert {round(receipt.json["used_cost_usd"] * 1e9)} == {server.usage(run).spent for server in servers}


def test_every_worker_lists_the_same_runs(servers: list[Proxy], run: str) -> None:
    servers[0].infer(run)
    server_of_call = cycle(servers)

    def listed_by_two_workers(server: Proxy) -> bool:
        answer = server.ask("GET", f"/admin/runs?search={run}", None, OPERATOR)
        assert (answer.status, answer.json["total"], answer.json["runs"][0]["calls"]) == (200, 1, 1)
        lines = [
            line for each in servers for line in each.lines.matching(event="request", route="/admin/runs")
        ]
        return len({line["pid"] for line in lines}) > 1

    with ThreadPoolExecutor(8) as pool:
        wait_until(
            lambda: any(pool.map(listed_by_two_workers, [next(server_of_call) for _ in range(8)])),
            "answers from two workers",
        )


@pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)  # a server has only this file open itself
def test_a_stopping_server_leaves_the_ledger_to_the_others(
    servers: list[Proxy], chutes: Upstream, run: str, settings: dict[str, Any]
) -> None:
    (staying,) = servers
    for _ in range(2):
        with Proxy(chutes, **settings) as leaving:
            assert leaving.infer(run).status == 200
        assert staying.infer(run).status == 200
    billed = chutes.wait(idle=1)["billed_nanousd"]
    assert (staying.usage(run).spent, staying.usage(run).calls) == (billed, 4)


def test_the_limit_of_calls_in_flight_counts_the_calls_of_all_workers(
    proxy: Proxy, chutes: Upstream, run: str
) -> None:
    body = chat(run, HELD, max_tokens=16)  # holds so small that the budget pays for more than the limit
    with ThreadPoolExecutor(IN_FLIGHT_LIMIT) as pool:
        calls = [pool.submit(proxy.ask, "POST", CHAT, body) for _ in range(IN_FLIGHT_LIMIT)]
        chutes.wait(at_gate=IN_FLIGHT_LIMIT)
        outcomes = [proxy.infer(run, HELD).outcome for _ in range(12)]
        chutes.release("held")
        assert outcomes == [(429, "too_many_in_flight")] * 12
        assert [call.result().status for call in calls] == [200] * IN_FLIGHT_LIMIT


def open_files(pid: int, folder: Path) -> set[str]:
    """The names of the folder's files that a process has open."""
    names = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the process has closed it since
            link = entry.readlink()
            if link.parent == folder:
                names.add(link.name)
    return names


def test_a_reload_with_calls_in_flight_keeps_all_holds_and_charges_all_calls(
    proxy: Proxy, chutes: Upstream, outbox_settings: dict[str, Any], run: str
) -> None:
    folder = Path(outbox_settings["LEDGER_OUTBOX"]).parent
    # Children of a master with the file open would inherit its locks, and could lose what they write.
    assert open_files(proxy.workers()[0], folder)
    assert not open_files(proxy.pid, folder)
    with ThreadPoolExecutor(AFFORDABLE) as pool:
        old = set(proxy.workers())
        calls = [pool.submit(proxy.infer, run, HELD) for _ in range(AFFORDABLE)]
        chutes.wait(at_gate=AFFORDABLE)
        held = proxy.usage(run).held
        proxy.signal(Signals.SIGHUP)
        proxy.lines.wait(4, event="worker ready")
        proxy.lines.wait(event="draining")  # of at least one worker: a worker without calls stops at once
        assert proxy.usage(run).held == held > 0
        assert proxy.infer(run).outcome == (429, "run_busy"), "new workers count the holds of old ones"
        chutes.release("held")
        assert [call.result().status for call in calls] == [200] * AFFORDABLE
        wait_until(lambda: not old & set(proxy.workers()), "the end of the old workers")
    assert not open_files(proxy.pid, folder)
    billed = chutes.wait(idle=1)["billed_nanousd"]
    assert (proxy.usage(run).spent, proxy.usage(run).held) == (billed, 0)


@pytest.fixture(scope="module")
def charged_run(proxy: Proxy, fake_chutes: Upstream) -> tuple[str, Usage]:
    """A run with a call on a server that has then stopped, and its usage before the stop."""
    fake_chutes.reset()
    run = uuid4().hex
    assert proxy.infer(run).status == 200
    usage = proxy.usage(run)
    assert usage.spent == fake_chutes.wait(idle=1)["billed_nanousd"] > 0
    assert proxy.stop() == 0
    return run, usage


@pytest.fixture(scope="module")
def restarted(
    charged_run: tuple[str, Usage], fake_chutes: Upstream, outbox_settings: dict[str, Any]
) -> Iterator[Proxy]:
    """A second server on the ledger of `proxy`, started after its stop. Holds expire soon."""
    assert charged_run
    deadlines = {
        "DEADLINE_SECONDS": "4",
        "WRITE_TIMEOUT_SECONDS": "0.1",
        "SETTLE_TIMEOUT_SECONDS": "0.5",
        "SWEEP_INTERVAL_SECONDS": "0.1",
    }
    with Proxy(fake_chutes, **outbox_settings | deadlines) as started:
        yield started


def test_a_restart_keeps_the_usage_of_runs(restarted: Proxy, charged_run: tuple[str, Usage]) -> None:
    run, usage = charged_run
    assert restarted.usage(run) == usage


def test_the_holds_of_a_killed_worker_are_charged_and_those_of_a_live_worker_are_not(
    restarted: Proxy, chutes: Upstream
) -> None:
    with ThreadPoolExecutor(ORPHANS) as pool:
        runs = [uuid4().hex for _ in range(ORPHANS)]
        prompts = [directive(gate=f"orphan-{number}") for number in range(ORPHANS)]
        calls = [pool.submit(restarted.infer, *each) for each in zip(runs, prompts, strict=True)]
        chutes.wait(at_gate=ORPHANS)
        os.kill(restarted.workers()[0], Signals.SIGKILL)
        restarted.lines.wait(event="expired hold was charged")
        answered = [call.exception() is None for call in calls]
        lost = {run for run, is_answered in zip(runs, answered, strict=True) if not is_answered}
        assert lost, "the killed worker had no calls"
        restarted.lines.wait(len(lost), event="expired hold was charged")
        charged = {line["run"] for line in restarted.lines.matching(event="expired hold was charged")}
        assert charged == lost
        for run, prompt in zip(runs, prompts, strict=True):
            usage = restarted.usage(run)
            assert usage.held == 0
            assert usage.spent == (expected_holds.hold(prompt) if run in lost else usage.spent)
            assert usage.calls == 1
