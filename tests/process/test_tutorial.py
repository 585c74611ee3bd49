"""docs/start/tutorial.md: each of its commands, in their order, in four terminals as the page has them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.process.examples import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

START_RECEIVER, START_PROXY, ISSUE, FIRST_CALL, WATCH, CALLS, REFUSAL, SHOW, CLOSE = blocks(
    "start/tutorial.md"
)
(RECEIVER,) = blocks("start/tutorial.md", "python")
HEADERS, ALERTS = blocks("start/tutorial.md", "text")

END = "the end of this block"


class Terminal:
    """A shell that stays open, with the programs of this environment."""

    def __init__(self, folder: Path, replacements: dict[str, str]) -> None:
        self._replacements = replacements
        self._shell = subprocess.Popen(
            ["bash", "-eu"],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "100"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def type(self, block: str) -> None:
        """Type a block of the page. It may run until Ctrl-C."""
        for old, new in self._replacements.items():
            block = block.replace(old, new)
        assert self._shell.stdin
        self._shell.stdin.write(f"{block}\necho {END}\n")
        self._shell.stdin.flush()

    def read_until(self, text: str) -> str:
        """Return the output up to the first line with this text."""
        assert self._shell.stdout
        lines = []
        for line in iter(self._shell.stdout.readline, ""):
            lines.append(line)
            if text in line:
                return "".join(lines)
        raise AssertionError(f"no {text!r} in {''.join(lines)}")

    def run(self, block: str) -> str:
        """Type a block and return all that it prints."""
        self.type(block)
        return self.read_until(END)

    def close(self) -> None:
        """Press Ctrl-C, and close the terminal."""
        os.killpg(self._shell.pid, signal.SIGINT)
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.close()
        self._shell.stdout.read()
        self._shell.stdout.close()
        self._shell.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def terminals(folder: Path) -> Iterator[list[Terminal]]:
    """Open four terminals. The ports of the page may be in use here, so others replace them."""
    port, receiver_port = free_port(), free_port()
    programs = Path(sys.executable).parent
    replacements = {
        ".venv/bin": str(programs),
        "make demo": f"{programs}/ridges-proxy demo --port {port}",
        "python3 ": f"{sys.executable} ",
        ":8000": f":{port}",
        ":9000": f":{receiver_port}",
    }
    (folder / "receiver.py").write_text(RECEIVER.replace("9000", str(receiver_port)))
    with ExitStack() as stack:
        opened = [Terminal(folder, replacements) for _ in range(4)]
        for terminal in opened:
            stack.callback(terminal.close)
        yield opened


def test_the_commands_of_the_tutorial_do_what_it_says(tmp_path: Path) -> None:
    with terminals(tmp_path) as (receiver, proxy, operator, watcher):
        receiver.type(START_RECEIVER)
        proxy.type(START_PROXY)
        proxy.read_until("Press Ctrl-C to stop")
        operator.run(ISSUE)
        headers = operator.run(FIRST_CALL)
        assert set(HEADERS.splitlines()) <= {line.strip() for line in headers.splitlines()}
        watcher.type(WATCH)
        watcher.read_until("tutorial")
        statuses = re.findall(r"\d{3} ", operator.run(CALLS))
        assert [status.strip() for status in statuses] == ["200"] * 8 + ["402"] * 4
        watcher.read_until("exhausted")
        fifty, ninety = ALERTS.splitlines()
        assert receiver.read_until("90 %") == f"{fifty}\n{ninety}\n"
        refusal = operator.run(REFUSAL).removesuffix(f"{END}\n")
        assert json.loads(refusal)["error"]["code"] == "budget_exhausted"
        assert "refused    4 budget_exhausted" in operator.run(SHOW)
        assert "closed     no further calls are possible" in operator.run(CLOSE)
