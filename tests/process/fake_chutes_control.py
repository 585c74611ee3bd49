"""the fake Chutes as a process that a test owns."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 10
WAIT_SECONDS = 10.0
SPARE_SECONDS = 20  # a control call's own timeout, above what it may have to wait


def directive(**asked: object) -> str:
    """Write a directive to put into a prompt; the reference is the docstring of ridges_proxy.fake_chutes."""
    return f"[[fake-chutes {json.dumps(asked)}]]"


class Upstream:
    """A context manager around `python -m ridges_proxy.fake_chutes` on a free port, and its control API."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._opener = build_opener(ProxyHandler({}))
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ridges_proxy.fake_chutes", *self._arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError("the fake Chutes did not start")
        self.url = line.split()[-1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def chat_url(self) -> str:
        """What CHUTES_BASE_URL is set to."""
        return f"{self.url}/v1"

    @property
    def embed_url(self) -> str:
        """What CHUTES_EMBEDDING_URL is set to."""
        return f"{self.url}/embed"

    @property
    def pid(self) -> int:
        """The process, for those who want to signal or measure it."""
        return self._process.pid

    def books(self) -> dict[str, Any]:
        """Every call and all counters."""
        return self._ask("GET", "books")

    def calls(self) -> list[dict[str, Any]]:
        """Only the rows of the books."""
        calls: list[dict[str, Any]] = self.books()["calls"]
        return calls

    def bills(self) -> dict[str, int]:
        """Nano-USD by model; embeddings' by `/embed`."""
        return self._ask("GET", "bills")

    def faults(self) -> dict[str, list[str]]:
        """The names of all faults, by what they can happen to: `stream`, `chat`, `embed`."""
        return self._ask("GET", "faults")

    def reset(self) -> None:
        """Forget calls and the default directive, let everybody through the gates."""
        self._ask("POST", "reset")

    def default(self, **asked: object) -> None:
        """Set the directive of requests that bring none; without arguments: good answers again."""
        self._ask("POST", "default", asked)

    def release(self, gate: str) -> None:
        """Open a gate, until the next reset."""
        self._ask("POST", f"release?{urlencode({'gate': gate})}")

    def step(self, gate: str) -> None:
        """Give one permit for one content event of a call with this `step`."""
        self._ask("POST", f"step?{urlencode({'gate': gate})}")

    def wait(self, *, timeout_seconds: float = WAIT_SECONDS, **conditions: int) -> dict[str, Any]:
        """Wait for in_flight, finished, client_gone, at_gate (at least), idle=1; TimeoutError if in vain."""
        query = urlencode({**conditions, "timeout_seconds": timeout_seconds})
        return self._ask("GET", f"wait?{query}", seconds=timeout_seconds)

    def stop(self) -> int:
        """Stop the process, which is no error if it has stopped already; its exit code."""
        self._process.terminate()
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def _ask(self, method: str, what: str, body: object = None, seconds: float = 0) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/fake-chutes/{what}", data=data, method=method)
        try:
            with self._opener.open(request, timeout=seconds + SPARE_SECONDS) as response:
                answer: dict[str, Any] = json.load(response)
        except HTTPError as error:
            with error:
                text = error.read().decode()
            failure = TimeoutError if error.code == 504 else ValueError
            raise failure(f"{what}: {text}") from error
        return answer
