"""Start processes on chosen cores, wait for them, and read their processor time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
OPEN_FILES = 20_000
STOP_SECONDS = 20
START_SECONDS = 30.0


def split_cores() -> tuple[set[int], set[int]]:
    """The server's core, and the other cores for the load and the upstream. A single core is both."""
    all_cores = sorted(os.sched_getaffinity(0))
    return {all_cores[0]}, set(all_cores[1:]) or {all_cores[0]}


def raise_file_limit() -> None:
    """Raise the limit of open files for this process and its children, as far as the system permits."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard_limit), hard_limit))


class MissingProgramError(Exception):
    """A program cannot be run on this machine. The text says why."""


def find_program(name: str, package: str) -> str:
    """The path of a program. Raises MissingProgramError with the package of Debian that has it."""
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    if path := shutil.which(name, path=folders):
        return path
    raise MissingProgramError(f"{name} not found. Install it: apt install {package}")


def require_program(name: str, package: str) -> str:
    """The path of a program. Exit with the package to install if it is missing."""
    try:
        return find_program(name, package)
    except MissingProgramError as missing:
        sys.exit(str(missing))


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Restrict this thread to some cores, and so every process that it starts, from its first instruction.

    Servers with threads count the cores when they start, and their threads keep the cores of that moment.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def process(
    command: list[str],
    environ: dict[str, str],
    cores: set[int],
    stdout: int = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on some cores while the context is open, then stop it."""
    with on_cores(cores):
        started = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=stdout, stderr=stderr)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:  # it waits for connections that stay open
            started.kill()
            started.wait()
        if started.stdout:
            started.stdout.close()


def run_client(arguments: list[str], request: bytes, cores: set[int]) -> Any:  # noqa: ANN401 - each client prints its own JSON
    """Run a Python module as a client on some cores, send it a request on stdin, and parse its output."""
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        os.sched_setaffinity(client.pid, cores)
        output, _ = client.communicate(request)
    return json.loads(output)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, seconds: float = START_SECONDS) -> None:
    """Wait until a server listens on the port of this machine."""
    wait_until(lambda: listens(port), f"a server on port {port}", seconds)


def listens(port: int) -> bool:
    """Whether a server accepts connections on the port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_until(condition: Callable[[], bool], description: str, seconds: float) -> None:
    """Poll the condition until it holds. Exit the program after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"timed out after {seconds:g} s, waiting for {description}")
        time.sleep(0.02)


def process_tree(pid: int) -> list[int]:
    """The ids of a process and of all its descendants, the process first."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(file.parent.name)] = int(_stat_fields(file)[1])
    tree = [pid]
    for member in tree:
        tree += [child for child, parent in parents.items() if parent == member]
    return tree


def cpu_seconds(pid: int) -> float:
    """The processor time of a process; 0 if it has ended."""
    with contextlib.suppress(OSError):
        fields = _stat_fields(Path(f"/proc/{pid}/stat"))
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
    return 0.0


def resident_kb(pid: int) -> int:
    """The resident memory of a process; 0 if it has ended."""
    with contextlib.suppress(OSError):
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
        return int(match[1]) if match else 0
    return 0


def _stat_fields(file: Path) -> list[str]:
    """The fields behind the name in parentheses, which may itself hold spaces and parentheses."""
    return file.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
