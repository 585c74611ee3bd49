"""SIGHUP: new settings without an outage, and none at all if they have problems."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from signal import Signals
from threading import Event
from typing import TYPE_CHECKING

import pytest

from tests.process.server import INFERENCE, Proxy, chat, eventually
from tests.process.stand_in_control import ROOT, directive
from tests.process.wire import post
from tests.support.app import environ_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.stand_in_control import StandIn

FLAGS = ("-c", str(ROOT / "gunicorn.conf.py"), "--pythonpath", str(ROOT))
GATE = directive(gate="reload")


@pytest.fixture
def folder(tmp_path: Path, stand_in: StandIn) -> Path:
    """A folder with a `.env` that serves."""
    write_settings(tmp_path, stand_in)
    return tmp_path


def write_settings(folder: Path, stand_in: StandIn, **settings: str) -> None:
    usual = {
        **environ_of(),
        "CHUTES_BASE_URL": stand_in.chat_url,
        "CHUTES_EMBEDDING_URL": stand_in.embed_url,
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
    eventually(lambda: len(proxy.workers()) == 1 and proxy.workers() != [old], "the new worker alone")
    return proxy.workers()[0]


def test_calls_in_flight_end_with_their_answers_while_the_new_worker_serves(
    proxy: Proxy, chutes: StandIn, folder: Path, run: str
) -> None:
    (old,) = proxy.workers()
    with ThreadPoolExecutor(5) as pool:
        held = [pool.submit(proxy.infer, run, GATE) for _ in range(5)]
        chutes.wait(at_gate=5)
        write_settings(folder, chutes, MAX_COST_PER_RUN="3.5")
        proxy.signal(Signals.SIGHUP)
        proxy.lines.wait(event="draining")
        eventually(lambda: proxy.usage(run).cap == 3_500_000_000, "the new settings")
        assert proxy.infer(run).status == 200
        assert len(proxy.workers()) == 2
        chutes.release("reload")
        assert {each.result().status for each in held} == {200}
    await_successor(proxy, old)
    assert proxy.usage(run).calls == 1, "memory:// forgets, as it says when it starts"


def test_nobody_is_refused_while_it_reloads(proxy: Proxy, chutes: StandIn, run: str) -> None:
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
    proxy: Proxy, chutes: StandIn, folder: Path, run: str
) -> None:
    (worker,) = proxy.workers()
    with proxy.sending(chat(run, GATE)) as wire:
        chutes.wait(at_gate=1)
        write_settings(folder, chutes, MAX_COST_PER_RUN="lots", WORKERS="2", CHUTES_API_KEY="")
        proxy.signal(Signals.SIGHUP)
        (line,) = proxy.lines.wait(event="reload refused, the old settings stay")
        assert [problem.split()[0] for problem in line["problems"]] == [
            "CHUTES_API_KEY",
            "MAX_COST_PER_RUN",
            "WORKERS",
        ]
        assert proxy.infer(run).status == 200
        assert proxy.usage(run).cap == 2_000_000_000
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


def test_a_misspelt_setting_is_named_in_the_log(folder: Path, stand_in: StandIn) -> None:
    write_settings(folder, stand_in, MAX_COST_PER_RUNN="1")
    with Proxy(None, *FLAGS, folder=folder, environ={"PATH": os.environ["PATH"]}) as proxy:
        (line,) = proxy.lines.wait(event="unknown setting")
        assert "did you mean MAX_COST_PER_RUN?" in line["detail"]
