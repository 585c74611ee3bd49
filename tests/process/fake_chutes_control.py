"""The fake Chutes as a process of a test."""

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
SPARE_SECONDS = 20  # the timeout of a control call, in addition to the time that it waits


def directive(**asked: object) -> str:
    """Return a directive for a prompt. The docstring of ridges_proxy.fake_chutes explains directives."""
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
        """The value for CHUTES_BASE_URL."""
        return f"{self.url}/v1"

    @property
    def embed_url(self) -> str:
        """The value for CHUTES_EMBEDDING_URL."""
        return f"{self.url}/embed"

    @property
    def pid(self) -> int:
        """The PID, for signals and measurements."""
        return self._process.pid

    def books(self) -> dict[str, Any]:
        """Return every call and all counters."""
        return self._ask("GET", "books")

    def calls(self) -> list[dict[str, Any]]:
        """Return the calls only."""
        calls: list[dict[str, Any]] = self.books()["calls"]
        return calls

    def bills(self) -> dict[str, int]:
        """Return the bill of each model in nano-USD. Embeddings are under `/embed`."""
        return self._ask("GET", "bills")

    def faults(self) -> dict[str, list[str]]:
        """Return the names of all faults by the kind of response: `stream`, `chat`, `embed`."""
        return self._ask("GET", "faults")

    def reset(self) -> None:
        """Forget the calls and the default directive, and release the calls that wait at gates."""
        self._ask("POST", "reset")

    def default(self, **asked: object) -> None:
        """Set the directive for requests without one. No arguments: good answers again."""
        self._ask("POST", "default", asked)

    def release(self, gate: str) -> None:
        """Open a gate until the next reset."""
        self._ask("POST", f"release?{urlencode({'gate': gate})}")

    def step(self, gate: str) -> None:
        """Let a call with this `step` send one more content event."""
        self._ask("POST", f"step?{urlencode({'gate': gate})}")

    def wait(self, *, timeout_seconds: float = WAIT_SECONDS, **conditions: int) -> dict[str, Any]:
        """Wait for at least so many in_flight, finished, client_gone or at_gate, or for idle=1.

        Raises TimeoutError if the condition is not met in time.
        """
        query = urlencode({**conditions, "timeout_seconds": timeout_seconds})
        return self._ask("GET", f"wait?{query}", seconds=timeout_seconds)

    def stop(self) -> int:
        """Stop the process, if it still runs. Return its exit code."""
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
