"""`make demo`: every line that it prints for pasting does what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from tests.process import kernel
from tests.process.fake_chutes_control import ROOT
from tests.process.server import eventually
from tests.process.wire import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST_LINE = "Ctrl-C ends it."
EXPECTED = (
    ('"word1 word2 word3 word4 word5 "', "an inference"),
    ("[[", "an embedding"),
    ("data: [DONE]", "a stream"),
    ('{"run_id":"demo"', "the run's books"),
    ("demo", "all runs"),
    ("eyJ", "a token"),
)


class Demo:
    """The demo in a session of its own, and what it printed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ridges_proxy", "demo", "--port", "0"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed: list[str] = []

    def read_until_it_serves(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line.rstrip("\n"))
            if LAST_LINE in line:
                return
        raise AssertionError("\n".join(self.printed))

    def lines_to_paste(self) -> list[str]:
        return [line.strip() for line in self.printed if line.startswith("  ")]

    def interrupt(self) -> int:
        self.process.send_signal(Signals.SIGINT)
        return self.process.wait(PATIENCE_SECONDS)


@pytest.fixture
def demo() -> Iterator[Demo]:
    started = Demo()
    try:
        started.read_until_it_serves()
        yield started
    finally:
        if started.process.poll() is None:
            started.interrupt()
        assert started.process.stdout is not None
        started.process.stdout.close()


def test_every_line_to_paste_answers_and_ctrl_c_leaves_nothing_behind(demo: Demo) -> None:
    lines = demo.lines_to_paste()
    assert len(lines) == len(EXPECTED), lines
    for line, (start, what) in zip(lines, EXPECTED, strict=True):
        done = subprocess.run(
            ["bash", "-euc", line],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            cwd="/",
            env={"PATH": os.environ["PATH"]},
        )
        assert done.returncode == 0, (what, done.stderr)
        assert start in done.stdout, what
        assert done.stderr == ""
    family = kernel.descendants(demo.process.pid)
    assert len(family) == 3, "a fake Chutes, and a proxy with its worker"
    assert demo.interrupt() == 0
    eventually(lambda: not any(map(kernel.alive, family)), "the end of all parts")
