"""Terminals in which the commands of a page run, some of them until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

END = "the end of this block"


class Terminal:
    """A shell that stays open, with the programs of this environment."""

    def __init__(self, folder: Path, replacements: dict[str, str]) -> None:
        self._replacements = replacements
        self._shell = subprocess.Popen(
            # A parent that runs in the background ignores Ctrl-C, and so would the shell.
            ["env", "--default-signal=INT", "bash", "-eu"],
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
def terminals(
    folder: Path, number: int, replacements: dict[str, str] | None = None
) -> Iterator[list[Terminal]]:
    """Open terminals in a folder. The demo has a free port, because that of the page may be in use."""
    port, programs = free_port(), Path(sys.executable).parent
    replaced = {
        ".venv/bin": str(programs),
        "make demo": f"{programs}/ridges-proxy demo --port {port}",
        "python3 ": f"{sys.executable} ",
        ":8000": f":{port}",
        **(replacements or {}),
    }
    with ExitStack() as stack:
        opened = [Terminal(folder, replaced) for _ in range(number)]
        for terminal in opened:
            stack.callback(terminal.close)
        yield opened
