"""`ridges-proxy demo`: the proxy in front of a fake Chutes, with commands to try."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from ridges_proxy.cli.command_help import Command, examples

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PROXY_KEY = "demo-proxy-key"
ADMIN_KEY = "demo-admin-key"
RUN_TOKEN_KEY = "demo-run-token-key-for-trying-it-only"  # nosec B105 # noqa: S105 - for the demo
START_SECONDS = 20.0
STOP_SECONDS = 10.0

MESSAGE = """
The proxy listens on {url} and calls a fake Chutes. Try these commands in another terminal:

An inference call:
  curl -s {url}/agents/inference {headers} -d '{chat}'

An embedding call:
  curl -s {url}/agents/embedding {headers} -d '{text}'

A streamed chat completion, as an OpenAI client sends it:
  curl -sN {url}/v1/chat/completions {headers} -d '{stream}'

The usage of the run:
  curl -s '{url}/agents/usage?run_id=demo' -H 'Authorization: Bearer {proxy_key}'

All runs (for operators):
  PROXY_URL={url} ADMIN_API_KEY={admin_key} {command} spend list

The same in a browser: {url}/dashboard (sign in with {admin_key})

A run token, with which an agent can spend on this run only:
  PROXY_URL={url} ADMIN_API_KEY={admin_key} {command} runs issue demo --budget 0.5 --ttl 40m

Press Ctrl-C to stop.
"""


@click.command("demo", cls=Command, epilog=examples("ridges-proxy demo", "ridges-proxy demo --port 8010"))
@click.option(
    "--port",
    metavar="PORT",
    type=int,
    default=8000,
    show_default=True,
    help="Port of the proxy; 0: any free port.",
)
def demo(port: int) -> None:
    """Start the proxy in front of a fake Chutes, to try it.

    It prints commands to try. The demo needs no key and no settings. It ignores the settings file. Ctrl-C
    stops it.
    """
    sys.exit(_run(_free_port(port)))


def _run(port: int) -> int:
    """Run until interrupted. Returns the exit status of the first process that ends by itself."""
    # SIGINT is set explicitly: a shell starts background commands with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    # A closed terminal sends SIGHUP. Under nohup it is ignored, and stays so.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)
    url = f"http://127.0.0.1:{port}"
    try:
        with ExitStack() as stack:
            fake_chutes, upstream = _start_fake_chutes(stack)
            proxy = _start_proxy(stack, port, upstream)
            _await_port(port, proxy)
            print(_message(url), flush=True)  # noqa: T201 - the demo's output
            return _first_status(fake_chutes, proxy)
    except KeyboardInterrupt:
        return 0


def _message(url: str) -> str:
    return MESSAGE.format(
        url=url,
        headers=f"-H 'Authorization: Bearer {PROXY_KEY}' -H 'Content-Type: application/json'",
        chat='{"run_id": "demo", "messages": [{"role": "user", "content": "Hello"}]}',
        stream='{"run_id": "demo", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}',
        text='{"run_id": "demo", "input": "Hello"}',
        proxy_key=PROXY_KEY,
        admin_key=ADMIN_KEY,
        command=_command(),
    )


def _command() -> str:
    script = Path(sys.executable).with_name("ridges-proxy")
    return str(script) if script.exists() else f"{sys.executable} -m ridges_proxy"


def _start_fake_chutes(stack: ExitStack) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "ridges_proxy.fake_chutes", "--port", "0"]
    process = _start(stack, command, dict(os.environ), stdout=subprocess.PIPE)
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        sys.exit("The fake Chutes did not start.")
    return process, line.split()[-1]


def _start_proxy(stack: ExitStack, port: int, upstream: str) -> subprocess.Popen[str]:
    environ = {
        **os.environ,
        "SETTINGS_FILE": "",
        "CREDENTIALS_DIRECTORY": "",
        "CHUTES_API_KEY": "demo-chutes-key",
        "PROXY_API_KEY": PROXY_KEY,
        "ADMIN_API_KEY": ADMIN_KEY,
        "RUN_TOKEN_KEY": RUN_TOKEN_KEY,
        "CHUTES_BASE_URL": f"{upstream}/v1",
        "CHUTES_EMBEDDING_URL": f"{upstream}/embed",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "LOG_FORMAT": "text",
        "LEDGER_URL": "memory://",
        "WORKERS": "1",
    }
    # Start in an empty folder: a .env in the current folder belongs to the real proxy.
    folder = stack.enter_context(TemporaryDirectory(prefix="ridges-demo-"))
    return _start(stack, [sys.executable, "-m", "ridges_proxy", "serve"], environ, cwd=folder)


def _start(
    stack: ExitStack,
    command: list[str],
    environ: dict[str, str],
    stdout: int | None = None,
    cwd: str | None = None,
) -> subprocess.Popen[str]:
    # Use a separate session: Ctrl-C then reaches this process only, which stops the others in order.
    process = subprocess.Popen(  # noqa: S603 - fixed commands
        command, env=environ, stdout=stdout, cwd=cwd, text=True, start_new_session=True
    )
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[str]) -> None:
    if process.stdout:
        process.stdout.close()
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _await_port(port: int, proxy: subprocess.Popen[str]) -> None:
    _wait_until(lambda: proxy.poll() is not None or _answers(port), START_SECONDS)
    if proxy.poll() is not None or not _answers(port):
        sys.exit("The proxy did not start.")


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until the condition holds, but no longer than the given time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _first_status(*processes: subprocess.Popen[str]) -> int:
    while True:
        for process in processes:
            status = process.poll()
            if status is not None:
                return status
        time.sleep(0.2)


def _free_port(port: int) -> int:
    """Return the port, or any free port for 0. Exits if the port is in use: another server would answer."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            sys.exit(f"Port {port} is in use or not valid. Choose another: --port 8010 (make demo PORT=8010)")
        free: int = probe.getsockname()[1]
        return free


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End the demo. Further signals are ignored: they would end it before it has stopped its processes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
