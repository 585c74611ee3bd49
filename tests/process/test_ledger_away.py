"""A ledger that fails while a server runs: no call is made without a hold, and no settlement is lost."""

from __future__ import annotations

import resource
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.process import expected_holds
from tests.process.fake_chutes_control import Upstream, directive
from tests.process.row_fixtures import reset
from tests.process.server import Proxy, Usage, failed_start, wait_until
from tests.support.redis_server import RedisServer
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.process.wire import Answer

CALLS = 5
CROWD = 60
HELD = directive(gate="held")
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
UNAVAILABLE = (503, "ledger_unavailable")


@dataclass(frozen=True)
class Outage:
    """A way to make the ledger of a server fail, and to end that."""

    name: str
    begin: Callable[[Proxy], None]
    end: Callable[[Proxy], None]


def limit_file_size(most_bytes: int, proxy: Proxy) -> None:
    for pid in proxy.workers():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))


FULL_DISK = Outage("full disk", partial(limit_file_size, 0), partial(limit_file_size, resource.RLIM_INFINITY))
"""A limit of 0 bytes for each file: every write fails, as on a full disk."""


def redis_outages(server: RedisServer) -> list[Outage]:
    return [
        Outage("Redis killed", lambda _: server.kill(), lambda _: server.start()),
        Outage("Redis frozen", lambda _: server.freeze(), lambda _: server.thaw()),
    ]


def settings_of(url: str) -> Any:  # noqa: ANN401 - keywords of Proxy
    return {"LEDGER_URL": url, "WORKERS": "2", "LEDGER_TIMEOUT_SECONDS": "0.3"}


def has_no_holds(proxy: Proxy, run: str) -> bool:
    """Tell whether the run has no holds. False while a worker has not noticed that the ledger is back."""
    answer = proxy.ask("GET", f"/agents/usage?run_id={run}")
    return answer.status == 200 and answer.json["held_cost_usd"] == 0


def spent_and_calls(proxy: Proxy, run: str) -> tuple[int, int]:
    """Read both from one answer: the other worker may not have noticed yet that the ledger is back."""
    answers: list[Answer] = []

    def is_answered() -> bool:
        answers.append(proxy.ask("GET", f"/agents/usage?run_id={run}"))
        return answers[-1].status == 200

    wait_until(is_answered, "the usage")
    usage = Usage.of(answers[-1].json)
    return usage.spent, usage.calls


def test_during_an_outage_a_server_refuses_calls_and_afterwards_it_delivers_its_settlements(
    fake_chutes: Upstream, tmp_path: Path
) -> None:
    def check(row: tuple[Proxy, Outage]) -> None:
        proxy, outage = row
        check_outage(proxy, outage, reset(fake_chutes))

    with Proxy(fake_chutes, **settings_of(f"sqlite:///{tmp_path}/ledger.db")) as with_sqlite:
        check_rows([(with_sqlite, FULL_DISK)], check)
    with RedisServer(*ALWAYS) as redis, Proxy(fake_chutes, **settings_of(redis.url)) as with_redis:
        check_rows([(with_redis, outage) for outage in redis_outages(redis)], check)


def check_outage(proxy: Proxy, outage: Outage, chutes: Upstream) -> None:
    run = uuid.uuid4().hex
    with ThreadPoolExecutor(CROWD) as pool:
        calls = [pool.submit(proxy.infer, run, HELD) for _ in range(CALLS)]
        chutes.wait(at_gate=CALLS)
        outage.begin(proxy)
        try:
            refused = list(pool.map(lambda _: proxy.infer(run), range(CROWD)))
            assert {answer.outcome for answer in refused} == {UNAVAILABLE}
            assert {answer.headers["retry-after"] for answer in refused} == {"5"}
            wait_until(
                lambda: proxy.ready().status == 503, "an answer of /ready that is not kept from before"
            )
            chutes.release("held")
            assert [call.result().status for call in calls] == [200] * CALLS, "a paid answer was withheld"
            chutes.wait(idle=1)
            assert len(chutes.calls()) == CALLS, "a call was made without a hold"
        finally:
            chutes.release("held")
            outage.end(proxy)
        wait_until(lambda: proxy.ready().status == 200, "readiness")
        wait_until(lambda: has_no_holds(proxy, run), "the delivery of all settlements")
        billed = chutes.wait(idle=1)["billed_nanousd"]
        assert spent_and_calls(proxy, run) == (billed, CALLS)
        assert billed > 0
        wait_until(lambda: proxy.infer(run).status == 200, "a successful call")


def test_a_server_that_stops_during_an_outage_leaves_its_settlements_to_the_next_server(
    fake_chutes: Upstream, chutes: Upstream, run: str, tmp_path: Path
) -> None:
    with RedisServer(*ALWAYS) as redis, ThreadPoolExecutor(CALLS) as pool:
        settings = {**settings_of(redis.url), "LEDGER_OUTBOX": f"{tmp_path}/outbox.db"}
        with Proxy(fake_chutes, **settings) as proxy:
            calls = [pool.submit(proxy.infer, run, HELD) for _ in range(CALLS)]
            chutes.wait(at_gate=CALLS)
            redis.kill()
            chutes.release("held")
            assert [call.result().status for call in calls] == [200] * CALLS
        redis.start()
        with Proxy(fake_chutes, **settings) as proxy:
            wait_until(lambda: has_no_holds(proxy, run), "the delivery of all settlements")
            billed = chutes.wait(idle=1)["billed_nanousd"]
            assert spent_and_calls(proxy, run) == (billed, CALLS)
            assert CALLS * expected_holds.hold(HELD) > billed > 0, "settled at the hold, not at the cost"


def test_a_server_does_not_start_on_a_full_disk(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    status, output = failed_start(shell="ulimit -f 0", LEDGER_URL=url)
    assert status != 0
    assert output.startswith(f"The ledger cannot be opened: cannot use {tmp_path}/ledger.db: ")
    assert "Traceback" not in output
