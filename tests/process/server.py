"""The proxy as a process that a test owns: gunicorn, started as its users start it."""

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
from typing import TYPE_CHECKING, NamedTuple, Self
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
"""Stands in every prompt, and must never stand in a log."""

SECRETS = (CANARY, PROXY_KEY, ADMIN_KEY, CHUTES_KEY, "word1")
"""`word1` is how the fake Chutes's answers begin."""

GUNICORN = str(Path(sys.executable).with_name("gunicorn"))

POLL_SECONDS = 0.01
STOP_SECONDS = 45.0
"""Above every grace time in these tests."""

INFERENCE = "/agents/inference"
EMBEDDING = "/agents/embedding"


class Usage(NamedTuple):
    """A run's books in nano-USD, as `/agents/usage` tells them."""

    spent: int
    held: int
    remaining: int
    inference: int
    embedding: int
    budget: int
    calls: int


def chat(run: str, prompt: str, **fields: object) -> dict[str, object]:
    """The body of an inference; the prompt gets the canary."""
    messages = [{"role": "user", "content": f"{CANARY} {prompt}"}]
    return {"run_id": run, "messages": messages, **fields}


def text(run: str, words: str) -> dict[str, object]:
    """The body of an embedding; the text gets the canary."""
    return {"run_id": run, "input": f"{CANARY} {words}"}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what cannot be waited for by an event."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(POLL_SECONDS)


def clean_environment(fake_chutes: Upstream | None, **settings: str) -> dict[str, str]:
    """An environment of nothing but the service's settings; an empty one wins over a developer's `.env`."""
    blank = {field.metadata["name"]: "" for field in dataclasses.fields(Settings)}
    urls = (
        {"CHUTES_BASE_URL": fake_chutes.chat_url, "CHUTES_EMBEDDING_URL": fake_chutes.embed_url}
        if fake_chutes
        else {}
    )
    usual = {**environ_of(), **urls, "HOST": "127.0.0.1", "PORT": "0"}
    return {"PATH": os.environ["PATH"], **blank, **usual, **settings}


def failed_start(*arguments: str, shell: str = "", **settings: str) -> tuple[int, str]:
    """The exit status of a server that must not start, and all that it says; what a shell does before it."""
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
    """A context manager around a gunicorn of its own, on a port of its own.

    Whatever a test does with it, in the end every line it wrote is JSON without a traceback or a secret.
    """

    def __init__(
        self,
        fake_chutes: Upstream | None,
        *arguments: str,
        command: list[str] | None = None,
        folder: Path = ROOT,
        environ: dict[str, str] | None = None,
        **settings: str,
    ) -> None:
        self._command = [*(command or [GUNICORN, "wsgi:app"]), *arguments]
        self._folder = folder
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
            start_new_session=True,  # so that whatever is left in the end can be killed with it
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self.port = int(self.lines.wait(event="listening")[0]["address"].rpartition(":")[2])
            # A worker that is told to stop while it starts does not hear it, and is waited for.
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
        self.stop()
        if error is None:
            self.assert_clean()
        else:
            error.add_note("\n".join(["The proxy's last lines:", *self.lines.raw[-30:]]))

    # --- calls

    def infer(
        self, run: str, prompt: str = "hi", headers: dict[str, str] | None = None, **fields: object
    ) -> Answer:
        return self.ask("POST", INFERENCE, chat(run, prompt, **fields), headers)

    def embed(self, run: str, words: str = "hi") -> Answer:
        return self.ask("POST", EMBEDDING, text(run, words))

    def usage(self, run: str) -> Usage:
        found = self.ask("GET", f"/agents/usage?run_id={run}").json
        names = {"spent": "used", "budget": "max"}
        amounts = {
            field: round(found[f"{names.get(field, field)}_cost_usd"] * NANOUSD_PER_USD)
            for field in Usage._fields
            if field != "calls"
        }
        return Usage(**amounts, calls=found["calls"])

    def ready(self) -> Answer:
        return self.ask("GET", "/ready")

    def in_flight(self) -> int:
        number: int = self.ready().json["calls"]["in_flight"]
        return number

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        given = {
            "Authorization": f"Bearer {PROXY_KEY}",
            "Content-Type": "application/json",
            **(headers or {}),
        }
        data = None if body is None else json.dumps(body)
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)) as connection:
            connection.request(method, path, data, given)
            reply = connection.getresponse()
            return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())

    def connect(self, receive_bytes: int | None = None) -> Wire:
        """A raw connection."""
        return Wire(self.port, receive_bytes)

    def sending(self, body: dict[str, object], path: str = INFERENCE) -> Wire:
        """A raw connection with a whole request already sent."""
        wire = self.connect()
        wire.send(post(path, body))
        return wire

    # --- the process

    @property
    def pid(self) -> int:
        """The master's."""
        return self._process.pid

    def workers(self) -> list[int]:
        """The master's children, oldest first."""
        return sorted(kernel.children(self.pid))

    def upstream_connections(self, fake_chutes: Upstream) -> int:
        """How many connections to the fake Chutes the worker has open, idle ones in its pool included."""
        port = urlsplit(fake_chutes.url).port
        assert port is not None
        return sum(kernel.open_connections(pid, port) for pid in self.workers())

    def signal(self, number: Signals) -> None:
        self._process.send_signal(number)

    def stop(self, number: Signals = Signals.SIGTERM) -> int:
        """Stop it, which is no error if it has stopped already; its exit status."""
        self._process.send_signal(number)
        try:
            return self._process.wait(STOP_SECONDS)
        finally:
            self._kill_what_is_left()
            self._reader.join(PATIENCE_SECONDS)

    def assert_clean(self) -> None:
        """Every line is JSON, and none shows a traceback, a prompt, an answer or a key."""
        for line in self.lines.raw:
            assert json_or_none(line) is not None, line
            assert "Traceback" not in line
            assert not [secret for secret in SECRETS if secret in line]

    def _kill_what_is_left(self) -> None:
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
