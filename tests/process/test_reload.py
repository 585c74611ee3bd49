"""SIGHUP: new settings without an outage, new prices without a restart, invalid settings refused."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from signal import Signals
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from ridges_proxy.config import DEFAULT_MODEL
from tests.process.fake_chutes_control import ROOT, directive
from tests.process.server import GUNICORN, INFERENCE, Proxy, chat, wait_until
from tests.process.wire import post
from tests.support.app import OPERATOR, environ_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.fake_chutes_control import Upstream

FLAGS = ("-c", str(ROOT / "gunicorn.conf.py"), "--pythonpath", str(ROOT))
GATE = directive(gate="reload")
REFUSED = "reload refused: the previous settings stay in force"
MODEL_OF_TEST = "model-of-run-"


@pytest.fixture(scope="module")
def folder(fake_chutes: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a valid `.env`."""
    folder = tmp_path_factory.mktemp("settings")
    write_settings(folder, fake_chutes)
    return folder


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


@pytest.fixture(scope="module")
def proxy(folder: Path) -> Iterator[Proxy]:
    """A proxy whose settings all come from the folder's `.env`."""
    with Proxy(None, *FLAGS, folder=folder, environ={"PATH": os.environ["PATH"]}) as started:
        yield started


def signal_and_wait(proxy: Proxy, event: str, number: Signals = Signals.SIGHUP) -> dict[str, Any]:
    """Send a signal, and wait for the next log line of an event."""
    earlier = len(proxy.lines.matching(event=event))
    proxy.signal(number)
    return proxy.lines.wait(earlier + 1, event=event)[-1]


def wait_for_successor(proxy: Proxy, old: int) -> int:
    """Wait until a new worker has replaced the old one. The new worker's process id."""
    workers: list[int] = []

    def is_alone() -> bool:
        workers[:] = proxy.workers()
        return len(workers) == 1 and workers != [old]

    wait_until(is_alone, "the end of the old worker")
    wait_until(lambda: proxy.ready().status == 200, "the new worker")
    return workers[0]


def test_calls_in_flight_are_answered_while_the_new_worker_serves(
    proxy: Proxy, chutes: Upstream, folder: Path, run: str
) -> None:
    (old,) = proxy.workers()
    with ThreadPoolExecutor(5) as pool:
        held = [pool.submit(proxy.infer, run, GATE) for _ in range(5)]
        chutes.wait(at_gate=5)
        write_settings(folder, chutes, MAX_COST_PER_RUN="3.5")
        signal_and_wait(proxy, "draining")
        wait_until(lambda: proxy.usage(run).budget == 3_500_000_000, "the new settings")
        assert proxy.infer(run).status == 200
        assert len(proxy.workers()) == 2
        chutes.release("reload")
        assert {each.result().status for each in held} == {200}
    wait_for_successor(proxy, old)
    assert proxy.usage(run).calls == 1, "memory:// loses its ledger with the old worker"


def test_no_call_is_refused_during_a_reload(proxy: Proxy, chutes: Upstream, run: str) -> None:
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
            wait_for_successor(proxy, old)
        finally:
            reloaded.set()
        outcomes = {outcome for caller in callers for outcome in caller.result()}
    assert outcomes == {(200, None)}


def test_while_an_old_worker_drains_the_server_replaces_a_dead_worker_and_hears_signals(
    proxy: Proxy, chutes: Upstream, run: str
) -> None:
    (oldest,) = proxy.workers()
    with proxy.sending(chat(run, GATE)) as wire:
        chutes.wait(at_gate=1)
        ready = len(proxy.lines.matching(event="worker ready"))
        signal_and_wait(proxy, "draining")
        proxy.lines.wait(ready + 1, event="worker ready")
        (second,) = {*proxy.workers()} - {oldest}
        os.kill(second, Signals.SIGKILL)
        proxy.lines.wait(ready + 2, event="worker ready")
        assert proxy.infer(run).status == 200
        proxy.signal(Signals.SIGHUP)
        proxy.lines.wait(ready + 3, event="worker ready")
        assert proxy.infer(run).status == 200
        assert oldest in proxy.workers()
        chutes.release("reload")
        assert wire.answer().status == 200
    wait_for_successor(proxy, oldest)


def test_settings_with_problems_are_refused_and_the_old_ones_stay_in_force(
    proxy: Proxy, chutes: Upstream, folder: Path, run: str
) -> None:
    (worker,) = proxy.workers()
    budget = proxy.usage(run).budget
    with proxy.sending(chat(run, GATE)) as wire:
        chutes.wait(at_gate=1)
        write_settings(folder, chutes, MAX_COST_PER_RUN="lots", WORKERS="2", CHUTES_API_KEY="")
        line = signal_and_wait(proxy, REFUSED)
        assert [problem.split()[0] for problem in line["problems"]] == [
            "CHUTES_API_KEY",
            "MAX_COST_PER_RUN",
            "WORKERS",
        ]
        assert proxy.infer(run).status == 200
        assert proxy.usage(run).budget == budget > 0
        chutes.release("reload")
        assert wire.answer().status == 200
        wire.send(post(INFERENCE, chat(run, "hi")))
        assert wire.answer().status == 200
    assert proxy.workers() == [worker]
    assert proxy.usage(run).calls == 3
    write_settings(folder, chutes)
    proxy.signal(Signals.SIGHUP)
    wait_for_successor(proxy, worker)
    assert proxy.infer(run).status == 200


