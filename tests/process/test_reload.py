"""SIGHUP: new settings without an outage, new prices without a restart, and none that have problems."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from signal import Signals
from threading import Event
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.config import DEFAULT_MODEL
from tests.process.fake_chutes_control import ROOT, directive
from tests.process.server import GUNICORN, INFERENCE, Proxy, chat, wait_until
from tests.process.wire import post
from tests.support.app import environ_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.fake_chutes_control import Upstream

FLAGS = ("-c", str(ROOT / "gunicorn.conf.py"), "--pythonpath", str(ROOT))
GATE = directive(gate="reload")


@pytest.fixture
def folder(tmp_path: Path, fake_chutes: Upstream) -> Path:
    """A folder with a `.env` that serves."""
    write_settings(tmp_path, fake_chutes)
    return tmp_path


def write_settings(folder: Path, fake_chutes: Upstream, **settings: str) -> None:
    usual = {
        **environ_of(),
        "CHUTES_BASE_URL": fake_chutes.chat_url,
        "CHUTES_EMBEDDING_URL": fake_chutes.embed_url,
        "HOST": "127.0.0.1",
        "PORT": "0",
    }
    lines = [f"{name}={value}\n" for name, value in (usual | settings).items()]
    (folder / ".env").write_text("".join(lines))


@pytest.fixture
def proxy(folder: Path) -> Iterator[Proxy]:
    """A proxy whose settings all come from the folder's `.env`."""
    with Proxy(None, *FLAGS, folder=folder, environ={"PATH": os.environ["PATH"]}) as started:
        yield started


def await_successor(proxy: Proxy, old: int) -> int:
    """Wait until the old worker has gone; the new one."""
    seen: list[int] = []

    def alone() -> bool:
        seen[:] = proxy.workers()
        return len(seen) == 1 and seen != [old]

    wait_until(alone, "the new worker alone")
    return seen[0]


def test_calls_in_flight_end_with_their_answers_while_the_new_worker_serves(
    proxy: Proxy, chutes: Upstream, folder: Path, run: str
) -> None:
    (old,) = proxy.workers()
    with ThreadPoolExecutor(5) as pool:
        held = [pool.submit(proxy.infer, run, GATE) for _ in range(5)]
        chutes.wait(at_gate=5)
        write_settings(folder, chutes, MAX_COST_PER_RUN="3.5")
        proxy.signal(Signals.SIGHUP)
        proxy.lines.wait(event="draining")
        wait_until(lambda: proxy.usage(run).budget == 3_500_000_000, "the new settings")
        assert proxy.infer(run).status == 200
        assert len(proxy.workers()) == 2
        chutes.release("reload")
        assert {each.result().status for each in held} == {200}
    await_successor(proxy, old)
    assert proxy.usage(run).calls == 1, "memory:// forgets, as it says when it starts"


def test_nobody_is_refused_while_it_reloads(proxy: Proxy, chutes: Upstream, run: str) -> None:
    (old,) = proxy.workers()
    reloaded = Event()
    with ThreadPoolExecutor(4) as pool:

        def call_until_reloaded(_: int) -> list[tuple[int, str | None]]:
            outcomes = []
            while not reloaded.is_set():
                outcomes.append(proxy.infer(run).outcome)
            return outcomes

        callers = [pool.submit(call_until_reloaded, number) for number in range(4)]
        chutes.wait(finished=20)
        proxy.signal(Signals.SIGHUP)
        try:
            await_successor(proxy, old)
        finally:
            reloaded.set()
        outcomes = {outcome for caller in callers for outcome in caller.result()}
    assert outcomes == {(200, None)}


