"""Shutdown and kill: every call ends with an answer or a closed connection, and every hold is settled."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from tests.process import expected_holds
from tests.process.fake_chutes_control import directive
from tests.process.server import INFERENCE, Proxy, chat
from tests.process.wire import post
from tests.support.table import each_row

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream
    from tests.process.wire import Answer

GRACE_SECONDS = 8
IN_TIME = 24
TOO_LATE = 25
KEPT_ALIVE = 1
ALL = IN_TIME + TOO_LATE + KEPT_ALIVE
GATE = directive(gate="in time")
NEVER = directive(gate="never")
SHUTTING_DOWN = (503, "shutting_down")


def test_sigterm_answers_every_call_and_settles_every_hold(chutes: Upstream, run: str) -> None:
    with (
        Proxy(
            chutes, GRACEFUL_TIMEOUT_SECONDS=str(GRACE_SECONDS), MAX_CONCURRENT_CALLS_PER_RUN="100"
        ) as proxy,
        ThreadPoolExecutor(ALL) as pool,
        proxy.sending(chat(run, GATE)) as kept_alive,
        proxy.connect() as slow,
    ):
        in_time = [pool.submit(proxy.infer, run, GATE) for _ in range(IN_TIME)]
        too_late = [pool.submit(proxy.infer, run, NEVER) for _ in range(TOO_LATE)]
        last_call = post(INFERENCE, chat(run, "too late"))
        slow.send(last_call[:-1])
        chutes.wait(at_gate=ALL)
        proxy.signal(Signals.SIGTERM)
        (draining,) = proxy.lines.wait(event="draining")
        assert draining["in_flight"] == ALL
        chutes.release("in time")
        assert {each.result().status for each in in_time} == {200}
        assert kept_alive.answer().status == 200
        kept_alive.send(post(INFERENCE, chat(run, "one more")))
        served = kept_alive.answer()
        assert (served.status, served.headers["connection"]) == (200, "close")
        assert kept_alive.ended()
        assert_no_new_connection_is_served(proxy, run)
        proxy.lines.wait(event="cutting off calls in flight")
        slow.send(last_call[-1:])
        assert_refused(slow.answer())
        assert slow.ended()
        for answer in (each.result() for each in too_late):
            assert_refused(answer)
        assert proxy.stop() == 0
        assert_all_settled(proxy, chutes, run)


def assert_refused(answer: Answer) -> None:
    assert answer.outcome == SHUTTING_DOWN
    assert answer.json["detail"] == "The proxy is shutting down"
    assert answer.headers["retry-after"] == "5"


def assert_no_new_connection_is_served(proxy: Proxy, run: str) -> None:
    with pytest.raises(ConnectionRefusedError):
        proxy.infer(run)


def assert_all_settled(proxy: Proxy, chutes: Upstream, run: str) -> None:
    (cut,) = proxy.lines.matching(event="cutting off calls in flight")
    assert cut["in_flight"] == TOO_LATE
    lines = proxy.lines.matching(event="request", run=run)
    costs: dict[int, set[int]] = {200: set(), 503: set()}
    for line in lines:
        costs[line["status"]].add(round(line["cost_usd"] * 10**9))
    usage = {call["billed_nanousd"] for call in chutes.calls() if call["outcome"] == "done"}
    assert costs[200] == usage
    assert costs[503] == {expected_holds.hold(NEVER), 0}, (
        "the holds of calls without an answer; 0 of refused calls"
    )
    assert len([line for line in lines if line["cost_usd"]]) == ALL + 1, (
        "and the call that was served in the drain"
    )
    chutes.wait(client_gone=TOO_LATE, idle=1)


def test_a_killed_worker_is_replaced_and_its_connections_end(chutes: Upstream, run: str) -> None:
    with Proxy(chutes) as proxy, ExitStack() as stack:
        (worker,) = proxy.workers()
        wires = [stack.enter_context(proxy.sending(chat(run, NEVER))) for _ in range(10)]
        chutes.wait(at_gate=10)
        os.kill(worker, Signals.SIGKILL)
        for wire in wires:
            assert wire.ended(), "a part of an answer"
        assert proxy.infer(run).status == 200
        (successor,) = proxy.workers()
        assert successor != worker
        assert proxy.usage(run).calls == 1, "memory:// loses its ledger with the killed worker"
        (line,) = proxy.lines.wait(level="ERROR")
        assert "SIGKILL" in line["event"]
        chutes.wait(client_gone=10, idle=1)


REFUSED_SIGNALS = {Signals.SIGTTIN: "memory:// allows only 1 worker: no other worker is started"}


@each_row("number", [*REFUSED_SIGNALS, Signals.SIGTTOU, Signals.SIGUSR1, Signals.SIGWINCH])
def test_other_signals_keep_the_one_worker(shared_proxy: Proxy, run: str, number: Signals) -> None:
    workers = shared_proxy.workers()
    shared_proxy.signal(number)
    if number in REFUSED_SIGNALS:
        shared_proxy.lines.wait(event=REFUSED_SIGNALS[number])
    assert shared_proxy.infer(run).status == 200
    assert shared_proxy.workers() == workers