# --- prices


@pytest.fixture(scope="module")
def price_folder(fake_chutes: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prices, budgets and a `.env`, which names them and misspells another setting."""
    folder = tmp_path_factory.mktemp("prices")
    write_prices(folder, 0.27)
    write_budgets(folder)
    write_settings(
        folder, fake_chutes, MODEL_PRICES="prices.json", BUDGETS="budgets.json", MAX_COST_PER_RUNN="1"
    )
    return folder


@pytest.fixture(scope="module")
def price_server(price_folder: Path) -> Iterator[Proxy]:
    with Proxy(None, *FLAGS, folder=price_folder, environ={"PATH": os.environ["PATH"]}) as started:
        yield started


@pytest.fixture
def priced(price_server: Proxy, price_folder: Path, run: str) -> Proxy:
    """The server with the default model at 0.27, and one more model, so that the prices always change."""
    write_prices(price_folder, 0.27, **{MODEL_OF_TEST + run: 1})
    load_prices(price_server)
    return price_server


def write_prices(folder: Path, rate: object, **others: object) -> None:
    (folder / "prices.json").write_text(json.dumps({DEFAULT_MODEL: rate, **others}))


def write_budgets(folder: Path, **usd_by_name: object) -> None:
    budgets = [{"name": name, "usd": usd, "window": "lifetime"} for name, usd in usd_by_name.items()]
    (folder / "budgets.json").write_text(json.dumps(budgets))


def load_prices(proxy: Proxy) -> None:
    """Send SIGHUP, and wait until the worker has loaded the new prices."""
    signal_and_wait(proxy, "new prices are in force")


def test_a_misspelt_setting_is_logged(price_server: Proxy) -> None:
    (line,) = price_server.lines.wait(event="unknown setting")
    assert "did you mean MAX_COST_PER_RUN?" in line["detail"]


def test_a_price_that_seems_to_be_per_token_is_logged_at_the_start_and_at_each_reload(
    tmp_path: Path, fake_chutes: Upstream
) -> None:
    write_prices(tmp_path, 0.00000027, other=1)
    write_settings(tmp_path, fake_chutes, MODEL_PRICES="prices.json")
    with Proxy(None, *FLAGS, folder=tmp_path, environ={"PATH": os.environ["PATH"]}) as proxy:
        (line,) = proxy.lines.wait(event="unlikely price")
        assert (line["level"], line["model"]) == ("WARNING", DEFAULT_MODEL)
        assert "MODEL_PRICES" in line["detail"]
        write_prices(tmp_path, 0.27, other=0.000001)
        load_prices(proxy)
        assert proxy.lines.wait(2, event="unlikely price")[-1]["model"] == "other"
        write_prices(tmp_path, 0.27)
        load_prices(proxy)
        (worker,) = proxy.workers()
        proxy.signal(Signals.SIGHUP)
        wait_for_successor(proxy, worker)
        assert len(proxy.lines.matching(event="unlikely price")) == 2


def spent_by(proxy: Proxy, run: str, prompt: str = "hi") -> int:
    """Make a call. The amount that the run has spent on it."""
    before = proxy.usage(run).spent
    assert proxy.infer(run, prompt).status == 200
    return proxy.usage(run).spent - before


def test_new_prices_are_charged_by_the_same_worker_with_the_same_ledger(
    priced: Proxy, price_folder: Path, run: str
) -> None:
    workers = priced.workers()
    reloads = priced.lines.matching(event="reloading")
    cost = spent_by(priced, run)

    write_prices(price_folder, 0.54, other={"input": 1, "output": 2})
    load_prices(priced)

    changed = [DEFAULT_MODEL, MODEL_OF_TEST + run, "other"]
    priced.lines.wait(event="prices reloaded", models=2, changed=changed)
    assert spent_by(priced, run) == 2 * cost
    assert priced.usage(run).spent == 3 * cost
    assert priced.usage(run).calls == 2
    assert priced.workers() == workers
    assert priced.lines.matching(event="reloading") == reloads


def test_new_budgets_are_in_force_in_the_same_worker_which_keeps_what_is_spent(
    priced: Proxy, price_folder: Path, run: str
) -> None:
    def budget_all() -> dict[str, float]:
        (level,) = priced.ask("GET", "/admin/budgets", headers=OPERATOR).json["levels"]
        return {name: level[f"{name}_cost_usd"] for name in ("max", "used")}

    workers = priced.workers()
    write_budgets(price_folder, all=1)
    signal_and_wait(priced, "new budgets are in force")
    spent_by(priced, run)
    before = budget_all()
    assert (before["max"], before["used"] > 0) == (1.0, True)

    write_budgets(price_folder, all=0.000000001)
    signal_and_wait(priced, "new budgets are in force")

    assert budget_all() == {**before, "max": 1e-9}
    assert "error" in priced.infer(run).json
    write_budgets(price_folder)
    signal_and_wait(priced, "new budgets are in force")
    assert spent_by(priced, run) > 0
    assert priced.workers() == workers


def test_a_call_in_flight_is_settled_at_the_price_of_its_hold(
    priced: Proxy, chutes: Upstream, price_folder: Path, run: str
) -> None:
    chutes.release("reload")
    cost = spent_by(priced, run, GATE)
    chutes.reset()
    with priced.sending(chat(run, GATE)) as wire:
        chutes.wait(at_gate=1)
        held = priced.usage(run).held
        write_prices(price_folder, 27)
        load_prices(priced)
        assert priced.usage(run).held == held
        chutes.release("reload")
        assert wire.answer().status == 200
    assert priced.usage(run).spent == 2 * cost
    assert spent_by(priced, run, GATE) == 100 * cost


def test_invalid_prices_are_refused_and_the_old_ones_stay_in_force(
    priced: Proxy, price_folder: Path, run: str
) -> None:
    workers = priced.workers()
    cost = spent_by(priced, run)

    for invalid in ('{"other": 1}', f'{{"{DEFAULT_MODEL}": -1}}', "{", ""):
        (price_folder / "prices.json").write_text(invalid)
        signal_and_wait(priced, REFUSED)
    assert spent_by(priced, run) == cost

    write_prices(price_folder, 0.54)
    load_prices(priced)
    assert spent_by(priced, run) == 2 * cost
    assert priced.workers() == workers


def test_a_reload_after_new_prices_is_compared_with_the_settings_in_force(
    priced: Proxy, fake_chutes: Upstream, price_folder: Path, run: str
) -> None:
    (old,) = priced.workers()
    cost = spent_by(priced, run)
    write_prices(price_folder, 0.54)
    load_prices(priced)

    write_settings(price_folder, fake_chutes, MODEL_PRICES="prices.json", MAX_COST_PER_RUN="3.5")
    priced.signal(Signals.SIGHUP)
    new = wait_for_successor(priced, old)
    assert priced.usage(run).budget == 3_500_000_000
    assert spent_by(priced, run) == 2 * cost

    write_prices(price_folder, 0.27)
    load_prices(priced)
    assert spent_by(priced, run) == cost
    assert priced.workers() == [new]

    priced.signal(Signals.SIGHUP)  # nothing has changed: a new worker, as for new code
    wait_for_successor(priced, new)


def test_a_worker_that_starts_after_a_price_reload_has_the_new_prices(
    priced: Proxy, price_folder: Path, run: str
) -> None:
    (old,) = priced.workers()
    cost = spent_by(priced, run)
    write_prices(price_folder, 0.54)
    load_prices(priced)

    os.kill(old, Signals.SIGKILL)

    wait_for_successor(priced, old)
    assert spent_by(priced, run) == 2 * cost


SLOW_APP = """
from pathlib import Path
from ridges_proxy import create_app
app = create_app()
gate = Path("gate")
if gate.exists():
    gate.read_bytes()
"""
"""Reads its settings, then waits until the test has opened and closed a FIFO, if there is one."""


def test_a_worker_that_was_starting_during_a_price_reload_has_the_new_prices(
    tmp_path: Path, fake_chutes: Upstream, run: str
) -> None:
    (tmp_path / "slow.py").write_text(SLOW_APP)
    write_prices(tmp_path, 0.27)
    write_settings(tmp_path, fake_chutes, MODEL_PRICES="prices.json")
    command = [GUNICORN, "slow:app"]
    with Proxy(None, *FLAGS, command=command, folder=tmp_path, environ={"PATH": os.environ["PATH"]}) as proxy:
        (old,) = proxy.workers()
        cost = spent_by(proxy, run)
        os.mkfifo(tmp_path / "gate")
        os.kill(old, Signals.SIGKILL)
        with (tmp_path / "gate").open("wb"):
            write_prices(tmp_path, 0.54)
            proxy.signal(Signals.SIGHUP)
            proxy.lines.wait(event="prices reloaded")
        wait_for_successor(proxy, old)
        assert spent_by(proxy, run) == 2 * cost


def test_sigusr1_loads_no_prices(priced: Proxy, price_folder: Path, run: str) -> None:
    (worker,) = priced.workers()
    cost = spent_by(priced, run)
    write_prices(price_folder, 0.54)

    earlier = priced.lines.matching(logger="ridges_proxy.server.reload")

    priced.signal(Signals.SIGUSR1)  # gunicorn's signal to reopen log files
    (price_folder / "prices.json").write_text("{")
    signal_and_wait(priced, REFUSED)  # handled after the first signal

    assert spent_by(priced, run) == cost
    assert priced.workers() == [worker]
    (refusal,) = priced.lines.matching(logger="ridges_proxy.server.reload")[len(earlier) :]
    assert refusal["event"] == REFUSED, "only the master's refusal"
