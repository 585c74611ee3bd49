"""The demo: every printed command works, and a signal stops all its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from signal import Signals
from typing import TYPE_CHECKING

from tests.process import kernel
from tests.process.fake_chutes_control import ROOT
from tests.process.server import wait_until
from tests.process.wire import PATIENCE_SECONDS
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST_LINE = "Press Ctrl-C to stop."
EXPECTED = (
    ('"word1 word2 word3 word4 word5 "', "an inference"),
    ("[[", "an embedding"),
    ("data: [DONE]", "a stream"),
    ('{"run_id":"demo"', "the usage of the run"),
    ("demo", "all runs"),
    ("eyJ", "a token"),
)


PROCESSES = 3
"""The fake Chutes, the master of the proxy and its worker."""

IGNORING_SIGINT = ["bash", "-c", 'trap "" INT; exec "$@"', "bash"]
"""Start a command as a shell does in the background: with SIGINT ignored."""


def restore_sighup() -> None:
    """Undo what `nohup` does to the tests: the demo keeps a SIGHUP that is ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Demo:
    """A demo, and the lines that it has printed."""

    def __init__(self, *shell: str) -> None:
        self.process = subprocess.Popen(
            [*shell, sys.executable, "-m", "ridges_proxy", "demo", "--port", "0"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=restore_sighup,  # noqa: PLW1509 - the test has no other threads that hold a lock of signals
        )
        self.printed: list[str] = []

    def read_until_ready(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line.rstrip("\n"))
            if LAST_LINE in line:
                return
        raise AssertionError("\n".join(self.printed))

    def printed_commands(self) -> list[str]:
        return [line.strip() for line in self.printed if line.startswith("  ")]

    def stop(self, number: Signals = Signals.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def demo(*shell: str) -> Iterator[Demo]:
    """Start a demo, and stop it at the end."""
    started = Demo(*shell)
    try:
        started.read_until_ready()
        yield started
    finally:
        if started.process.poll() is None:
            started.stop(Signals.SIGTERM)
        assert started.process.stdout is not None
        started.process.stdout.close()


def assert_stops_completely(demo: Demo, number: Signals) -> None:
    # The demo is ready when the master listens. The worker may start later.
    wait_until(lambda: len(kernel.descendants(demo.process.pid)) == PROCESSES, "all processes")
    family = kernel.descendants(demo.process.pid)
    assert demo.stop(number) == 0
    wait_until(lambda: not any(map(kernel.alive, family)), "the end of all processes")


def test_a_signal_stops_all_processes_even_if_sigint_was_ignored() -> None:
    def check(number: Signals) -> None:
        with demo(*IGNORING_SIGINT) as started:
            assert_stops_completely(started, number)

    with ThreadPoolExecutor() as pool:
        checks = {number: pool.submit(check, number) for number in (Signals.SIGTERM, Signals.SIGHUP)}
        check_rows(checks, lambda number: checks[number].result())


def test_repeated_signals_stop_all_processes() -> None:
    """`timeout make demo`, for example, sends the demo three at once."""
    with demo() as started:
        wait_until(lambda: len(kernel.descendants(started.process.pid)) == PROCESSES, "all processes")
        family = kernel.descendants(started.process.pid)
        while started.process.poll() is None:
            started.process.send_signal(Signals.SIGTERM)
        assert started.process.returncode == 0
        wait_until(lambda: not any(map(kernel.alive, family)), "the end of all processes")


def test_sigint_stops_the_fake_chutes_even_if_it_was_ignored() -> None:
    command = [*IGNORING_SIGINT, sys.executable, "-m", "ridges_proxy.fake_chutes"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "http://" in process.stdout.readline()
        process.send_signal(Signals.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_every_printed_command_works_and_sigint_stops_the_demo_even_if_it_was_ignored() -> None:
    with demo(*IGNORING_SIGINT) as started:
        lines = started.printed_commands()
        assert len(lines) == len(EXPECTED), lines
        check_rows(zip(lines, EXPECTED, strict=True), check_command)
        assert_stops_completely(started, Signals.SIGINT)


def check_command(row: tuple[str, tuple[str, str]]) -> None:
    line, (expected, what) = row
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
    assert expected in done.stdout, what
    assert done.stderr == ""
