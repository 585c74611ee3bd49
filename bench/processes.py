"""The processes that are measured, and the ones that measure: started on cores of their own."""

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
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PROXY_KEY = "bench-proxy-key"
TICKS = os.sysconf("SC_CLK_TCK")
OPEN_FILES = 20_000
STOP_SECONDS = 20


@dataclass(frozen=True)
class Server:
    """Something that listens, and the process that was started for it."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Of it and all below it, since they were started."""
        return sum(map(cpu_seconds_of, family_of(self.pid)))

    def resident_kb(self) -> int:
        """Of the largest of the processes below it, as a server's workers are; its own, if there are none."""
        family = family_of(self.pid)
        return max(map(resident_kb_of, family[1:] or family))


def cores() -> tuple[set[int], set[int]]:
    """The server's core, and the others for load and fake Chutes (the same, where there is only one)."""
    all_cores = sorted(os.sched_getaffinity(0))
    return {all_cores[0]}, set(all_cores[1:]) or {all_cores[0]}


def allow_many_files() -> None:
    """For this process and all below it, as far as the system lets them have it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))


@contextlib.contextmanager
def fake_chutes(cores: set[int]) -> Iterator[str]:
    command = [sys.executable, "-m", "ridges_proxy.fake_chutes"]
    with process(command, dict(os.environ), cores, subprocess.PIPE) as started:
        assert started.stdout is not None
        yield started.stdout.readline().decode().split()[-1]


@contextlib.contextmanager
def stub(cores: set[int]) -> Iterator[Server]:
    """The upstream that costs next to nothing."""
    command = [sys.executable, str(ROOT / "bench/stub.py")]
    with process(command, dict(os.environ), cores, subprocess.PIPE) as started:
        assert started.stdout is not None
        yield Server(int(started.stdout.readline()), started.pid)


@contextlib.contextmanager
def server(
    app: str, config: str, upstream: str, cores: set[int], log: IO[bytes] | None = None, /, **settings: str
) -> Iterator[Server]:
    port = free_port()
    environ = {
        **os.environ,
        "CHUTES_API_KEY": "bench-chutes-key",
        "PROXY_API_KEY": PROXY_KEY,
        "CHUTES_BASE_URL": f"{upstream}/v1",
        "CHUTES_EMBEDDING_URL": f"{upstream}/embed",
        "MAX_COST_PER_RUN": "100000",
        "MAX_CONCURRENT_CALLS": "5000",
        "MAX_CONCURRENT_CALLS_PER_RUN": "5000",
        # On, as by default, and out of the way: all load is of one run, from one address.
        "RATE_LIMIT_PER_RUN": "1000000/minute",
        "RATE_LIMIT_PER_IP": "1000000/minute",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        **settings,
    }
    command = [sys.executable, "-m", "gunicorn", "--config", config, app]
    with process(command, environ, cores, stderr=log or subprocess.DEVNULL) as started:
        await_port(port)
        yield Server(port, started.pid)


@contextlib.contextmanager
def process(
    command: list[str],
    environ: dict[str, str],
    cores: set[int],
    stdout: int = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=stdout, stderr=stderr)
    os.sched_setaffinity(started.pid, cores)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:  # it waits for connections that nobody closes
            started.kill()
            started.wait()
        if started.stdout:
            started.stdout.close()


@contextlib.contextmanager
def redis(cores: set[int], *, logged: bool, bind: str = "127.0.0.1") -> Iterator[str | None]:
    """The URL of a Redis of our own, with an append-only log (everysec) or none; None where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        print("no redis-server here: apt install redis-server")
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program,
            "--port",
            str(port),
            "--bind",
            bind,
            "--protected-mode",
            "no",
            "--save",
            "",
            "--dir",
            folder,
        ]
        command += ["--appendonly", "yes" if logged else "no", "--appendfsync", "everysec"]
        with process(command, dict(os.environ), cores):
            await_port(port)
            yield f"redis://127.0.0.1:{port}"


def shared_ledgers(stack: contextlib.ExitStack, on: set[int]) -> Iterator[tuple[str, list[str]]]:
    """Each kind of ledger that workers can share, and the URL of one for each number of workers."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    yield "sqlite", [f"sqlite:///{folder}/{workers}.db" for workers in (1, 2)]
    if (url := stack.enter_context(redis(on, logged=True))) is not None:
        yield "redis", [f"{url}/{workers}" for workers in (1, 2)]


def piped(command: list[str], request: bytes, on: set[int]) -> Any:  # noqa: ANN401 - whatever JSON it prints
    """Give a client on some cores its request, and read what it prints."""
    words = [sys.executable, "-m", *command]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        os.sched_setaffinity(client.pid, on)
        output, _ = client.communicate(request)
    return json.loads(output)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def family_of(pid: int) -> list[int]:
    """A process and all below it."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            parents[int(file.parent.name)] = int(fields[1])
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def cpu_seconds_of(pid: int) -> float:
    """Processor time, 0 for a process that is no more."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    return 0.0


def resident_kb_of(pid: int) -> int:
    """Resident memory, 0 for a process that is no more."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
        return int(found[1]) if found else 0
    return 0
