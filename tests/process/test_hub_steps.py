"""No body keeps the hub for long. Function calls are counted, not time, so it holds on a slow machine too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from bench.body_shapes import SHAPES
from tests.process.fake_chutes_control import directive
from tests.process.kernel import is_stopped
from tests.process.server import EMBEDDING, Proxy, wait_until
from tests.process.wire import head, post
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        with _stopped(proxy):  # so that all of them have arrived before the first is answered
            greedy.send(refused * PIPELINED)
            neighbour.send(accepted)
        answers = [neighbour.answer(), *(greedy.answer() for _ in range(PIPELINED))]
        assert [answer.status for answer in answers] == [200] + [422] * PIPELINED
        lines = proxy.lines.wait(PIPELINED + 1, route="/agents/usage")
    assert [line["status"] for line in lines].index(200) < FAIR_PLACE


def test_a_connection_has_its_next_request_answered_after_all_that_wait(
    fake_chutes: Upstream, run: str
) -> None:
    call = post(EMBEDDING, {"run_id": run, "input": directive(gate="turns")})
    refused = head("/agents/usage", method="GET")
    accepted = head(f"/agents/usage?run_id={run}", method="GET")
    with (
        Proxy(fake_chutes) as proxy,
        proxy.connect() as one,
        proxy.connect() as other,
        proxy.connect() as busy,
    ):
        for wire in (one, other):
            wire.send(accepted[:-1])
        busy.send(call + refused)
        fake_chutes.wait(at_gate=1)  # the last connection: by then, the worker has read what came before
        with _stopped(proxy):  # so that the requests and the upstream's answer are ready at once
            one.send(accepted[-1:])
            fake_chutes.release("turns")
            fake_chutes.wait(finished=1)
            # One of the two comes after `busy`, at whichever end of what is ready the loop begins.
            other.send(accepted[-1:])
        assert [busy.answer().status for _ in range(2)] == [200, 422]
        assert [wire.answer().status for wire in (one, other)] == [200, 200]
        lines = proxy.lines.wait(3, route="/agents/usage")
    assert [line["status"] for line in lines] == [200, 200, 422]


@contextmanager
def _stopped(proxy: Proxy) -> Iterator[None]:
    """Stop the worker, and let it go on at the end."""
    (worker,) = proxy.workers()
    os.kill(worker, Signals.SIGSTOP)
    try:
        wait_until(partial(is_stopped, worker), "the worker has not stopped")
        yield
    finally:
        os.kill(worker, Signals.SIGCONT)
