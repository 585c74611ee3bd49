"""No body keeps the hub for long. Function calls are counted, not time, so it holds on a slow machine too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from bench.body_shapes import SHAPES
from tests.process.server import Proxy
from tests.process.wire import head
from tests.support.table import check_rows

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream

ROOT = Path(__file__).parents[2]

MAX_CALLS = 9_400
"""For a body that the hub prepares itself. One of short messages has 8,600, other shapes at most 6,200."""

MAX_CALLS_BESIDE_A_THREAD = 1_800
"""For a body that is prepared in a thread, its reading included. An embedding's answer has 3,000."""

PIPELINED = 60
FAIR_PLACE = 3
"""How many requests that arrived together may be answered before the one of another client. One, usually."""

LONGER = {"embeddings, largest accepted"}

STATUSES = {
    "4 MiB": {"200", "400", "413"},
    "largest accepted": {"200", "400", "500", "502"},
    "64 kB": {"200", "400", "500", "502"},
    "on the hub": {"200", "400", "500", "502"},
}
"""One shape is invalid. The upstream cannot be reached, which is 500 on `/agents` and 502 on `/v1`."""


@pytest.fixture(scope="module")
def steps() -> dict[str, tuple[int, str]]:
    counted = subprocess.run(
        [sys.executable, "-m", "bench.hub_steps"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )
    found: dict[str, tuple[int, str]] = json.loads(counted.stdout)
    return found


def test_no_body_keeps_the_hub_for_long(steps: dict[str, tuple[int, str]]) -> None:
    def check(row: tuple[str, str]) -> None:
        shape, size = row
        calls, status = steps[f"{shape}, {size}"]
        assert status[:3] in STATUSES[size]
        in_thread = size != "on the hub" and f"{shape}, {size}" not in LONGER
        assert calls <= (MAX_CALLS_BESIDE_A_THREAD if in_thread else MAX_CALLS)

    check_rows([(shape, size) for shape in SHAPES for size in STATUSES], check)


def test_requests_that_arrive_together_do_not_keep_another_client_waiting(
    fake_chutes: Upstream, run: str
) -> None:
    refused = head("/agents/usage", method="GET")
    accepted = head(f"/agents/usage?run_id={run}", method="GET")
    with Proxy(fake_chutes) as proxy, proxy.connect() as greedy, proxy.connect() as neighbour:
        for wire in (greedy, neighbour):
            wire.send(head("/health", method="GET"))
            wire.answer()
        (worker,) = proxy.workers()
        os.kill(worker, Signals.SIGSTOP)  # so that all of them have arrived before the first is answered
        greedy.send(refused * PIPELINED)
        neighbour.send(accepted)
        os.kill(worker, Signals.SIGCONT)
        answers = [neighbour.answer(), *(greedy.answer() for _ in range(PIPELINED))]
        assert [answer.status for answer in answers] == [200] + [422] * PIPELINED
        lines = proxy.lines.wait(PIPELINED + 1, route="/agents/usage")
    assert [line["status"] for line in lines].index(200) < FAIR_PLACE
