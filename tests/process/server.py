"""The proxy as a process of a test: gunicorn, started as in production."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.config import Settings
from tests.process import kernel
from tests.process.fake_chutes_control import ROOT, Upstream
from tests.process.lines import Lines, json_or_none
from tests.process.wire import PATIENCE_SECONDS, Answer, Wire, post
from tests.support.app import ADMIN_KEY, CHUTES_KEY, PROXY_KEY, environ_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

CANARY = "canary-in-the-prompt"
"""Part of every prompt. No log line may contain it."""

SECRETS = (CANARY, PROXY_KEY, ADMIN_KEY, CHUTES_KEY, "word1")
"""Strings that no log line may contain. Answers of the fake Chutes begin with `word1`."""

GUNICORN = str(Path(sys.executable).with_name("gunicorn"))

HTTP_PARSER = os.environ.get("HTTP_PARSER", "")
"""The parser of request heads in every server: `fast` (in C) or `python`. Empty: as in production."""

POLL_SECONDS = 0.01
STOP_SECONDS = 45.0
"""Above every `GRACEFUL_TIMEOUT_SECONDS` of these tests."""

INFERENCE = "/agents/inference"
EMBEDDING = "/agents/embedding"


class Usage(NamedTuple):
    """The usage of a run in nano-USD, as `/agents/usage` returns it."""

    spent: int
    held: int
    remaining: int
    inference: int
    embedding: int
    budget: int
    calls: int

    @classmethod
    def of(cls, found: dict[str, Any]) -> Self:
        """Read the JSON of an answer."""
        names = {"spent": "used", "budget": "max"}
        amounts = {
            field: round(found[f"{names.get(field, field)}_cost_usd"] * NANOUSD_PER_USD)
            for field in cls._fields
            if field != "calls"
        }
        return cls(**amounts, calls=found["calls"])


def chat(run: str, prompt: str, **fields: object) -> dict[str, object]:
    """Return the body of an inference call, with the canary in its prompt."""
    messages = [{"role": "user", "content": f"{CANARY} {prompt}"}]
    return {"run_id": run, "messages": messages, **fields}


def text(run: str, content: str) -> dict[str, object]:
    """Return the body of an embedding call, with the canary in its text."""
    return {"run_id": run, "input": f"{CANARY} {content}"}


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Poll the condition until it holds. For conditions without an event to wait for."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(POLL_SECONDS)


def clean_environment(fake_chutes: Upstream | None, **settings: str) -> dict[str, str]:
    """Return an environment that contains only `PATH` and settings.

    Settings that a test does not use are empty: a developer's `.env` cannot set them then.
    """
    blank = {field.metadata["name"]: "" for field in dataclasses.fields(Settings)}
    urls = (
        {"CHUTES_BASE_URL": fake_chutes.chat_url, "CHUTES_EMBEDDING_URL": fake_chutes.embed_url}
        if fake_chutes
        else {}
    )
    defaults = {**environ_of(), **urls, "HOST": "127.0.0.1", "PORT": "0"}
    parser = {"GUNICORN_CMD_ARGS": f"--http-parser {HTTP_PARSER}"} if HTTP_PARSER else {}
    return {"PATH": os.environ["PATH"], **parser, **blank, **defaults, **settings}


def failed_start(*arguments: str, shell: str = "", **settings: str) -> tuple[int, str]:
    """Start a server that must not start. Return its exit status and its output.

    `shell` is a command of bash that runs first, in the same process.
    """
    before = ["bash", "-c", f'{shell}; exec "$@"', "bash"] if shell else []
    done = subprocess.run(
        [*before, GUNICORN, "wsgi:app", *arguments],
        cwd=ROOT,
        env=clean_environment(None, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


class Proxy:
    """A context manager around a gunicorn process on a free port.

    At the end it asserts that every line of the output is JSON without a traceback or a secret. A
    graceful stop takes a second or two. SIGKILL ends a server that has nothing to save: with one worker, a
    ledger in memory, no traces, and no signal from the test. `graceful` stops this one by SIGTERM, too.
    """

    def __init__(
        self,
        fake_chutes: Upstream | None,
        *arguments: str,
        command: list[str] | None = None,
        folder: Path = ROOT,
        environ: dict[str, str] | None = None,
        graceful: bool = False,
        **settings: str,
    ) -> None:
        self._graceful = graceful or command is not None or bool(arguments) or environ is not None
        self._command = [*(command or [GUNICORN, "wsgi:app"]), *arguments]
        self._folder = folder
        self.descriptors: tuple[int, ...] = ()
        """Descriptors that the server inherits."""
        self._environ = environ or clean_environment(fake_chutes, **settings)
        self.lines = Lines()
        self.port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=self.descriptors,
            start_new_session=True,  # so that the remaining processes can be killed as one group
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self.port = int(self.lines.wait(event="listening")[0]["address"].rpartition(":")[2])
            # A worker that is still starting misses SIGTERM, and the stop would wait for its timeout.
            self.lines.wait(int(self._environ.get("WORKERS") or 1), event="worker ready")
            wait_until(lambda: self.ready().status == 200, "readiness")
        except BaseException as error:
            error.add_note("\n".join(self.lines.raw))
            self.stop(Signals.SIGKILL)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._may_be_killed():
            # The answer comes after the lines of all that the worker could do before: none is lost.
            assert self.ready().status in {200, 503}
            self.stop(Signals.SIGKILL)
        else:
            self.stop()
        if error is None:
            self.assert_clean()
        else:
            error.add_note("\n".join(["Last lines of the proxy:", *self.lines.raw[-30:]]))

    # --- calls

    def infer(
        self, run: str, prompt: str = "hi", headers: dict[str, str] | None = None, **fields: object
    ) -> Answer:
        return self.ask("POST", INFERENCE, chat(run, prompt, **fields), headers)

    def embed(self, run: str, content: str = "hi") -> Answer:
        return self.ask("POST", EMBEDDING, text(run, content))

    def usage(self, run: str) -> Usage:
        return Usage.of(self.ask("GET", f"/agents/usage?run_id={run}").json)

    def ready(self) -> Answer:
        return self.ask("GET", "/ready")

    def in_flight(self) -> int:
        number: int = self.ready().json["calls"]["in_flight"]
        return number

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request on a new connection."""
        all_headers = {
            "Authorization": f"Bearer {PROXY_KEY}",
            "Content-Type": "application/json",
            **(headers or {}),
        }
        data = None if body is None else json.dumps(body)
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)) as connection:
            connection.request(method, path, data, all_headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def connect(self, receive_bytes: int | None = None) -> Wire:
        """Open a raw connection."""
        return Wire(self.port, receive_bytes)

    def sending(self, body: dict[str, object], path: str = INFERENCE) -> Wire:
        """Open a raw connection and send a complete request."""
        wire = self.connect()
        wire.send(post(path, body))
        return wire

    # --- the process

    @property
    def pid(self) -> int:
        """The PID of the master."""
        return self._process.pid

    def workers(self) -> list[int]:
        """Return the PIDs of the workers, in ascending order."""
        return sorted(kernel.children(self.pid))

    def upstream_connections(self, fake_chutes: Upstream) -> int:
        """Return the number of the workers' open connections to the fake Chutes, idle ones included."""
        port = urlsplit(fake_chutes.url).port
        assert port is not None
        return sum(kernel.open_connections(pid, port) for pid in self.workers())

    def signal(self, number: Signals) -> None:
        self._graceful = True
        self._send(number)

    def end(self) -> int:
        """Wait until the main process ends by itself. Return its exit status. Its workers may live on."""
        return self._process.wait(STOP_SECONDS)

    def stop(self, number: Signals = Signals.SIGTERM) -> int:
        """Stop the server, if it still runs. Return its exit status."""
        self._send(number)
        try:
            return self._process.wait(STOP_SECONDS)
        finally:
            self._kill_remaining()
            self._reader.join(PATIENCE_SECONDS)

    def assert_clean(self) -> None:
        """Assert that every line is JSON, without a traceback, a prompt, an answer or a key."""
        for line in self.lines.raw:
            assert json_or_none(line) is not None, line
            assert "Traceback" not in line
            assert not [secret for secret in SECRETS if secret in line]

    def _may_be_killed(self) -> bool:
        keys = ("LEDGER_URL", "WORKERS", "OTEL_EXPORTER_OTLP_ENDPOINT")
        ledger, workers, traces = (self._environ.get(key, "") for key in keys)
        plain = ledger in {"", "memory://"} and workers in {"", "1"} and not traces
        return plain and not self._graceful and self._process.poll() is None

    def _send(self, number: Signals) -> None:
        self._process.send_signal(number)

    def _kill_remaining(self) -> None:
        try:
            os.killpg(self._process.pid, Signals.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self.lines.add(line)
        self.lines.close()