def test_settings_with_problems_are_refused_and_the_old_ones_go_on(
    proxy: Proxy, chutes: Upstream, folder: Path, run: str
) -> None:
    (worker,) = proxy.workers()
    with proxy.sending(chat(run, GATE)) as wire:
        chutes.wait(at_gate=1)
        write_settings(folder, chutes, MAX_COST_PER_RUN="lots", WORKERS="2", CHUTES_API_KEY="")
        proxy.signal(Signals.SIGHUP)
        (line,) = proxy.lines.wait(event="reload refused: the previous settings stay in force")
        assert [problem.split()[0] for problem in line["problems"]] == [
            "CHUTES_API_KEY",
            "MAX_COST_PER_RUN",
            "WORKERS",
        ]
        assert proxy.infer(run).status == 200
        assert proxy.usage(run).budget == 2_000_000_000
        chutes.release("reload")
        assert wire.answer().status == 200
        wire.send(post(INFERENCE, chat(run, "hi")))
        assert wire.answer().status == 200
    assert proxy.workers() == [worker]
    assert proxy.usage(run).calls == 3
    write_settings(folder, chutes)
    proxy.signal(Signals.SIGHUP)
    await_successor(proxy, worker)
    assert proxy.infer(run).status == 200


def test_a_misspelt_setting_is_named_in_the_log(folder: Path, fake_chutes: Upstream) -> None:
    write_settings(folder, fake_chutes, MAX_COST_PER_RUNN="1")
    with Proxy(None, *FLAGS, folder=folder, environ={"PATH": os.environ["PATH"]}) as proxy:
        (line,) = proxy.lines.wait(event="unknown setting")
        assert "did you mean MAX_COST_PER_RUN?" in line["detail"]


# --- prices alone


