"""The progress of long commands: a bar in a terminal, few lines in a pipe, never on standard output."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from ridges_proxy.cli.progress import LINE_SECONDS, ProgressLines, progress_text
from ridges_proxy.ledger import Kind, Run, SqliteLedger
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from pathlib import Path

RUNS = 250
MOVE = (sys.executable, "-m", "ridges_proxy", "ledger", "migrate", "--yes")


def ledger_of(path: Path) -> str:
    """Make a ledger of some runs, and return its URL."""
    store = SqliteLedger(path, 600.0)
    for number in range(RUNS):
        hold = store.reserve(Run(f"run-{number}", 10_000), Kind.INFERENCE, 10, 10, 60.0)
        store.settle(hold, 10)
    return f"sqlite:///{path}"


def read_all(terminal: int) -> str:
    """Read what a process has written into its terminal, until it has ended."""
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # Linux reports the end of the last process so
            part = b""
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


def test_a_terminal_gets_a_bar_that_ends_with_all_and_standard_output_gets_the_result_only(
    tmp_path: Path,
) -> None:
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [*MOVE, ledger_of(tmp_path / "from.db"), f"sqlite:///{tmp_path}/to.db"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as process:
        os.close(theirs)
        shown = read_all(ours)
        assert process.stdout is not None
        result = process.stdout.read()
    os.close(ours)

    assert process.returncode == 0
    assert re.search(rf"runs.*━.*{RUNS} of {RUNS} \(100 %\)", shown)
    assert result.startswith(f"Moved {RUNS} runs, ")
    assert result.count("\n") == 1


def test_a_pipe_gets_nothing_of_short_work(tmp_path: Path) -> None:
    command = [*MOVE, ledger_of(tmp_path / "from.db"), f"sqlite:///{tmp_path}/to.db"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stderr == ""
    assert done.stdout.startswith(f"Moved {RUNS} runs, ")


def test_a_pipe_gets_few_lines_of_long_work() -> None:
    clock, out = Clock(), io.StringIO()
    lines = ProgressLines(Console(file=out, width=30), clock)

    for done in range(1, 1801):
        clock.advance(1.0)
        lines("seconds of a very long operation", done, 1800)

    shown = out.getvalue().splitlines()
    assert shown[0] == f"seconds of a very long operation: {LINE_SECONDS:.0f} of 1,800 (0 %)"
    assert 30 < len(shown) < 60


def test_a_share_is_never_all_before_the_end_and_is_left_out_without_a_total() -> None:
    table = {
        (0, 0): "0 of 0 (100 %)",
        (0, 3): "0 of 3 (0 %)",
        (1_999, 2_000): "1,999 of 2,000 (99 %)",
        (2_000, 2_000): "2,000 of 2,000 (100 %)",
        (1_234, None): "1,234",
    }

    def check(numbers: tuple[int, int | None]) -> None:
        assert progress_text(*numbers) == table[numbers]

    check_rows(table, check)
