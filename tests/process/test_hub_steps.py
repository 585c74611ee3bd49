"""No body keeps the hub for long. Function calls are counted, not time, so it holds on a slow machine too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.body_shapes import SHAPES
from tests.support.table import check_rows

ROOT = Path(__file__).parents[2]

MAX_CALLS = 9_400
"""For a body that the hub prepares itself. One of short messages has 8,600, other shapes at most 6,200."""

MAX_CALLS_BESIDE_A_THREAD = 1_800
"""For a body that is prepared in a thread, its reading included. An embedding's answer has 3,000."""

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
