"""The processes that are measured, and the ones that measure: started on cores of their own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PROXY_KEY = "bench-proxy-key"


def cores() -> tuple[set[int], set[int]]:
    """The server's core, and the others for load and stand-in (the same, where there is only one)."""
    all_cores = sorted(os.sched_getaffinity(0))
    return {all_cores[0]}, set(all_cores[1:]) or {all_cores[0]}


@contextlib.contextmanager
def stand_in(cores: set[int]) -> Iterator[str]:
    with process([sys.executable, "-m", "ridges_proxy.stand_in"], dict(os.environ), cores) as started:
        assert started.stdout is not None
        yield started.stdout.readline().decode().split()[-1]


@contextlib.contextmanager
def server(app: str, config: str, upstream: str, cores: set[int], **settings: str) -> Iterator[int]:
    port = free_port()
    environ = {
        **os.environ,
        "CHUTES_API_KEY": "bench-chutes-key",
        "PROXY_API_KEY": PROXY_KEY,
        "CHUTES_BASE_URL": f"{upstream}/v1",
        "CHUTES_EMBEDDING_URL": f"{upstream}/embed",
        "MAX_COST_PER_RUN": "100000",
        "MAX_CONCURRENT_CALLS_PER_RUN": "1000",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        **settings,
    }
    with process([sys.executable, "-m", "gunicorn", "--config", config, app], environ, cores):
        await_port(port)
        yield port


@contextlib.contextmanager
def process(
    command: list[str], environ: dict[str, str], cores: set[int]
) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(
        command,
        env=environ,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    os.sched_setaffinity(started.pid, cores)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(40)
        if started.stdout:
            started.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")
