"""The servers that take part in a benchmark: the proxy, its upstreams, its ledgers, and the empty view."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from bench.processes import ROOT, cpu_seconds, free_port, process, process_tree, resident_kb, wait_for_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PROXY_KEY = "bench-proxy-key"


@dataclass(frozen=True)
class Server:
    """An address that listens, and the process that was started for it."""

    port: int
    pid: int
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def children(self) -> list[int]:
        """The ids of all processes below it, such as gunicorn's workers."""
        return process_tree(self.pid)[1:]

    def cpu_seconds(self) -> float:
        """The processor time of it and all processes below it since their start."""
        return sum(map(cpu_seconds, process_tree(self.pid)))

    def resident_kb(self) -> int:
        """The resident memory of its largest worker, or its own if it has no workers."""
        return max(map(resident_kb, self.children() or [self.pid]))


@contextlib.contextmanager
def stub(cores: set[int]) -> Iterator[Server]:
    """The upstream that needs almost no processor time."""
    command = [sys.executable, str(ROOT / "bench/stub.py")]
    with process(command, dict(os.environ), cores, subprocess.PIPE) as started:
        assert started.stdout is not None
        yield Server(int(started.stdout.readline()), started.pid)


@contextlib.contextmanager
def fake_chutes(cores: set[int]) -> Iterator[str]:
    """The URL of a fake Chutes."""
    command = [sys.executable, "-m", "ridges_proxy.fake_chutes"]
    with process(command, dict(os.environ), cores, subprocess.PIPE) as started:
        assert started.stdout is not None
        yield started.stdout.readline().decode().split()[-1]


def proxy_settings(upstream_url: str) -> dict[str, str]:
    """The settings that every proxy of the benchmarks needs."""
    return {
        "CHUTES_API_KEY": "bench-chutes-key",
        "PROXY_API_KEY": PROXY_KEY,
        "CHUTES_BASE_URL": f"{upstream_url}/v1",
        "CHUTES_EMBEDDING_URL": f"{upstream_url}/embed",
        "MAX_COST_PER_RUN": "100000",
    }


@contextlib.contextmanager
def gunicorn(  # noqa: PLR0913 - each is a part of the command or of its environment
    app: str,
    config: str,
    upstream_url: str,
    cores: set[int],
    log: IO[bytes] | None = None,
    /,
    *,
    python: str = sys.executable,
    **settings: str,
) -> Iterator[Server]:
    """An application under gunicorn, once it listens. The other keyword arguments are settings."""
    port = free_port()
    environ = {
        **os.environ,
        **proxy_settings(upstream_url),
        "MAX_CONCURRENT_CALLS": "5000",
        "MAX_CONCURRENT_CALLS_PER_RUN": "5000",
        # Rate limits are on, as by default, but never reached: all load is of one run, from one address.
        "RATE_LIMIT_PER_RUN": "1000000/minute",
        "RATE_LIMIT_PER_IP": "1000000/minute",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        **settings,
    }
    command = [python, "-m", "gunicorn", "--config", config, app]
    with process(command, environ, cores, stderr=log or subprocess.DEVNULL) as started:
        wait_for_port(port)
        yield Server(port, started.pid)


def proxy(
    upstream_url: str, cores: set[int], *, python: str = sys.executable, **settings: str
) -> contextlib.AbstractContextManager[Server]:
    """This proxy, started as its users start it."""
    return gunicorn("wsgi:app", "gunicorn.conf.py", upstream_url, cores, python=python, **settings)


def empty_view(upstream_url: str, cores: set[int]) -> contextlib.AbstractContextManager[Server]:
    """A Flask view that does nothing, under gunicorn: the least that any Flask service costs."""
    return gunicorn("bench.empty_view:app", "bench/stock.conf.py", upstream_url, cores)


def bare_relay(upstream_url: str, cores: set[int]) -> contextlib.AbstractContextManager[Server]:
    """A Flask view that only relays, under gunicorn: the least that a relay in this frame costs."""
    return gunicorn("bench.bare_relay:app", "bench/stock.conf.py", upstream_url, cores)


@contextlib.contextmanager
def redis(cores: set[int], *, append_only: bool, bind: str = "127.0.0.1") -> Iterator[str | None]:
    """The URL of a new Redis, with an append-only file (everysec) or none; None if Redis is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        print("Redis is left out: redis-server not found. Install it: apt install redis-server")
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "--port": str(port),
            "--bind": bind,
            "--protected-mode": "no",
            "--save": "",
            "--dir": folder,
            "--appendonly": "yes" if append_only else "no",
            "--appendfsync": "everysec",
        }
        command = [program, *(word for option in options.items() for word in option)]
        with process(command, dict(os.environ), cores):
            wait_for_port(port)
            yield f"redis://127.0.0.1:{port}"


def shared_ledger_urls(stack: contextlib.ExitStack, cores: set[int]) -> Iterator[tuple[str, list[str]]]:
    """Each store that workers can share, with the URL of one ledger for one worker and of one for two."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    yield "sqlite", [f"sqlite:///{folder}/{workers}.db" for workers in (1, 2)]
    if (url := stack.enter_context(redis(cores, append_only=True))) is not None:
        yield "redis", [f"{url}/{workers}" for workers in (1, 2)]