@pytest.fixture
def priced(folder: Path, fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy whose prices stand in a file; the default model at 0.27."""
    write_prices(folder, 0.27)
    write_settings(folder, fake_chutes, MODEL_PRICES="prices.json")
    with Proxy(None, *FLAGS, folder=folder, environ={"PATH": os.environ["PATH"]}) as started:
        yield started


def write_prices(folder: Path, rate: object, **others: object) -> None:
    (folder / "prices.json").write_text(json.dumps({DEFAULT_MODEL: rate, **others}))


def reprice(proxy: Proxy, times: int = 1) -> None:
    """Send SIGHUP, and wait until the worker has taken over new prices for the so-many-th time."""
    proxy.signal(Signals.SIGHUP)
    proxy.lines.wait(count=times, event="new prices are in force")


def spent_by(proxy: Proxy, run: str, prompt: str = "hi") -> int:
    """Make a call; what the run has spent by it."""
    before = proxy.usage(run).spent
    assert proxy.infer(run, prompt).status == 200
    return proxy.usage(run).spent - before


def test_new_prices_are_charged_by_the_same_worker_and_nothing_is_forgotten(
    priced: Proxy, folder: Path, run: str
) -> None:
    workers = priced.workers()
    cost = spent_by(priced, run)

    write_prices(folder, 0.54, other={"input": 1, "output": 2})
    reprice(priced)

    (line,) = priced.lines.wait(event="prices reloaded")
    assert (line["models"], line["changed"]) == (2, [DEFAULT_MODEL, "other"])
    assert spent_by(priced, run) == 2 * cost
    assert priced.usage(run).spent == 3 * cost
    assert priced.usage(run).calls == 2
    assert priced.workers() == workers
    assert priced.lines.matching(event="reloading") == []


def test_a_call_in_flight_ends_at_the_price_that_it_was_held_at(
    priced: Proxy, chutes: Upstream, folder: Path, run: str
) -> None:
    chutes.release("reload")
    cost = spent_by(priced, run, GATE)
    chutes.reset()
    with priced.sending(chat(run, GATE)) as wire:
        chutes.wait(at_gate=1)
        held = priced.usage(run).held
        write_prices(folder, 27)
        reprice(priced)
        assert priced.usage(run).held == held
        chutes.release("reload")
        assert wire.answer().status == 200
    assert priced.usage(run).spent == 2 * cost
    assert spent_by(priced, run, GATE) == 100 * cost


def test_bad_prices_are_refused_and_the_old_ones_go_on(priced: Proxy, folder: Path, run: str) -> None:
    workers = priced.workers()
    cost = spent_by(priced, run)

    for times, bad in enumerate(('{"other": 1}', f'{{"{DEFAULT_MODEL}": -1}}', "{", ""), start=1):
        (folder / "prices.json").write_text(bad)
        priced.signal(Signals.SIGHUP)
        priced.lines.wait(count=times, event="reload refused: the previous settings stay in force")
    assert spent_by(priced, run) == cost

    write_prices(folder, 0.54)
    reprice(priced)
    assert spent_by(priced, run) == 2 * cost
    assert priced.workers() == workers


def test_a_reload_after_new_prices_is_compared_with_what_runs_now(
    priced: Proxy, fake_chutes: Upstream, folder: Path, run: str
) -> None:
    (old,) = priced.workers()
    cost = spent_by(priced, run)
    write_prices(folder, 0.54)
    reprice(priced)

    write_settings(folder, fake_chutes, MODEL_PRICES="prices.json", MAX_COST_PER_RUN="3.5")
    priced.signal(Signals.SIGHUP)
    new = await_successor(priced, old)
    assert priced.usage(run).budget == 3_500_000_000
    assert spent_by(priced, run) == 2 * cost

    write_prices(folder, 0.27)
    reprice(priced, times=2)
    assert spent_by(priced, run) == cost
    assert priced.workers() == [new]

    priced.signal(Signals.SIGHUP)  # nothing has changed: a new worker, as for new code
    await_successor(priced, new)


def test_a_worker_that_starts_after_new_prices_has_them(priced: Proxy, folder: Path, run: str) -> None:
    (old,) = priced.workers()
    cost = spent_by(priced, run)
    write_prices(folder, 0.54)
    reprice(priced)

    os.kill(old, Signals.SIGKILL)

    await_successor(priced, old)
    wait_until(lambda: priced.ready().status == 200, "the new worker")
    assert spent_by(priced, run) == 2 * cost


SLOW_APP = """
from pathlib import Path
from ridges_proxy import create_app
app = create_app()
gate = Path("gate")
if gate.exists():
    gate.read_bytes()
"""
"""Has read its settings, and then waits at a FIFO, if there is one, that somebody opens and closes it."""


def test_a_worker_that_was_starting_when_it_was_told_of_new_prices_has_them(
    folder: Path, fake_chutes: Upstream, run: str
) -> None:
    (folder / "slow.py").write_text(SLOW_APP)
    write_prices(folder, 0.27)
    write_settings(folder, fake_chutes, MODEL_PRICES="prices.json")
    command = [GUNICORN, "slow:app"]
    with Proxy(None, *FLAGS, command=command, folder=folder, environ={"PATH": os.environ["PATH"]}) as proxy:
        (old,) = proxy.workers()
        cost = spent_by(proxy, run)
        os.mkfifo(folder / "gate")
        os.kill(old, Signals.SIGKILL)
        with (folder / "gate").open("wb"):
            write_prices(folder, 0.54)
            proxy.signal(Signals.SIGHUP)
            proxy.lines.wait(event="prices reloaded")
        wait_until(lambda: proxy.ready().status == 200, "the new worker")
        assert spent_by(proxy, run) == 2 * cost


def test_the_signal_for_logs_to_be_opened_anew_puts_no_prices_in_force(
    priced: Proxy, folder: Path, run: str
) -> None:
    (worker,) = priced.workers()
    cost = spent_by(priced, run)
    write_prices(folder, 0.54)

    priced.signal(Signals.SIGUSR1)
    (folder / "prices.json").write_text("{")
    priced.signal(Signals.SIGHUP)  # heard after the other
    priced.lines.wait(event="reload refused: the previous settings stay in force")

    assert spent_by(priced, run) == cost
    assert priced.workers() == [worker]
    assert priced.lines.matching(logger="ridges_proxy.server.reload", level="INFO") == []
    assert len(priced.lines.matching(logger="ridges_proxy.server.reload")) == 1, "the master's refusal"
